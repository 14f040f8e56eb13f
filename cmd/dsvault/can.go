package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"dsvault/vault/dataset"
)

func (a *app) canCmd() *cobra.Command {
	var purpose, delivery, from string
	cmd := &cobra.Command{
		Use:   "can PERSON ACTION OBJECT",
		Short: "Explain whether a person may do something, and why not",
		Long: `Says whether a person may do an action, by which rule, or every reason why not.
OBJECT is a scope, a shard (DATASET/NUMBER), or KIND:SCOPE. Exit status 0 means
allowed, 1 refused. Nothing is done.`,
		Example: `  dsvault can alice read acme/signs/batch-1/3
  dsvault can carl read shard:acme/signs/batch-1/0
  dsvault can me upload acme/signs/batch-2`,
		Args: args(3, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			d, err := s.CanFrom(cmd.Context(), from, args[0], args[1], args[2], purpose, dataset.Delivery(delivery))
			if err != nil {
				return err
			}
			switch {
			case a.json:
				err = writeJSON(a.out, d)
			case d.Allowed:
				_, err = fmt.Fprintf(a.out, "allowed by rule %s\n", clean(d.Rule))
			default:
				fmt.Fprintln(a.out, "refused")
				for _, reason := range d.Reasons {
					if _, err = fmt.Fprintf(a.out, "  %s\n", clean(reason)); err != nil {
						break
					}
				}
				if err == nil && d.Hint != "" {
					_, err = fmt.Fprintf(a.out, "Try: %s\n", clean(d.Hint))
				}
			}
			if err == nil && !d.Allowed {
				return refusedError{}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", "what the data would be for")
	cmd.Flags().StringVar(&from, "from", "", "address that the person would ask from, where contractors read only from some networks")
	cmd.Flags().StringVar(&delivery, "delivery", "", "how the data would leave: sealed (the default), opened or direct")
	return cmd
}
