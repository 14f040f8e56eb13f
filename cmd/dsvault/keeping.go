package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func (a *app) holdCmd() *cobra.Command {
	return group("hold", "Legal holds: nothing under one is deleted", a.holdPlaceCmd(), a.holdReleaseCmd(), a.holdListCmd())
}

func (a *app) holdPlaceCmd() *cobra.Command {
	var req wire.NewHold
	cmd := &cobra.Command{
		Use:   "place SCOPE",
		Short: "Place a legal hold, which stops every deletion at a scope and below",
		Long: `From the moment that this returns nothing at the scope and below is deleted, by
anybody: erasures and the end of a retention are refused, uploads and
replacements are, and the server does not clear away what interrupted uploads
have left. Only the client reads the data meanwhile. Several holds may overlap;
the last one that is released ends it.`,
		Example: `  dsvault hold place acme/signs --reason "case 17/2027"
  dsvault hold place / --reason "audit by the authority"`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Scope, err = scopeArg(args); err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			h, err := s.PlaceHold(cmd.Context(), req)
			if err != nil {
				return err
			}
			late := ""
			if h.Erased > 0 {
				late = fmt.Sprintf("; too late for %s that had been erased", plural(h.Erased, "dataset", "datasets"))
			}
			return a.result(h, "placed the hold %s on %s%s", h.ID, h.Scope, late)
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for example the reference of the case")
	return cmd
}

func (a *app) holdReleaseCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "release HOLD",
		Short: "Release a legal hold; it takes two people",
		Long: `Ends one hold, by its ID. It takes an admin, who asks for it with this command, and a
second person, who approves. What
the hold has kept beyond its retention is erased within seconds.`,
		Example: `  dsvault hold list acme
  dsvault hold release hld_abcdefghijklmnopqrstuvwxyz --reason "case closed"`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return about(a, args[0], func(s *session, id dataset.HoldID) error {
				h, err := s.ReleaseHold(cmd.Context(), id, reason)
				if err != nil {
					return err
				}
				if h.Pending != nil {
					return a.pending(h, h.Pending)
				}
				return a.result(h, "released the hold %s on %s", h.ID, h.Scope)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why")
	return cmd
}

func (a *app) holdListCmd() *cobra.Command {
	var ended bool
	cmd := &cobra.Command{
		Use:   "list [SCOPE]",
		Short: "List the legal holds at a scope, above and below it",
		Long: `Lists the holds in force at the scope, above and below it. Of one above it, those
who may not read the holds there see that it is, and not why.`,
		Example: "  dsvault hold list acme\n  dsvault hold list --ended",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.within(args, func(s *session, scope dataset.Scope) error {
				header := []string{"HOLD", "SCOPE", "PLACED", "BY", "RELEASED", "REASON"}
				return list(a, s.Holds(cmd.Context(), scope, ended), header, func(h wire.Hold) []string {
					return []string{h.ID.String(), h.Scope.String(), timeText(h.Placed), h.By, untilText(h.Released), h.Reason}
				})
			})
		},
	}
	cmd.Flags().BoolVar(&ended, "ended", false, "also those that were released")
	return cmd
}

func (a *app) retentionCmd() *cobra.Command {
	return group("retention", "How long data, log details and personal data are kept",
		a.retentionSetCmd(), a.retentionClearCmd(), a.retentionListCmd())
}

// whatFlag says what a period is for.
func whatFlag(cmd *cobra.Command, what *string) {
	cmd.Flags().StringVar(what, "what", "data", "what is kept so long: data, results (work that was returned), log (who did what from where; the records stay) or personal (people who are not active)")
}

func (a *app) retentionSetCmd() *cobra.Command {
	var req wire.NewRetention
	cmd := &cobra.Command{
		Use:   "set SCOPE PERIOD",
		Short: "Say how long something is kept",
		Long: `Holds for the scope and below, until a nearer scope says otherwise. A dataset's
period counts from when its newest version was complete. A fortnight before its
end a warning is recorded; at its end, to the second, nobody reads the dataset
any more, and it is erased as ` + "`dsvault erase`" + ` does it. A legal hold stops that.

A period is a number of days (180d), weeks (26w), months (6mo) or years (2y) of
the calendar in UTC.`,
		Example: `  dsvault retention set acme 2y --basis "contract 17, section 4"
  dsvault retention set acme/signs 180d
  dsvault retention set / 3y --what log
  dsvault retention set / 1y --what personal`,
		Args: args(2, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Scope, err = scopeArg(args); err != nil {
				return err
			}
			if _, err := dataset.ParsePeriod(args[1]); err != nil {
				return err
			}
			req.Period = args[1]
			return a.setRetention(cmd, req)
		},
	}
	whatFlag(cmd, &req.What)
	cmd.Flags().StringVar(&req.Basis, "basis", "", "what the period rests on, for example a contract")
	return cmd
}

func (a *app) retentionClearCmd() *cobra.Command {
	var req wire.NewRetention
	cmd := &cobra.Command{
		Use:     "clear SCOPE",
		Short:   "Take back what was said of a scope: a wider scope's period holds again",
		Example: "  dsvault retention clear acme/signs",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Scope, err = scopeArg(args); err != nil {
				return err
			}
			return a.setRetention(cmd, req)
		},
	}
	whatFlag(cmd, &req.What)
	return cmd
}

func (a *app) setRetention(cmd *cobra.Command, req wire.NewRetention) error {
	s, err := a.connect()
	if err != nil {
		return err
	}
	r, err := s.SetRetention(cmd.Context(), req)
	if err != nil {
		return err
	}
	if r.Period == "" {
		return a.result(r, "%s has no period of its own for %s any more", r.Scope, r.What)
	}
	return a.result(r, "%s at %s is kept for %s", r.What, r.Scope, r.Period)
}

func (a *app) retentionListCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "list [SCOPE]",
		Short: "List the periods that were set at a scope, above and below it",
		Long: `Lists what was set at the scope, above and below it; the nearest one at or above a
dataset holds for it. ` + "`dsvault ls`" + ` shows when each dataset expires.`,
		Example: "  dsvault retention list acme/signs",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.within(args, func(s *session, scope dataset.Scope) error {
				return list(a, s.Retentions(cmd.Context(), scope), []string{"SCOPE", "WHAT", "PERIOD", "SET", "BY", "BASIS"}, func(r wire.Retention) []string {
					return []string{r.Scope.String(), r.What, r.Period, timeText(r.Set), r.By, r.Basis}
				})
			})
		},
	}
}

// expiryText is the countdown of an entry: what keeps it, and for how long.
func expiryText(e wire.Entry, now time.Time) string {
	if e.Expires == nil {
		if e.Held {
			return "hold"
		}
		return ""
	}
	left := e.Expires.Sub(now)
	text := e.Expires.UTC().Format(time.DateOnly)
	switch days := int(left.Hours() / 24); {
	case left <= 0:
		text += " (over)"
	case days >= 2:
		text += fmt.Sprintf(" (%d days)", days)
	default:
		text += fmt.Sprintf(" (%s)", left.Truncate(time.Minute))
	}
	if e.Held {
		text += ", hold"
	}
	return text
}
