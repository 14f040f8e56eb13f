package main

import (
	"strconv"
	"strings"

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

func (a *app) projectCmd() *cobra.Command {
	var p wire.NewProject
	create := &cobra.Command{
		Use:   "create CLIENT/PROJECT",
		Short: "Create a project, one engagement of a client",
		Example: `  dsvault project create acme/signs --purpose labeling
  dsvault project create acme/faces --purpose labeling --purpose review --region eu --sensitive --agreement nda`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if p.Scope, err = dataset.ParseScope(args[0]); err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			entry, err := s.CreateProject(cmd.Context(), p)
			if err != nil {
				return err
			}
			return a.result(entry, "created the project %s for %s", entry.Scope, strings.Join(entry.Purposes, ", "))
		},
	}
	f := create.Flags()
	f.StringSliceVar(&p.Purposes, "purpose", nil, "what the data may be used for; can be given several times")
	f.StringVar(&p.Region, "region", "", "only people of this region may read")
	f.BoolVar(&p.Sensitive, "sensitive", false, "reads need a second person's approval")
	f.StringVar(&p.Agreement, "agreement", "", "the agreement that readers have to sign")
	f.StringVar(&p.Contract, "contract", "", "reference of the contract")
	create.MarkFlagRequired("purpose")
	return group("project", "Create projects", create)
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
