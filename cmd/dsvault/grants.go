package main

import (
	"strings"

	"github.com/spf13/cobra"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func (a *app) grantCmd() *cobra.Command {
	var until, reason string
	cmd := &cobra.Command{
		Use:   "grant ROLE PERSON SCOPE",
		Short: "Give a role at a scope and below",
		Long: `Gives a role at a scope and below it. Roles: ` + roleNames() + `.
A contractor's grant must have an end. The scope of the whole vault is /.`,
		Example: `  dsvault grant labeler alice acme/signs
  dsvault grant contractor carl acme/signs --until 30d --reason "ticket 1234"
  dsvault grant auditor erin /`,
		Args: args(3, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			role, scope, err := roleAndScope(args)
			if err != nil {
				return err
			}
			end, err := parseUntil(until, now())
			if err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			g, err := s.Grant(cmd.Context(), wire.Grant{Role: role, Person: args[1], Scope: scope, Until: end, Reason: reason})
			if err != nil {
				return err
			}
			if g.Pending != nil {
				return a.pending(g, g.Pending)
			}
			return a.result(g, "%s is now %s at %s%s", g.Person, string(g.Role), g.Scope, forUntil(g.Until))
		},
	}
	cmd.Flags().StringVar(&until, "until", "", "end: 30d, 12h, 1y, a date, an RFC 3339 time")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log")
	return cmd
}

func roleNames() string {
	names := make([]string, len(dataset.Roles))
	for i, r := range dataset.Roles {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

func roleAndScope(args []string) (dataset.Role, dataset.Scope, error) {
	role, err := dataset.ParseRole(args[0])
	if err != nil {
		return "", dataset.Scope{}, err
	}
	scope, err := dataset.ParseScope(args[2])
	return role, scope, err
}

func (a *app) revokeCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ROLE PERSON SCOPE",
		Short:   "Take a role back; reads that rest on it end at once",
		Example: `  dsvault revoke labeler alice acme/signs`,
		Args:    args(3, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			role, scope, err := roleAndScope(args)
			if err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			ended, err := s.Revoke(cmd.Context(), role, args[1], scope)
			if err != nil {
				return err
			}
			return a.result(ended, "%s is no longer %s at %s (%s ended)", args[1], string(role), scope, plural(ended.Ended, "grant", "grants"))
		},
	}
}

func (a *app) rolesCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "roles [SCOPE]",
		Short:   "List who has which role at a scope and below",
		Example: "  dsvault roles\n  dsvault roles acme",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.within(args, func(s *session, scope dataset.Scope) error {
				header := []string{"SCOPE", "ROLE", "PERSON", "UNTIL", "BY", "REASON"}
				return list(a, s.Grants(cmd.Context(), scope), header, func(g wire.Grant) []string {
					return []string{g.Scope.String(), string(g.Role), g.Person, untilText(g.Until), g.By, g.Reason}
				})
			})
		},
	}
}

func (a *app) assignCmd() *cobra.Command {
	var until, shards string
	var version int
	cmd := &cobra.Command{
		Use:   "assign DATASET PERSON",
		Short: "Assign shards of a dataset to a person",
		Long: `Assigns the shards that --shards names, of whichever version, or else all shards
of the newest version. An assignment stays on these shards when the dataset gets
another version.`,
		Example: `  dsvault assign acme/signs/batch-1 alice --shards 0-3,7
  dsvault assign acme/signs/batch-1 alice --shards 4 --until 14d`,
		Args: args(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := datasetArg(args[0])
			if err != nil {
				return err
			}
			var set dataset.ShardSet
			if cmd.Flags().Changed("shards") {
				if set, err = dataset.ParseShardSet(shards); err != nil {
					return err
				}
			}
			if err := checkVersion(version); err != nil {
				return err
			}
			end, err := parseUntil(until, now())
			if err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			if set == nil {
				v, err := s.Version(cmd.Context(), scope, version)
				if err != nil {
					return err
				}
				set = v.Shards.Set()
			}
			got, err := s.Assign(cmd.Context(), wire.Assignment{Dataset: scope, Person: args[1], Shards: set, Until: end})
			if err != nil {
				return err
			}
			if got.Pending != nil {
				return a.pending(got, got.Pending)
			}
			return a.result(got, "assigned %s of %s to %s%s", "shards "+got.Shards.String(), got.Dataset, got.Person, forUntil(got.Until))
		},
	}
	cmd.Flags().StringVar(&shards, "shards", "", "shard numbers, for example 0-3,7; all of a version if left out")
	cmd.Flags().IntVar(&version, "version", 0, "all shards of this version; the newest if left out")
	cmd.Flags().StringVar(&until, "until", "", "end: 14d, 12h, a date, an RFC 3339 time")
	cmd.MarkFlagsMutuallyExclusive("shards", "version")
	return cmd
}

func (a *app) unassignCmd() *cobra.Command {
	var shards string
	cmd := &cobra.Command{
		Use:     "unassign DATASET PERSON",
		Short:   "Take assigned shards back; without --shards, all of them",
		Example: "  dsvault unassign acme/signs/batch-1 alice --shards 2",
		Args:    args(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := datasetArg(args[0])
			if err != nil {
				return err
			}
			var set dataset.ShardSet
			if shards != "" {
				if set, err = dataset.ParseShardSet(shards); err != nil {
					return err
				}
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			ended, err := s.Unassign(cmd.Context(), scope, args[1], set)
			if err != nil {
				return err
			}
			return a.result(ended, "%s of %s ended for %s", plural(ended.Ended, "assignment", "assignments"), scope, args[1])
		},
	}
	cmd.Flags().StringVar(&shards, "shards", "", "shard numbers, for example 0-3,7")
	return cmd
}

func (a *app) assignmentsCmd() *cobra.Command {
	var person string
	cmd := &cobra.Command{
		Use:     "assignments [SCOPE]",
		Short:   "List assignments: your own, and those of others that you may see",
		Example: "  dsvault assignments\n  dsvault assignments acme/signs --person alice",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.within(args, func(s *session, scope dataset.Scope) error {
				header := []string{"DATASET", "PERSON", "SHARDS", "UNTIL", "BY"}
				return list(a, s.Assignments(cmd.Context(), scope, person), header, func(g wire.Assignment) []string {
					by := g.By
					if g.Claim {
						by = "a claim"
					}
					return []string{g.Dataset.String(), g.Person, g.Shards.String(), untilText(g.Until), by}
				})
			})
		},
	}
	cmd.Flags().StringVar(&person, "person", "", "only this person's; me for your own")
	return cmd
}
