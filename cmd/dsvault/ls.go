package main

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func (a *app) lsCmd() *cobra.Command {
	var purpose string
	cmd := &cobra.Command{
		Use:   "ls [SCOPE]",
		Short: "List clients, projects and datasets, a dataset's versions, or the files in a shard",
		Long: `Lists the clients, projects and datasets that you may see. Of a dataset it also
lists the versions, with the shards of each: their numbers, in the order of what
was pushed. Of a shard it lists the files in it, for those who may read the shard;
that is a read in the log.`,
		Example: "  dsvault ls\n  dsvault ls acme/signs\n  dsvault ls acme/signs/batch-1\n  dsvault ls acme/signs/batch-1/3",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && strings.Count(args[0], "/") == 3 {
				return a.lsShard(cmd.Context(), args[0], purpose)
			}
			return a.within(args, func(s *session, scope dataset.Scope) error {
				if scope.Depth() == 3 {
					return a.lsDataset(cmd.Context(), s.Client, scope)
				}
				return a.lsScopes(s.List(cmd.Context(), scope))
			})
		},
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", "what the files of a shard are for, where a project has several purposes")
	return cmd
}

// lsShard prints the files in a shard.
func (a *app) lsShard(ctx context.Context, name, purpose string) error {
	ref, err := dataset.ParseShardRef(name)
	if err != nil {
		return err
	}
	s, err := a.connect()
	if err != nil {
		return err
	}
	x, err := s.Index(ctx, ref, purpose)
	if err != nil {
		return err
	}
	members := func(yield func(dataset.Member, error) bool) {
		for _, m := range x.Members {
			if !yield(m, nil) {
				return
			}
		}
	}
	return list(a, members, []string{"NAME", "SIZE", "TYPE"}, func(m dataset.Member) []string {
		return []string{m.Name, size(m.Size), m.Type}
	})
}

func (a *app) catCmd() *cobra.Command {
	var purpose string
	cmd := &cobra.Command{
		Use:   "cat DATASET/NUMBER NAME",
		Short: "Write one file of a shard to the standard output",
		Long: `Fetches one file out of a shard, without the rest of it, sealed to this machine's
device key. It is opened here and checked against the list of the shard's files.
The list and the file are two reads in the log.

The last bytes are written only once the whole file was checked. If it is not what
the list says the exit status is 7, and what was written is to be thrown away.`,
		Example: `  dsvault ls acme/signs/batch-1/3
  dsvault cat acme/signs/batch-1/3 images/0001.jpg >0001.jpg`,
		Args: args(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := dataset.ParseShardRef(args[0])
			if err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			_, err = s.Cat(cmd.Context(), ref, args[1], purpose, a.out)
			return err
		},
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", "what the data is for, where a project has several purposes")
	return cmd
}

func (a *app) lsScopes(entries iter.Seq2[wire.Entry, error]) error {
	header := []string{"SCOPE", "KIND", "STATE", "VERSION", "SHARDS", "SIZE", "YOURS", "CREATED", "EXPIRES"}
	return list(a, entries, header, func(e wire.Entry) []string {
		row := []string{e.Scope.String(), e.Kind, "", "", "", "", e.Assigned, timeText(e.Created), expiryText(e, now())}
		if e.Kind == "dataset" {
			row[2], row[4], row[5] = string(e.State), strconv.Itoa(e.Shards), size(e.Size)
			if e.Complete {
				row[3] = strconv.Itoa(e.Version)
			} else {
				row[2] += ", incomplete"
			}
		}
		if e.BreakGlass != nil {
			row[2] = strings.TrimPrefix(row[2]+", glass broken"+forUntil(e.BreakGlass), ", ")
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
