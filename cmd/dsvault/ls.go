package main

import (
	"context"
	"fmt"
	"iter"
	"strconv"

	"github.com/spf13/cobra"

	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func (a *app) lsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "ls [SCOPE]",
		Short: "List the clients, projects and datasets that you may see, or a dataset's versions",
		Long: `Lists the clients, projects and datasets that you may see. Of a dataset it also
lists the versions, with the shards of each: their numbers, in the order of what
was pushed.`,
		Example: "  dsvault ls\n  dsvault ls acme/signs\n  dsvault ls acme/signs/batch-1",
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
			if scope.Depth() == 3 {
				return a.lsDataset(cmd.Context(), s.Client, scope)
			}
			return a.lsScopes(s.List(cmd.Context(), scope))
		},
	}
}

func (a *app) lsScopes(entries iter.Seq2[wire.Entry, error]) error {
	header := []string{"SCOPE", "KIND", "STATE", "VERSION", "SHARDS", "SIZE", "YOURS", "CREATED"}
	return list(a, entries, header, func(e wire.Entry) []string {
		row := []string{e.Scope.String(), e.Kind, "", "", "", "", e.Assigned, timeText(e.Created)}
		if e.Kind == "dataset" {
			row[2], row[4], row[5] = string(e.State), strconv.Itoa(e.Shards), size(e.Size)
			if e.Complete {
				row[3] = strconv.Itoa(e.Version)
			} else {
				row[2] += ", incomplete"
			}
		}
		return row
	})
}

// datasetEntry is a dataset with its versions.
type datasetEntry struct {
	wire.Entry
	Versions []wire.Version `json:"versions"`
}

// lsDataset prints a dataset, as lsScopes does, and below it its versions.
func (a *app) lsDataset(ctx context.Context, c *client.Client, scope dataset.Scope) error {
	out := datasetEntry{Versions: []wire.Version{}}
	for e, err := range c.List(ctx, scope) {
		if err != nil {
			return err
		}
		out.Entry = e
	}
	for v, err := range c.Versions(ctx, scope) {
		if err != nil {
			return err
		}
		out.Versions = append(out.Versions, v)
	}
	if a.json {
		return writeJSON(a.out, out)
	}
	one := func(yield func(wire.Entry, error) bool) { yield(out.Entry, nil) }
	if err := a.lsScopes(one); err != nil || len(out.Versions) == 0 {
		return err
	}
	fmt.Fprintln(a.out)
	t := newTable(a.out, "VERSION", "SHARDS", "SIZE", "NUMBERS", "COMPLETED", "BY")
	for _, v := range out.Versions {
		t.row(strconv.Itoa(v.Version), strconv.Itoa(v.Count), size(v.Size), v.Shards.String(), timeText(v.Completed), v.By)
	}
	return t.flush()
}
