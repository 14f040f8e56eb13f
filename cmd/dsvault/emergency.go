package main

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func (a *app) breakGlassCmd() *cobra.Command {
	var req wire.NewBreakGlass
	var span string
	cmd := &cobra.Command{
		Use:   "break-glass SCOPE",
		Short: "Read in an emergency, as an admin, without a second person; another admin reviews it",
		Long: `Lets you, an admin, read below a client, a project or a dataset for a short time,
without an assignment and without a second person. Everything else has to be in
order: agreement, region, purpose, state. It is in the log for the client to see,
in ` + "`whoami`, `ls` and `break-glass list`" + `, and in the server's log and metrics; it ends
by itself; and another admin has to review it.`,
		Example: `  dsvault break-glass acme/faces/batch-1 --reason "client reports corrupt labels, incident 12" --for 1h
  dsvault pull acme/faces/batch-1 --shard 3
  dsvault break-glass list
  dsvault break-glass review bgl_aebagbafaydqqcikbmga2dqpca --verdict justified`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Scope, err = dataset.ParseScope(args[0]); err != nil {
				return err
			}
			if req.Seconds, err = parseFor(span, wire.MaxBreakGlassLife); err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			b, err := s.BreakGlass(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.result(b, "you may read at %s until %s; another admin has to review it: dsvault break-glass review %s", b.Scope, timeText(b.Until), b.ID)
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why: it is shown to who may read the log")
	cmd.Flags().StringVar(&span, "for", "1h", "how long, at most 4h")
	cmd.AddCommand(a.breakGlassListCmd(), a.breakGlassShowCmd(), a.breakGlassEndCmd(), a.breakGlassReviewCmd())
	return cmd
}

func (a *app) breakGlassListCmd() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "list [SCOPE]",
		Short:   "List the emergencies that nobody has reviewed yet",
		Example: "  dsvault break-glass list\n  dsvault break-glass list acme --all",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.within(args, func(s *session, scope dataset.Scope) error {
				header := []string{"ID", "PERSON", "SCOPE", "FROM", "UNTIL", "REASON", "REVIEW", "BY"}
				return list(a, s.BreakGlasses(cmd.Context(), scope, !all), header, func(b wire.BreakGlass) []string {
					return []string{b.ID.String(), b.Person, b.Scope.String(), timeText(b.At), glassEnd(b), b.Reason, reviewText(b), b.Reviewer}
				})
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also those that were reviewed")
	return cmd
}

func glassEnd(b wire.BreakGlass) string {
	if b.InForce {
		return timeText(b.Until) + ", in force"
	}
	return timeText(b.Until)
}

func reviewText(b wire.BreakGlass) string {
	if b.Reviewed == nil {
		return "open"
	}
	return b.Verdict
}

func (a *app) breakGlassShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show one emergency, and how many reads were made in it",
		Example: "  dsvault break-glass show bgl_aebagbafaydqqcikbmga2dqpca",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return about(a, args[0], func(s *session, id dataset.BreakGlassID) error {
				b, err := s.OneBreakGlass(cmd.Context(), id)
				if err != nil {
					return err
				}
				if a.json {
					return writeJSON(a.out, b)
				}
				t := newTable(a.out, "EMERGENCY", b.ID.String())
				t.row("person", b.Person)
				t.row("scope", b.Scope.String())
				t.row("reason", b.Reason)
				t.row("from", timeText(b.At))
				t.row("until", glassEnd(b))
				if b.Reads != nil {
					t.row("reads", strconv.Itoa(*b.Reads)+"; see: dsvault log "+b.Scope.String()+" --kind read --actor "+b.Person+" --since "+b.At.UTC().Format(time.RFC3339))
				}
				t.row("review", reviewText(b)+bracketed(b.Reviewer))
				if b.Comment != "" {
					t.row("comment", b.Comment)
				}
				return t.flush()
			})
		},
	}
}

func bracketed(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func (a *app) breakGlassEndCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "end ID",
		Short:   "End an emergency before its time",
		Example: "  dsvault break-glass end bgl_aebagbafaydqqcikbmga2dqpca",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return about(a, args[0], func(s *session, id dataset.BreakGlassID) error {
				b, err := s.EndBreakGlass(cmd.Context(), id)
				if err != nil {
					return err
				}
				return a.result(b, "ended; it is still to be reviewed: dsvault break-glass review %s", b.ID)
			})
		},
	}
}

func (a *app) breakGlassReviewCmd() *cobra.Command {
	var req wire.BreakGlassReview
	cmd := &cobra.Command{
		Use:   "review ID",
		Short: "Say, as another admin, whether an emergency was justified",
		Long: `Records your verdict on another admin's emergency. Unjustified ends it at once, if it
has not ended; what follows for the person is up to you (` + "`dsvault revoke`" + `).`,
		Example: `  dsvault break-glass review bgl_aebagbafaydqqcikbmga2dqpca --verdict justified --comment "incident 12"`,
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return about(a, args[0], func(s *session, id dataset.BreakGlassID) error {
				b, err := s.ReviewBreakGlass(cmd.Context(), id, req)
				if err != nil {
					return err
				}
				return a.result(b, "reviewed: %s's emergency at %s was %s", b.Person, b.Scope, b.Verdict)
			})
		},
	}
	cmd.Flags().StringVar(&req.Verdict, "verdict", "", "justified or unjustified")
	cmd.Flags().StringVar(&req.Comment, "comment", "", "what you have found")
	return cmd
}

func (a *app) discloseCmd() *cobra.Command {
	var req wire.NewDisclosure
	var shards, document, span, withhold string
	cmd := &cobra.Command{
		Use:   "disclose DATASET",
		Short: "Ask to read shards because a law requires it; another admin has to approve",
		Long: `Asks that you may read the shards named for the purpose "legal", because an order
of a court or an authority requires their disclosure. You name the order and give
the file of it, of which the SHA-256 is kept. Once another admin has approved, read
them with --purpose legal; each read names the order.

The client sees that in the log. Where the order forbids to tell the client,
--withhold-until gives the date from which it sees who read and why; until then
it sees that a read took place of which the details are withheld.`,
		Example: `  dsvault disclose acme/faces/batch-1 --shards 3 --reference "District court 12 Js 34/27" --document order.pdf --for 7d
  dsvault pull acme/faces/batch-1 --shard 3 --purpose legal -o disclosed`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Dataset, err = datasetArg(args[0]); err != nil {
				return err
			}
			if shards == "" || req.Reference == "" || document == "" {
				return usage("a disclosure names shards, the order and its file", "give --shards, --reference and --document")
			}
			if req.Shards, err = dataset.ParseShardSet(shards); err != nil {
				return err
			}
			if req.Until, err = parseUntil(span, now()); err != nil {
				return err
			}
			if req.WithheldUntil, err = parseUntil(withhold, now()); err != nil {
				return err
			}
			if req.Document, err = hashDocument(document); err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			d, err := s.Disclose(cmd.Context(), req)
			if err != nil {
				return err
			}
			if d.Pending != nil {
				return a.pending(d, d.Pending)
			}
			return a.result(d, "you may read shards %s of %s with --purpose legal until %s", d.Shards.String(), d.Dataset, timeText(d.Until))
		},
	}
	f := cmd.Flags()
	f.StringVar(&shards, "shards", "", "shard numbers, for example 0-3,7")
	f.StringVar(&req.Reference, "reference", "", "reference of the order")
	f.StringVar(&document, "document", "", "file of the order; it is hashed here and not sent")
	f.StringVar(&span, "for", "7d", "how long you may read: 12h, 7d, a date; at most 30 days")
	f.StringVar(&withhold, "withhold-until", "", "date until which the client is not told who read and why")
	return cmd
}

// hashDocument gives the SHA-256 of a file.
func hashDocument(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable("dsvault.hashDocument", path, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, unreadable("dsvault.hashDocument", path, err)
	}
	return h.Sum(nil), nil
}

// emergencies looks for those that have ended and nobody has reviewed.
func (d *doctor) emergencies(ctx context.Context, db *catalog.DB) {
	var open []storage.BreakGlass
	err := db.View(ctx, func(tx *catalog.Tx) (err error) {
		open, err = tx.BreakGlasses(ctx, storage.BreakGlassQuery{Open: true})
		return err
	})
	over := slices.DeleteFunc(open, func(b storage.BreakGlass) bool { return b.InForce(now()) })
	if err != nil || len(over) == 0 {
		d.report("emergencies", err, "all that have ended were reviewed")
		return
	}
	d.say("emergencies", warning, plural(len(over), "emergency has", "emergencies have")+" ended and nobody has reviewed it",
		"have another admin look: dsvault break-glass list")
}
