package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
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

func (a *app) lsCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "ls [SCOPE]",
		Short:   "List the clients, projects and datasets that you may see",
		Example: "  dsvault ls\n  dsvault ls acme/signs",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := scopeArg(args)
			if err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			header := []string{"SCOPE", "KIND", "STATE", "SHARDS", "SIZE", "YOURS", "CREATED"}
			return list(a, s.List(cmd.Context(), scope), header, func(e wire.Entry) []string {
				row := []string{e.Scope.String(), e.Kind, "", "", "", e.Assigned, timeText(e.Created)}
				if e.Kind == "dataset" {
					state := string(e.State)
					if !e.Complete {
						state += ", incomplete"
					}
					row[2], row[3], row[4] = state, strconv.Itoa(e.Shards), size(e.Size)
				}
				return row
			})
		},
	}
}
