package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dsvault/vault/client"
	"dsvault/vault/wire"
)

func (a *app) personShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "show [HANDLE]",
		Short:   "Show what is kept of a person; without HANDLE, of yourself",
		Example: "  dsvault person show\n  dsvault person show alice --json",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			p, err := s.Person(cmd.Context(), whoOf(args))
			if err != nil {
				return err
			}
			if a.json {
				return writeJSON(a.out, p)
			}
			return a.printPerson(p)
		},
	}
}

// whoOf is the person that an optional argument names.
func whoOf(args []string) string {
	if len(args) == 0 {
		return "me"
	}
	return args[0]
}

func (a *app) printPerson(p wire.Person) error {
	kind := "person"
	if p.Service {
		kind = "service"
	}
	t := newTable(a.out, "WHO", p.Handle)
	t.row("kind", kind)
	for _, field := range [][2]string{
		{"name", p.Name}, {"email", p.Email}, {"phone", p.Phone}, {"company", p.Company}, {"job title", p.JobTitle}, {"region", p.Region},
	} {
		t.row(field[0], field[1])
	}
	t.row("created", timeText(p.Created))
	if p.Disabled != nil {
		t.row("disabled", untilText(p.Disabled))
	}
	return t.flush()
}

func (a *app) personUpdateCmd() *cobra.Command {
	var name, email, phone, company, job string
	cmd := &cobra.Command{
		Use:   "update [HANDLE]",
		Short: "Change a person's name, address and the like; without HANDLE, your own",
		Long: `Changes the fields that are named; the others stay, and an empty text takes a
field away. Anybody may do it for themselves, an admin for everybody. All fields
are kept sealed under the person's own key. If the address changes and the server
sends mail, the old address hears of it: mails that reset the login go to the new
one from then on.`,
		Example: `  dsvault person update --phone "+49 30 1234567" --company "Adams & Co"
  dsvault person update alice --email alice@example.org
  dsvault person update --job-title ""`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var req wire.PersonUpdate
			given := false
			cmd.Flags().Visit(func(f *pflag.Flag) {
				to := map[string]**string{"name": &req.Name, "email": &req.Email, "phone": &req.Phone, "company": &req.Company, "job-title": &req.JobTitle}[f.Name]
				if to != nil {
					value := f.Value.String()
					*to, given = &value, true
				}
			})
			if !given {
				return usage("nothing to change", "give --name, --email, --phone, --company or --job-title")
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			p, err := s.UpdatePerson(cmd.Context(), whoOf(args), req)
			if err != nil {
				return err
			}
			return a.result(p, "updated %s", p.Handle)
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "full name")
	f.StringVar(&email, "email", "", "address")
	f.StringVar(&phone, "phone", "", "telephone number")
	f.StringVar(&company, "company", "", "who they work for")
	f.StringVar(&job, "job-title", "", "what they do there")
	return cmd
}

func (a *app) resetCmd() *cobra.Command {
	var email string
	cmd := &cobra.Command{
		Use:   "reset [URL]",
		Short: "Ask for a mail with a token that resets your login",
		Long: `Asks the server, without a login, to mail a token to your address. It holds for
30 minutes and for one "dsvault login URL", which ends all your other tokens. The
answer is the same whether or not the server knows the address. Without URL it is
the server that you logged in to.`,
		Example: `  dsvault reset --email alice@example.org https://vault.example.org
  dsvault login https://vault.example.org`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if email == "" {
				return usage("which address?", "give --email")
			}
			url, err := a.serverURL(args)
			if err != nil {
				return err
			}
			c, err := client.New(client.Config{URL: url, AllowPlainHTTP: a.allowPlain, UserAgent: userAgent()})
			if err != nil {
				return err
			}
			if err := c.AskReset(cmd.Context(), email); err != nil {
				return err
			}
			return a.result(wire.ResetAsked{Asked: true},
				"if somebody at %s has this address, a mail with a token is on its way; use it within 30 minutes: dsvault login %s", c.URL(), c.URL())
		},
	}
	cmd.Flags().StringVar(&email, "email", "", "your address, as the vault knows it")
	return cmd
}

// serverURL is the server that an optional argument names, or the one in use.
func (a *app) serverURL(args []string) (string, error) {
	if len(args) == 1 {
		return client.ParseURL(args[0], a.allowPlain)
	}
	place, url, err := a.place()
	if err != nil || url != "" {
		return url, err
	}
	login, err := place.Login()
	if err != nil {
		return "", usage("which server?", "name it: `dsvault reset --email ADDRESS URL`")
	}
	return login.URL, nil
}
