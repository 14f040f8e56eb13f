package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"dsvault/vault/wire"
)

func (a *app) noticesCmd() *cobra.Command {
	return group("notices", "What a client hears of by mail and webhook", a.noticesSetCmd(), a.noticesShowCmd(), a.noticesTestCmd())
}

func (a *app) noticesSetCmd() *cobra.Command {
	var mail, webhooks, events []string
	var secret bool
	cmd := &cobra.Command{
		Use:   "set CLIENT",
		Short: "Choose what a client hears of, and where",
		Long: `Chooses for a client which events it hears of, and at which addresses and
webhooks. What is not named stays; "none" empties a list. Events are
` + strings.Join(wire.NoticeEvents, ", ") + `: all of them, if none were chosen yet.

Webhook calls are signed by the Standard Webhooks scheme; the secret is printed
when it is made, once. Where notices went before hears of the change.`,
		Example: `  dsvault notices set acme --mail privacy@acme.example --webhook https://hooks.acme.example/vault
  dsvault notices set acme --events grant,erasure
  dsvault notices set acme --webhook none
  dsvault notices set acme --new-secret`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := wire.NoticesUpdate{NewSecret: secret}
			for _, l := range []struct {
				flag string
				list []string
				to   **[]string
			}{{"mail", mail, &req.Mail}, {"webhook", webhooks, &req.Webhooks}, {"events", events, &req.Events}} {
				if cmd.Flags().Changed(l.flag) {
					list := orNone(l.list)
					*l.to = &list
				}
			}
			if req.Mail == nil && req.Webhooks == nil && req.Events == nil && !secret {
				return usage("nothing to change", "give --mail, --webhook, --events or --new-secret")
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			n, err := s.SetNotices(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			if a.json {
				return writeJSON(a.out, n)
			}
			_, err = fmt.Fprintf(a.out, "%s hears of %s, at %s\n", n.Client, clean(orDash(n.Events)), clean(orDash(append(n.Mail, n.Webhooks...))))
			if err == nil && n.Secret != "" {
				_, err = fmt.Fprintf(a.out, "signing secret of the webhooks, shown only now:\n%s\n", clean(n.Secret))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&mail, "mail", nil, "address to mail to; can be given several times, or none")
	f.StringSliceVar(&webhooks, "webhook", nil, "https URL to call; can be given several times, or none")
	f.StringSliceVar(&events, "events", nil, "events to hear of, or none")
	f.BoolVar(&secret, "new-secret", false, "make a new signing secret in place of the old one")
	return cmd
}

// orNone reads a list that may be emptied by the word none.
func orNone(list []string) []string {
	if len(list) == 1 && list[0] == "none" {
		return []string{}
	}
	return list
}

func orDash(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

// undelivered bounds what `notices show` lists.
const undelivered = 100

func (a *app) noticesShowCmd() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "show CLIENT",
		Short: "Show what a client hears of, and what could not be delivered",
		Long: `Shows what a client hears of and where, and which messages wait to be sent, are
tried again or were given up ("dead"), the newest first, at most 100. With --all
also those that were sent in the last 7 days.`,
		Example: "  dsvault notices show acme\n  dsvault notices show acme --all --json",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			n, err := s.Notices(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			messages := []wire.Message{}
			for m, err := range s.Messages(cmd.Context(), args[0]) {
				if err != nil {
					return err
				}
				if all || m.State != "sent" {
					messages = append(messages, m)
				}
				if len(messages) == undelivered {
					break
				}
			}
			if a.json {
				return writeJSON(a.out, struct {
					wire.Notices
					Messages []wire.Message `json:"messages"`
				}{n, messages})
			}
			return a.printNotices(n, messages)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "list what was sent, too")
	return cmd
}

func (a *app) printNotices(n wire.Notices, messages []wire.Message) error {
	t := newTable(a.out, "CLIENT", n.Client.String())
	t.row("events", strings.Join(n.Events, ", "))
	t.row("mail", strings.Join(n.Mail, ", "))
	t.row("webhook", strings.Join(n.Webhooks, ", "))
	if n.Changed != nil {
		t.row("changed", timeText(*n.Changed)+" by "+n.By)
	}
	if err := t.flush(); err != nil || len(messages) == 0 {
		return err
	}
	fmt.Fprintln(a.out)
	t = newTable(a.out, "MESSAGE", "EVENT", "BY", "STATE", "CREATED", "TRIES", "NEXT", "PROBLEM")
	for _, m := range messages {
		t.row(m.ID.String(), m.Event, m.Channel, m.State, timeText(m.Created), fmt.Sprint(m.Attempts), untilText(m.Due), m.Problem)
	}
	return t.flush()
}

func (a *app) noticesTestCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "test CLIENT",
		Short:   "Send a test message to wherever a client's notices go",
		Example: "  dsvault notices test acme\n  dsvault notices show acme --all",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			out, err := s.TestNotices(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.result(out, "%s on the way; `dsvault notices show %s --all` says what became of it",
				plural(len(out.Messages), "test message is", "test messages are"), args[0])
		},
	}
}
