package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

func (a *app) claimCmd() *cobra.Command {
	var lease string
	cmd := &cobra.Command{
		Use:   "claim DATASET[/NUMBER]",
		Short: "Take the next shard that nobody works on, for some time",
		Long: `Takes the next shard of the dataset's newest version that is not assigned, not
claimed, and on which no work is waiting or accepted; with a number, that one.
While it lasts, a claim counts as an assignment. It ends by itself after --for,
when you give it back, or when your work on it is accepted. The project has to
be open to claims.`,
		Example: `  dsvault claim acme/signs/batch-1
  dsvault claim acme/signs/batch-1/7 --for 2h`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, number, err := shardOrDataset(args[0])
			if err != nil {
				return err
			}
			seconds, err := parseLease(lease)
			if err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			got, err := s.Claim(cmd.Context(), scope, wire.NewClaim{Shard: number, Seconds: seconds})
			if err != nil {
				return err
			}
			return a.claimed("claimed", got)
		},
	}
	leaseFlag(cmd, &lease)
	cmd.AddCommand(a.claimRenewCmd(), a.claimReleaseCmd())
	return cmd
}

func leaseFlag(cmd *cobra.Command, lease *string) {
	cmd.Flags().StringVar(lease, "for", "4h", "how long, from now: 30m, 4h, 2d; a minute to seven days")
}

// parseLease gives the seconds of a lease.
func parseLease(s string) (int, error) {
	end, ok := shift(time.Unix(0, 0).UTC(), s, +1)
	if !ok || end.Unix() < wire.MinLease || end.Unix() > wire.MaxLease {
		return 0, usage("bad --for "+clip(clean(s)), "give a span from a minute to seven days, such as 4h")
	}
	return int(end.Unix()), nil
}

func (a *app) claimed(what string, c wire.Claim) error {
	ref := dataset.ShardRef{Dataset: c.Dataset, Number: c.Shard}
	return a.result(c, "%s %s until %s", what, ref, timeText(c.Until))
}

func (a *app) claimRenewCmd() *cobra.Command {
	var lease string
	cmd := &cobra.Command{
		Use:     "renew DATASET/NUMBER",
		Short:   "Let a claim last so long from now",
		Example: "  dsvault claim renew acme/signs/batch-1/7 --for 2h",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := dataset.ParseShardRef(args[0])
			if err != nil {
				return err
			}
			seconds, err := parseLease(lease)
			if err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			got, err := s.RenewClaim(cmd.Context(), ref, seconds)
			if err != nil {
				return err
			}
			return a.claimed("renewed the claim of", got)
		},
	}
	leaseFlag(cmd, &lease)
	return cmd
}

func (a *app) claimReleaseCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "release DATASET/NUMBER",
		Short:   "Give a claimed shard back",
		Example: "  dsvault claim release acme/signs/batch-1/7",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := dataset.ParseShardRef(args[0])
			if err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			out, err := s.ReleaseClaim(cmd.Context(), ref)
			if err != nil {
				return err
			}
			return a.result(out, "gave %s back", ref)
		},
	}
}

// shardOrDataset reads DATASET or DATASET/NUMBER.
func shardOrDataset(s string) (dataset.Scope, *int, error) {
	if ref, err := dataset.ParseShardRef(s); err == nil {
		return ref.Dataset, &ref.Number, nil
	}
	scope, err := datasetArg(s)
	return scope, nil, err
}

func (a *app) submitCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "submit DATASET/NUMBER FILE...",
		Short: "Return work on a shard, sealed on this machine",
		Long: `Returns files and folders as your work on a shard that is assigned to you or that
you have claimed. They are sealed to the dataset's key before they leave this
machine: at most 1 GiB and 10,000 files. A reviewer accepts the work or sends it
back; submitting again replaces what you returned before, which stays on record.`,
		Example: "  dsvault submit acme/signs/batch-1/7 labels.json masks/",
		Args:    args(2, 1001),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := dataset.ParseShardRef(args[0])
			if err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			bar := a.progress("submit")
			w, err := s.Submit(cmd.Context(), ref, args[1:], bar)
			bar.finish()
			if err != nil {
				return err
			}
			return a.result(w, "submitted work on %s: %s, %s", ref, size(w.Size), w.ID)
		},
	}
}

func (a *app) workCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "work [SCOPE]",
		Short: "Show where the work on shards stands",
		Long: `Shows each shard of the newest versions at a scope and below: free, claimed,
assigned, submitted, accepted or sent-back, since when, and by whom. A shard that
several people have is several rows. Annotators see their own.`,
		Example: "  dsvault work acme/signs\n  dsvault work acme/signs/batch-1 --json",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.within(args, func(s *session, scope dataset.Scope) error {
				header := []string{"SHARD", "STATE", "PERSON", "SINCE", "BY", "UNTIL"}
				return list(a, s.Work(cmd.Context(), scope), header, func(w wire.ShardWork) []string {
					since := ""
					if w.Since != nil {
						since = timeText(*w.Since)
					}
					ref := dataset.ShardRef{Dataset: w.Dataset, Number: w.Shard}
					return []string{ref.String(), w.State, w.Person, since, w.By, untilText(w.Until)}
				})
			})
		},
	}
	cmd.AddCommand(a.judgeCmd(true), a.judgeCmd(false))
	return cmd
}

// judgeCmd is `work accept` or `work send-back`.
func (a *app) judgeCmd(accept bool) *cobra.Command {
	var author string
	req := wire.Judgement{Accept: accept}
	cmd := &cobra.Command{
		Use:     "send-back DATASET/NUMBER",
		Short:   "Send submitted work back to its author",
		Example: `  dsvault work send-back acme/signs/batch-1/7 --reason "two signs are missing"`,
		Args:    args(1, 1),
	}
	if accept {
		cmd.Use, cmd.Short, cmd.Example = "accept DATASET/NUMBER", "Accept submitted work", "  dsvault work accept acme/signs/batch-1/7"
	}
	cmd.Flags().StringVar(&author, "author", "", "whose work, where several people have submitted some")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; its author is shown it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !accept && req.Reason == "" {
			return usage("nobody can mend what they are not told", "say why it is sent back: --reason")
		}
		ref, err := dataset.ParseShardRef(args[0])
		if err != nil {
			return err
		}
		s, err := a.connect()
		if err != nil {
			return err
		}
		w, err := submitted(cmd.Context(), s, ref, author)
		if err != nil {
			return err
		}
		if w, err = s.JudgeWork(cmd.Context(), ref.Dataset, w.ID, req); err != nil {
			return err
		}
		if accept {
			return a.result(w, "accepted the work of %s on %s", w.Author, ref)
		}
		return a.result(w, "sent the work on %s back to %s", ref, w.Author)
	}
	return cmd
}

// submitted finds the work on a shard that waits for a reviewer.
func submitted(ctx context.Context, s *session, ref dataset.ShardRef, author string) (wire.Work, error) {
	const op = "dsvault.work"
	var found []wire.Work
	for w, err := range s.Results(ctx, ref.Dataset, client.ResultFilter{Shard: &ref.Number, State: "submitted", Latest: true}) {
		if err != nil {
			return wire.Work{}, err
		}
		if author == "" || w.Author == author {
			found = append(found, w)
		}
	}
	switch len(found) {
	case 0:
		return wire.Work{}, fault.New(fault.Conflict, op, "no work on "+ref.String()+" waits for a reviewer").
			WithHint("`dsvault results ls " + ref.String() + "` shows what there is")
	case 1:
		return found[0], nil
	}
	return wire.Work{}, fault.New(fault.Conflict, op, fmt.Sprintf("%d people have submitted work on %s", len(found), ref)).
		WithHint("say whose is meant: --author")
}

func (a *app) resultsCmd() *cobra.Command {
	return group("results", "Look at and fetch the work that annotators have returned", a.resultsLsCmd(), a.resultsPullCmd())
}

func resultFilter(f client.ResultFilter, arg string) (dataset.Scope, client.ResultFilter, error) {
	scope, number, err := shardOrDataset(arg)
	f.Shard = number
	return scope, f, err
}

func (a *app) resultsLsCmd() *cobra.Command {
	var f client.ResultFilter
	var everything bool
	cmd := &cobra.Command{
		Use:     "ls DATASET[/NUMBER]",
		Short:   "List returned work",
		Example: "  dsvault results ls acme/signs/batch-1\n  dsvault results ls acme/signs/batch-1/7 --all",
		Args:    args(1, 1),
	}
	cmd.Flags().StringVar(&f.State, "state", "", "only submitted, accepted or sent-back")
	cmd.Flags().BoolVar(&everything, "all", false, "also what was replaced by a later return of the same person")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		scope, f, err := resultFilter(f, args[0])
		if err != nil {
			return err
		}
		f.Latest = !everything
		s, err := a.connect()
		if err != nil {
			return err
		}
		header := []string{"SHARD", "STATE", "AUTHOR", "SUBMITTED", "SIZE", "BY", "REASON", "ID"}
		return list(a, s.Results(cmd.Context(), scope, f), header, func(w wire.Work) []string {
			return []string{fmt.Sprint(w.Shard), w.State, w.Author, timeText(w.Submitted), size(w.Size), w.By, w.Reason, w.ID.String()}
		})
	}
	return cmd
}

func (a *app) resultsPullCmd() *cobra.Command {
	opts := client.PullResultsOptions{}
	state := "accepted"
	cmd := &cobra.Command{
		Use:   "pull DATASET[/NUMBER]",
		Short: "Fetch returned work, checked and unpacked",
		Long: `Fetches the accepted work on a dataset, or what is in another state, sealed to
this machine's device key. It is opened here and checked against its manifest. The
work on shard 7 goes into the folder 0007. Every return fetched is a read in the
log, before its first byte; the receipts are kept as ` + "`dsvault pull`" + ` keeps them.`,
		Example: `  dsvault results pull acme/signs/batch-1 -o results
  dsvault results pull acme/signs/batch-1/7 --state submitted`,
		Args: args(1, 1),
	}
	f := cmd.Flags()
	f.StringVarP(&opts.Dir, "output", "o", ".", "folder to put the files in")
	f.StringVar(&state, "state", state, "accepted, submitted or sent-back; all for each")
	f.BoolVar(&opts.Overwrite, "overwrite", false, "replace files that differ")
	f.StringVar(&opts.Purpose, "purpose", "", "what the data is for, where a project has several purposes")
	f.StringVar(&opts.Receipts, "receipts", "", `folder to keep the log's receipts in; none keeps none (default: beside the output folder, with ".receipts" to its name)`)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if state != "all" {
			opts.Filter.State = state
		}
		scope, filter, err := resultFilter(opts.Filter, args[0])
		if err != nil {
			return err
		}
		opts.Filter = filter
		s, err := a.connect()
		if err != nil {
			return err
		}
		opts.Pin = s.login.Pin()
		bar := a.progress("results")
		opts.Progress = bar
		out, err := s.PullResults(cmd.Context(), scope, opts)
		bar.finish()
		if err != nil {
			return err
		}
		return a.result(out, "pulled the work on %s of %s: %s, %s in %s", plural(len(out.Results), "shard", "shards"), scope,
			plural(out.Files, "file", "files"), size(out.Bytes), out.Dir)
	}
	return cmd
}
