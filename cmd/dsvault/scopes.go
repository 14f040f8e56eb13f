package main

import (
	"github.com/spf13/cobra"

	"dsvault/vault/dataset"
)

func (a *app) clientCmd() *cobra.Command {
	create := &cobra.Command{
		Use:     "create CLIENT",
		Short:   "Create a client, an organisation that owns data",
		Example: "  dsvault client create acme",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := dataset.ParseScope(args[0])
			if err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			entry, err := s.CreateClient(cmd.Context(), scope)
			if err != nil {
				return err
			}
			return a.result(entry, "created the client %s", entry.Scope)
		},
	}
	return group("client", "Create clients", create)
}
