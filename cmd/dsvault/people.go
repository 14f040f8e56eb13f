package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"dsvault/vault/client"
	"dsvault/vault/wire"
)

func (a *app) personCmd() *cobra.Command {
	return group("person", "Invite, show, update, list, disable and anonymize people and services",
		a.personInviteCmd(), a.personShowCmd(), a.personUpdateCmd(), a.personDisableCmd(), a.personAnonymizeCmd(), a.personListCmd())
}

func (a *app) personInviteCmd() *cobra.Command {
	var p wire.NewPerson
	cmd := &cobra.Command{
		Use:   "invite HANDLE",
		Short: "Invite a person, or make a service; prints a token once",
		Long: `Prints a token for the person, once: hand it over on a safe way. A person
exchanges it at the first login; that of a service stays good until it is
rotated. With --mail the token goes to the address of --email, and nobody else
sees it; the server has to be able to send mail (docs/contact.md).`,
		Example: `  dsvault person invite alice --email alice@example.org --name "Alice Adams"
  dsvault person invite alice --email alice@example.org --mail
  dsvault person invite importer --service`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.Handle = args[0]
			s, err := a.connect()
			if err != nil {
				return err
			}
			token, err := s.Invite(cmd.Context(), p)
			if err != nil {
				return err
			}
			if token.Mailed {
				return a.result(token, "invited %s; the token%s is on its way by mail", token.Person.Handle, forUntil(token.Expires))
			}
			return a.printToken(token, "invited "+token.Person.Handle)
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.Email, "email", "", "address, kept sealed")
	f.BoolVar(&p.Mail, "mail", false, "send the token to that address instead of printing it")
	f.StringVar(&p.Name, "name", "", "full name, kept sealed")
	f.StringVar(&p.Phone, "phone", "", "telephone number, kept sealed")
	f.StringVar(&p.Company, "company", "", "who they work for, kept sealed")
	f.StringVar(&p.JobTitle, "job-title", "", "what they do there, kept sealed")
	f.StringVar(&p.Region, "region", "", "where the person works, for projects that ask for it")
	f.BoolVar(&p.Service, "service", false, "a machine account")
	return cmd
}

// printToken shows a new token: the one place where text output has a secret.
func (a *app) printToken(t wire.NewToken, done string) error {
	if a.json {
		return writeJSON(a.out, t)
	}
	_, err := fmt.Fprintf(a.out, "%s\ntoken%s, shown only now:\n%s\n", clean(done), forUntil(t.Expires), clean(t.Token))
	return err
}

func (a *app) personDisableCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "disable HANDLE",
		Short:   "End all access of a person or service, at once",
		Example: "  dsvault person disable alice",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			ended, err := s.Disable(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.result(ended, "disabled %s", args[0])
		},
	}
}

func (a *app) personListCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List people and services",
		Example: "  dsvault person list --json",
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			header := []string{"HANDLE", "KIND", "NAME", "EMAIL", "REGION", "CREATED", "DISABLED"}
			return list(a, s.People(cmd.Context()), header, func(p wire.Person) []string {
				kind := "person"
				if p.Service {
					kind = "service"
				}
				return []string{p.Handle, kind, p.Name, p.Email, p.Region, timeText(p.Created), untilText(p.Disabled)}
			})
		},
	}
}

func (a *app) tokenCmd() *cobra.Command {
	rotate := &cobra.Command{
		Use:   "rotate [PERSON]",
		Short: "End a person's tokens and make a new one; without PERSON, your own",
		Long: `Ends all tokens of a person and makes a new one. Your own new token replaces
the stored one and is not printed, unless you work with DSVAULT_TOKEN; that of
somebody else is printed once.`,
		Example: "  dsvault token rotate\n  dsvault token rotate alice",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			who := "me"
			if len(args) == 1 {
				who = args[0]
			}
			own := who == "me" || s.login.Handle != "" && who == s.login.Handle
			if own && s.stored { // before the old one ends: nobody shows the new one again
				if err := s.place.Writable(); err != nil {
					return err
				}
			}
			token, err := s.RotateToken(cmd.Context(), who)
			if err != nil {
				return err
			}
			if !own || !s.stored {
				return a.printToken(token, "rotated the token of "+token.Person.Handle)
			}
			secret, err := client.ParseSecret(token.Token)
			if err != nil {
				return err
			}
			if err := s.place.SaveToken(secret); err != nil {
				return err
			}
			token.Token = "" // stored; it is not for the screen
			return a.result(token, "rotated and stored your token")
		},
	}
	return group("token", "Rotate tokens", rotate)
}
