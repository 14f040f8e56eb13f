package main

import (
	"strings"

	"github.com/spf13/cobra"

	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

func (a *app) clientExportCmd() *cobra.Command {
	opts := client.ClientExportOptions{}
	cmd := &cobra.Command{
		Use:   "export CLIENT",
		Short: "Take all of a client's data out: datasets, manifests and the log, sealed to this device",
		Long: `Writes into a folder, for every dataset of the client, every shard of every
version, sealed to this machine's device key with its manifest; the lists of the
versions; and the client's part of the log with all proofs. "age -d -i device.key"
opens a shard, "dsvault verify" the log. docs/rights.md describes the files.

Each dataset's export and each read of a shard is decided on and is in the log
before its first byte. Run the same command again after an interruption: what is
there is not read again. The export is whole once the folder has export.json. A
dataset that may not be taken out is named there with the reasons, and the command
ends with 4; where it takes two people, the approval is asked for, and the same
command brings the dataset once it is given.`,
		Example: "  dsvault client export acme --out acme-export",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := dataset.ParseScope(args[0])
			if err != nil {
				return err
			}
			if opts.Dir == "" {
				return usage("where to?", "name a folder with --out")
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			bar := a.progress("export")
			opts.Progress, opts.Pin = bar, s.login.Pin()
			out, err := s.ExportClient(cmd.Context(), scope, opts)
			bar.finish()
			if err != nil {
				return err
			}
			if err := a.result(out, "exported %s to %s: %s, of which %s came now, %s; %s of the log", scope, opts.Dir,
				plural(len(out.Datasets), "dataset", "datasets"), plural(out.Fetched, "item", "items"), size(out.Bytes),
				plural(int(out.Log.Records), "record", "records")); err != nil {
				return err
			}
			return notExported(out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Dir, "out", "", "folder to write into")
	f.IntVar(&opts.Parallel, "parallel", 2, "shards at a time")
	return cmd
}

// notExported is an error if something was refused.
func notExported(out client.ClientExport) error {
	if len(out.Refused) == 0 {
		return nil
	}
	err := fault.New(fault.Forbidden, "dsvault.export", plural(len(out.Refused), "dataset was", "datasets were")+" not given out").
		WithHint("see `dsvault can me create export:DATASET`; export again once it is allowed")
	for _, r := range out.Refused {
		err.Reasons = append(err.Reasons, r.Dataset.String()+": "+strings.Join(r.Why, "; "))
	}
	return err
}
