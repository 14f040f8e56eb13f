package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func (a *app) requestCmd() *cobra.Command {
	return group("request", "The register of requests of people about their own data",
		a.requestOpenCmd(), a.requestListCmd(), a.requestShowCmd(), a.requestExtendCmd(), a.requestCloseCmd())
}

// namesOf joins the words of a closed list.
func namesOf[T ~string](words []T) string { return strings.Join(textsOf(words), ", ") }

func (a *app) requestOpenCmd() *cobra.Command {
	var req wire.NewRequest
	var identity string
	cmd := &cobra.Command{
		Use:   "open KIND [PERSON]",
		Short: "Enter a request into the register; without PERSON, your own",
		Long: `Kinds: ` + namesOf(dataset.RequestKinds[:]) + `.

It is to be answered within a month of the calendar from the day on which it was
received: what comes on 31 January is due at the end of February. Reasons are
kept sealed, and forgotten with the person. Admins enter what came in another way,
and how they made sure who asks (--identity ` + namesOf(dataset.IdentityChecks[:]) + `).`,
		Example: `  dsvault request open access
  dsvault request open erasure alice --received 2027-01-31 --identity document`,
		Args: args(1, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if len(args) == 2 {
				req.Person = args[1]
			}
			if req.Kind, err = dataset.ParseRequestKind(args[0]); err != nil {
				return err
			}
			if identity != "" {
				if req.Identity, err = dataset.ParseIdentityCheck(identity); err != nil {
					return err
				}
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			r, err := s.OpenRequest(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.result(r, "entered %s: %s for %s, due by %s", r.ID, string(r.Kind), r.Person, r.Deadline)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Received, "received", "", "the day on which it came in, such as 2027-01-31; today")
	f.StringVar(&identity, "identity", "", "how it was made sure who asks")
	f.StringVar(&req.Reason, "reason", "", "what is asked for, in words; kept sealed")
	return cmd
}

func (a *app) requestListCmd() *cobra.Command {
	var person string
	var open bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the requests in the register: to admins everybody's, otherwise your own",
		Example: "  dsvault request list --open\n  dsvault request list --person alice",
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			header := []string{"REQUEST", "PERSON", "KIND", "STATE", "RECEIVED", "DEADLINE", "IDENTITY", "OUTCOME"}
			return list(a, s.Requests(cmd.Context(), person, open), header, func(r wire.RightsRequest) []string {
				return []string{r.ID.String(), r.Person, string(r.Kind), stateText(r), r.Received, r.Deadline, string(r.Identity), string(r.Outcome)}
			})
		},
	}
	cmd.Flags().StringVar(&person, "person", "", "only those of one person")
	cmd.Flags().BoolVar(&open, "open", false, "only those that are open")
	return cmd
}

func stateText(r wire.RightsRequest) string {
	if r.Overdue {
		return "OVERDUE"
	}
	return r.State
}

func (a *app) requestShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "show REQUEST",
		Short:   "Show a request with its reasons and its answer",
		Example: "  dsvault request show rrq_…",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return about(a, args[0], func(s *session, id dataset.RightsID) error {
				r, err := s.Request(cmd.Context(), id)
				if err != nil {
					return err
				}
				return a.showRequest(r)
			})
		},
	}
}

func (a *app) showRequest(r wire.RightsRequest) error {
	if a.json {
		return writeJSON(a.out, r)
	}
	lines := [][2]string{
		{"request", r.ID.String()}, {"person", r.Person}, {"kind", string(r.Kind)}, {"state", stateText(r)}, {"received", r.Received},
		{"deadline", r.Deadline}, {"identity", string(r.Identity)}, {"opened", timeText(r.Opened) + " by " + r.OpenedBy}, {"reason", r.Reason},
	}
	if r.Extended != nil {
		lines = append(lines, [2]string{"put off", timeText(*r.Extended) + ": " + r.Extension})
	}
	if r.Handed != nil {
		lines = append(lines, [2]string{"copy handed over", timeText(*r.Handed)})
	}
	if r.Closed != nil {
		lines = append(lines, [2]string{"closed", timeText(*r.Closed) + " by " + r.ClosedBy}, [2]string{"outcome", string(r.Outcome)}, [2]string{"answer", r.Answer})
	}
	for _, line := range slices.DeleteFunc(lines, func(l [2]string) bool { return l[1] == "" }) {
		if _, err := fmt.Fprintf(a.out, "%-17s %s\n", line[0], clean(line[1])); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) requestExtendCmd() *cobra.Command {
	var req wire.ExtendRequest
	cmd := &cobra.Command{
		Use:   "extend REQUEST",
		Short: "Put the deadline of a request off by two more months, once",
		Long: `Counts three months of the calendar from the day of receipt. It has to be done
before the first deadline has passed, and the person sees the reason.`,
		Example: "  dsvault request extend rrq_… --reason \"many records to go through\"",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return about(a, args[0], func(s *session, id dataset.RightsID) error {
				r, err := s.ExtendRequest(cmd.Context(), id, req)
				if err != nil {
					return err
				}
				return a.result(r, "%s is due by %s now", r.ID, r.Deadline)
			})
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; kept sealed, and shown to the person")
	return cmd
}

func (a *app) requestCloseCmd() *cobra.Command {
	var outcome, identity string
	var req wire.CloseRequest
	cmd := &cobra.Command{
		Use:   "close REQUEST",
		Short: "End a request with its outcome",
		Long: `Outcomes: ` + namesOf(dataset.Outcomes[:]) + `. Whoever has asked can withdraw;
nobody else can, and nobody answers their own request. What is done needs a check
of who asks: give --identity if none is entered yet.`,
		Example: `  dsvault request close rrq_… --outcome done --answer "copy sent"
  dsvault request close rrq_… --outcome withdrawn`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Outcome, err = dataset.ParseOutcome(outcome); err != nil {
				return err
			}
			if identity != "" {
				if req.Identity, err = dataset.ParseIdentityCheck(identity); err != nil {
					return err
				}
			}
			return about(a, args[0], func(s *session, id dataset.RightsID) error {
				r, err := s.CloseRequest(cmd.Context(), id, req)
				if err != nil {
					return err
				}
				return a.result(r, "closed %s: %s", r.ID, string(r.Outcome))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&outcome, "outcome", "", namesOf(dataset.Outcomes[:]))
	f.StringVar(&identity, "identity", "", "how it was made sure who asks")
	f.StringVar(&req.Answer, "answer", "", "what was answered; kept sealed, and shown to the person")
	return cmd
}

// requests says which requests of people about their data are overdue.
func (d *doctor) requests(ctx context.Context, db *catalog.DB) {
	var open, overdue int
	err := db.View(ctx, func(tx *catalog.Tx) (err error) {
		open, overdue, err = tx.CountRightsRequests(ctx, now())
		return err
	})
	switch {
	case err != nil:
		d.report("requests", err, "")
	case overdue > 0:
		d.say("requests", warning, fmt.Sprintf("%d of %d open requests of people about their data are overdue", overdue, open),
			"`dsvault request list --open` shows them")
	default:
		d.say("requests", healthy, fmt.Sprintf("%d are open, none is overdue", open), "")
	}
}
