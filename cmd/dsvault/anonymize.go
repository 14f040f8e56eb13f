package main

import (
	"github.com/spf13/cobra"
)

func (a *app) personAnonymizeCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "anonymize HANDLE",
		Short: "Forget who a person is, for good",
		Long: `Destroys the key under which the name, the address and all that the log knows
of a person are sealed, with the sealed rows, the device keys and the tokens;
ends what access there is; and replaces the handle by a pseudonym. It cannot be
undone, and the person cannot come back: invite somebody new for that.

The log keeps its records and all proofs verify. It shows a pseudonym in place
of the name, another one in each dataset. Details of other people's records
about the person, such as who granted a role from where, go too.

The database's free pages and journal are cleared at once, or at the next start
if it is large; a second call, with the pseudonym, tries again. Backups made
before keep what they have: see docs/people.md.`,
		Example: "  dsvault person anonymize alice",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes && !isTerminal(a.in) {
				return usage("anonymising needs your yes", "say --yes if you mean it; it cannot be undone")
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			if !yes {
				if err := a.confirm("Forget who " + clean(args[0]) + " is? It cannot be undone. Type yes: "); err != nil {
					return err
				}
			}
			done, err := s.Anonymize(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !done.Cleared {
				a.note("the database still holds traces; they are cleared within the hour, or at the next start of the server")
			}
			return a.result(done, "%s is %s from now on; ended %s, %s and %s", args[0], done.Pseudonym,
				plural(done.Tokens, "token", "tokens"), plural(done.Grants, "grant", "grants"),
				plural(done.Assignments, "assignment", "assignments"))
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it without asking")
	return cmd
}
