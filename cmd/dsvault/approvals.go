package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func (a *app) approvalsCmd() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use:   "approvals [SCOPE]",
		Short: "List what waits for a second person's approval, and what became of it",
		Long: `Lists what was asked for and takes two people: access to a project with sensitive
data, for example. Whoever may approve sees the requests of all; everybody else
sees their own. A request lapses after seven days, an approval that nobody has
used after three.`,
		Example: "  dsvault approvals\n  dsvault approvals acme --state all",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := scopeArg(args)
			if err != nil {
				return err
			}
			if state != "all" && !slices.Contains(wire.ApprovalStates[:], state) {
				return usage("there is no state "+clean(state), "states are "+strings.Join(wire.ApprovalStates[:], ", ")+", all")
			}
			wanted := state
			if state == "all" {
				wanted = ""
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			header := []string{"ID", "STATE", "ASKED", "BY", "ACTION", "SCOPE", "PERSON", "TERMS", "UNTIL", "SECOND"}
			return list(a, s.Approvals(cmd.Context(), scope, wanted), header, func(g wire.Approval) []string {
				return []string{g.ID.String(), g.State, timeText(g.Asked), g.By, g.Action + " " + g.Kind, g.Scope.String(), g.Person,
					termsText(g.Terms), untilText(g.Expires), g.Second}
			})
		},
	}
	cmd.Flags().StringVar(&state, "state", "open", "which: "+strings.Join(wire.ApprovalStates[:], ", ")+", or all")
	return cmd
}

// termsText gives the terms of a request in one line; the person has a column.
func termsText(terms map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(terms)) {
		if value := terms[name]; value != "" && name != "person" {
			list = append(list, name+"="+value)
		}
	}
	return strings.Join(list, ", ")
}

func (a *app) approveCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "approve ID",
		Short: "Approve, as the second person, exactly what was asked for",
		Long: `Approves what ` + "`dsvault approvals`" + ` shows under this ID, as it stands there, once.
Nobody approves their own request, or one that is about them. What can be done at
once is done, in the name of whoever asked; otherwise they repeat their command.`,
		Example: "  dsvault approvals\n  dsvault approve apr_aebagbafaydqqcikbmga2dqpca",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return about(a, args[0], func(s *session, id dataset.ApprovalID) error {
				g, err := s.Approve(cmd.Context(), id)
				if err != nil {
					return err
				}
				if g.State == "used" {
					return a.result(g, "approved and done: %s", approvalText(g))
				}
				return a.result(g, "approved: %s; %s can do it now%s", approvalText(g), g.By, forUntil(g.Expires))
			})
		},
	}
}

// approvalText says what a request is about.
func approvalText(g wire.Approval) string {
	text := g.Action + " " + g.Kind + " at " + g.Scope.String()
	if g.Person != "" {
		text += " for " + g.Person
	}
	if terms := termsText(g.Terms); terms != "" {
		text += " (" + terms + ")"
	}
	return text
}

func (a *app) refuseCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "refuse ID",
		Short:   "Refuse what was asked for, or take your own request back",
		Example: "  dsvault refuse apr_aebagbafaydqqcikbmga2dqpca --reason \"not in the contract\"",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return about(a, args[0], func(s *session, id dataset.ApprovalID) error {
				g, err := s.Refuse(cmd.Context(), id, reason)
				if err != nil {
					return err
				}
				return a.result(g, "%s: %s", g.State, approvalText(g))
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log")
	return cmd
}

// pending tells that something waits for a second person. out is the answer of
// what was asked for.
func (a *app) pending(out any, p *wire.Approval) error {
	return a.result(out, "asked for: %s. It takes effect when another admin has run: dsvault approve %s%s", approvalText(*p), p.ID, forUntil(p.Expires))
}
