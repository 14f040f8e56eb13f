package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) transfersCmd() *cobra.Command {
	var since, until string
	cmd := &cobra.Command{
		Use:   "transfers [SCOPE]",
		Short: "Report reads by the data's region, the reader's, and the transfer basis",
		Long: `Counts the reads at a scope and below it by month, dataset, the region that the
data is kept to, the region that was declared for the reader, and the basis: none
needed, adequacy, or standard contractual clauses (scc). It is for those who may
read the log there. A month is counted in UTC.`,
		Example: `  dsvault transfers acme
  dsvault transfers --since 2026-01-01 --until 2026-12-31 --json`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := scopeArg(args)
			if err != nil {
				return err
			}
			end := now().UTC().Truncate(time.Second).Add(time.Second)
			from, err := parseSince(since, end)
			if err != nil {
				return err
			}
			if until != "" {
				if end, err = parseBefore(until, end); err != nil {
					return err
				}
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			out, err := s.Transfers(cmd.Context(), scope, from, end)
			if err != nil {
				return err
			}
			if a.json {
				return writeJSON(a.out, out)
			}
			t := newTable(a.out, "MONTH", "DATASET", "REGION", "READER", "BASIS", "READS", "SENT")
			for _, row := range out.Items {
				sent := size(int64(row.Bytes))
				if row.AtMost > 0 {
					sent += " and up to " + size(int64(row.AtMost))
				}
				t.row(row.Period, row.Dataset, row.Region, row.Reader, string(row.Basis), strconv.Itoa(row.Reads), sent)
			}
			if err := t.flush(); err != nil || out.LeftOff == 0 {
				return err
			}
			_, err = fmt.Fprintf(a.out, "%s are left out; ask for a shorter time\n", plural(out.LeftOff, "read", "reads"))
			return err
		},
	}
	cmd.Flags().StringVar(&since, "since", "30d", "from when on: 90d, a date, an RFC 3339 time")
	cmd.Flags().StringVar(&until, "until", "", "until when: 7d ago, a date, an RFC 3339 time; now if left out")
	return cmd
}
