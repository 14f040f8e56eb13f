package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvault/vault"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func (a *app) reviewCmd() *cobra.Command {
	return group("review", "Review who has access, and end what is not needed", a.reviewStartCmd(), a.reviewListCmd(), a.reviewShowCmd(),
		a.reviewDecideCmd("keep", "Keep the access of items"), a.reviewDecideCmd("revoke", "End the access of items, at once"), a.reviewFinishCmd())
}

func (a *app) reviewStartCmd() *cobra.Command {
	var deadline string
	cmd := &cobra.Command{
		Use:   "start [SCOPE]",
		Short: "Begin an access review of a scope and below",
		Long: `Lists everybody who has a role or an assignment at a scope and below: since when,
given by whom and why, last use, and what stands out. Admins then keep or revoke
each item, but not their own. What is undecided at the deadline ends by itself.`,
		Example: "  dsvault review start acme\n  dsvault review start acme/signs --deadline 14d",
		Args:    args(0, 1),
	}
	cmd.Flags().StringVar(&deadline, "deadline", "30d", "when what is undecided ends: so many days from now, at most a year")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		scope, err := scopeArg(args)
		if err != nil {
			return err
		}
		days, err := parseDays("--deadline", deadline, wire.MaxReviewDays)
		if err != nil {
			return err
		}
		s, err := a.connect()
		if err != nil {
			return err
		}
		r, err := s.StartReview(cmd.Context(), wire.NewReview{Scope: scope, Days: days})
		if err != nil {
			return err
		}
		return a.result(r, "started the review %s of %s: %s, until %s", r.ID, r.Scope, plural(r.Items, "item", "items"), timeText(r.Deadline))
	}
	return cmd
}

// parseReviews reads the settings of scheduled reviews.
func parseReviews(when, deadline string) (cfg vault.ReviewConfig, err error) {
	switch when {
	case "quarterly":
		cfg.Quarterly = true
	case "never":
	default:
		return cfg, usage("bad --reviews "+clip(clean(when)), "give quarterly or never")
	}
	cfg.Days, err = parseDays("--review-deadline", deadline, wire.MaxReviewDays)
	return cfg, err
}

// parseDays reads a span of whole days.
func parseDays(flag, s string, most int) (int, error) {
	end, ok := shift(time.Unix(0, 0).UTC(), s, +1)
	days := int(end.Unix() / 86400)
	if !ok || end.Unix()%86400 != 0 || days < 1 || days > most {
		return 0, usage("bad "+flag+" "+clip(clean(s)), fmt.Sprintf("give whole days, such as 30d, at most %dd", most))
	}
	return days, nil
}

func (a *app) reviewListCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "list [SCOPE]",
		Short:   "List access reviews, the newest first",
		Example: "  dsvault review list acme",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.within(args, func(s *session, scope dataset.Scope) error {
				header := []string{"ID", "SCOPE", "STATE", "STARTED", "BY", "DEADLINE", "ITEMS", "UNDECIDED", "KEPT", "REVOKED", "EXPIRED"}
				return list(a, s.Reviews(cmd.Context(), scope), header, func(r wire.AccessReview) []string {
					by := r.By
					if r.Period != "" {
						by = "the schedule, " + r.Period
					}
					return []string{r.ID.String(), r.Scope.String(), r.State, timeText(r.Started), by, timeText(r.Deadline), fmt.Sprint(r.Items),
						fmt.Sprint(r.Undecided), fmt.Sprint(r.Kept), fmt.Sprint(r.Revoked), fmt.Sprint(r.Expired)}
				})
			})
		},
	}
}

// reviewed is a review with its items, as one document.
type reviewed struct {
	wire.AccessReview
	List []wire.ReviewItem `json:"list"`
}

func (a *app) reviewShowCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "show REVIEW",
		Short: "Show an access review with its items, or save its signed result",
		Long: `Shows the items of an access review. With -o it writes the result of one that has
ended to a new file, a line of JSON for each item, and the log's signature to the
same name with .note: ` + "`dsvault verify FILE.note`" + ` checks them without a server.`,
		Example: "  dsvault review show rvw_abcdefghijklmnopqrstuvwxyz\n  dsvault review show rvw_abcdefghijklmnopqrstuvwxyz -o acme-2026-q4.jsonl",
		Args:    args(1, 1),
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "write the signed result to this new file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return about(a, args[0], func(s *session, id dataset.ReviewID) error {
			if out != "" {
				return a.saveReview(cmd.Context(), s, id, out)
			}
			r, err := s.Review(cmd.Context(), id)
			if err != nil {
				return err
			}
			doc := reviewed{AccessReview: r, List: []wire.ReviewItem{}}
			for i, err := range s.ReviewItems(cmd.Context(), id) {
				if err != nil {
					return err
				}
				doc.List = append(doc.List, i)
			}
			if !a.json {
				if err := a.reviewTable(doc.List); err != nil {
					return err
				}
			}
			return a.result(doc, "%s of %s, %s: %s, %d undecided, %d kept, %d revoked, %d expired; findings: %s; deadline %s", r.ID, r.Scope, r.State,
				plural(r.Items, "item", "items"), r.Undecided, r.Kept, r.Revoked, r.Expired, findingsText(r.Findings), timeText(r.Deadline))
		})
	}
	return cmd
}

func findingsText(counts map[string]int) string {
	texts := []string{}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		texts = append(texts, fmt.Sprintf("%d %s", counts[name], name))
	}
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, ", ")
}

func (a *app) reviewTable(items []wire.ReviewItem) error {
	t := newTable(a.out, "ITEM", "PERSON", "ACCESS", "WHERE", "SINCE", "BY", "WHY", "LAST USE", "FINDINGS", "DECISION", "REVIEWER")
	for _, i := range items {
		access := string(i.Role)
		switch i.Kind {
		case "assignment":
			access = "shards " + i.Shards.String()
		case "above":
			access += ", from above"
		}
		used := "never"
		if i.LastUse != nil {
			used = timeText(*i.LastUse)
		}
		t.row(fmt.Sprint(i.Number), i.Person, access, i.Scope.String(), timeText(i.Since), i.By, i.Reason, used,
			strings.Join(i.Findings, ", "), i.Decision, i.Reviewer)
	}
	return t.flush()
}

// saveReview writes the result of a review and the signed note of it.
func (a *app) saveReview(ctx context.Context, s *session, id dataset.ReviewID, path string) error {
	file, err := newExport(path)
	if err != nil {
		return err
	}
	defer file.discard()
	note, err := newExport(path + noteEnding)
	if err != nil {
		return err
	}
	defer note.discard()
	data, l, err := s.ReviewResult(ctx, id, s.login.Pin(), file)
	if err != nil {
		return err
	}
	if _, err := note.Write(data); err != nil {
		return err
	}
	if err := file.keep(); err != nil {
		return err
	}
	if err := note.keep(); err != nil {
		return err
	}
	return a.result(listedOf(path, l), "wrote %s: %s, %d bytes, SHA-256 %s, signed by %s in %s",
		path, plural(int(l.Records), "item", "items"), l.Bytes, dataset.HexBytes(l.SHA256[:]), l.Origin, path+noteEnding)
}

func (a *app) reviewDecideCmd(what, short string) *cobra.Command {
	return &cobra.Command{
		Use:     what + " REVIEW ITEM...",
		Short:   short,
		Example: "  dsvault review " + what + " rvw_abcdefghijklmnopqrstuvwxyz 0-3 7",
		Args:    args(2, 1001),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := dataset.ParseID[dataset.ReviewID](args[0])
			if err != nil {
				return err
			}
			req := wire.DecideItems{Decide: what}
			set, err := dataset.ParseShardSet(strings.Join(args[1:], ","))
			if err != nil || set.Len() > wire.MaxDecideItems {
				return usage("bad items", "name them by their numbers, at most 1000 at a time, such as 0-3 7")
			}
			req.Items = slices.Collect(set.All())
			s, err := a.connect()
			if err != nil {
				return err
			}
			r, err := s.DecideItems(cmd.Context(), id, req)
			if err != nil {
				return err
			}
			done := "kept"
			if what == "revoke" {
				done = "revoked"
			}
			return a.result(r, "%s %s; %d of %d undecided", done, plural(len(req.Items), "item", "items"), r.Undecided, r.Items)
		},
	}
}

func (a *app) reviewFinishCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "finish REVIEW",
		Short:   "End an access review of which every item is decided",
		Example: "  dsvault review finish rvw_abcdefghijklmnopqrstuvwxyz",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return about(a, args[0], func(s *session, id dataset.ReviewID) error {
				r, err := s.FinishReview(cmd.Context(), id)
				if err != nil {
					return err
				}
				return a.result(r, "finished the review of %s: %d kept, %d revoked, %d expired; `dsvault review show %s -o FILE` saves the signed result",
					r.Scope, r.Kept, r.Revoked, r.Expired, r.ID)
			})
		},
	}
}
