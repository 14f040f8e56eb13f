package main

import (
	"github.com/spf13/cobra"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func (a *app) clientCmd() *cobra.Command {
	var c conditionFlags
	create := &cobra.Command{
		Use:     "create CLIENT",
		Short:   "Create a client, an organisation that owns data",
		Example: "  dsvault client create acme\n  dsvault client create acme --requires nda",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := dataset.ParseScope(args[0])
			if err != nil {
				return err
			}
			req := wire.NewClient{Scope: scope}
			if req.Conditions, _, err = c.changed(cmd.Flags()); err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			entry, err := s.CreateClient(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.result(entry, "created the client %s", entry.Scope)
		},
	}
	c.flags(create.Flags())
	return group("client", "Create clients, and take all of their data out", create, a.clientExportCmd())
}
