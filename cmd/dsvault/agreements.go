package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

func (a *app) agreementCmd() *cobra.Command {
	return group("agreement", "Publish and sign confidentiality agreements",
		a.agreementPublishCmd(), a.agreementSignCmd(), a.agreementWithdrawCmd(), a.agreementStatusCmd(), a.agreementShowCmd(), a.agreementListCmd())
}

func (a *app) agreementPublishCmd() *cobra.Command {
	var grace string
	cmd := &cobra.Command{
		Use:   "publish NAME FILE",
		Short: "Publish a new version of an agreement (FILE - is stdin)",
		Long: `Publishes a new version. Whoever signed an earlier one has to sign again before
they read on where it is required: at once, or after --grace. Contractors have to
sign "nda" where nothing else is required.`,
		Example: "  dsvault agreement publish nda nda.txt\n  dsvault agreement publish nda nda.txt --grace 14d",
		Args:    args(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := wire.Publish{Name: args[0]}
			if grace != "" {
				span, err := parseSpan("grace", grace)
				if err != nil {
					return err
				}
				req.Grace = int64(span / time.Second)
			}
			text, err := a.readText(args[1], wire.MaxAgreement)
			if err != nil {
				return err
			}
			req.Text = text
			s, err := a.connect()
			if err != nil {
				return err
			}
			g, err := s.Publish(cmd.Context(), req)
			if err != nil {
				return err
			}
			older := ""
			if g.Grace != nil {
				older = "; older versions count until " + timeText(*g.Grace)
			}
			return a.result(g, "published %s version %d, SHA-256 %s%s", g.Name, g.Version, g.SHA256, older)
		},
	}
	cmd.Flags().StringVar(&grace, "grace", "", "how long signatures of older versions count yet, for example 14d; not at all if left out")
	return cmd
}

// readText reads a file of at most so many bytes; "-" is stdin.
func (a *app) readText(path string, most int64) (string, error) {
	const op = "dsvault.readText"
	r := a.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", unreadable(op, path, err)
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return "", unreadable(op, path, err)
	}
	if int64(len(data)) > most {
		return "", fault.New(fault.TooLarge, op, fmt.Sprintf("%s is over %s", path, size(most)))
	}
	return string(data), nil
}

func (a *app) agreementSignCmd() *cobra.Command {
	var until string
	var yes bool
	cmd := &cobra.Command{
		Use:   "sign NAME",
		Short: "Read and sign the newest version of an agreement",
		Long: `Shows the newest version and asks whether you accept it. What is signed is the
hash of exactly the text that was shown. Without a terminal, --yes says that
you accept it.`,
		Example: "  dsvault agreement sign nda\n  dsvault agreement sign nda --until 1y --yes",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			end, err := parseUntil(until, now())
			if err != nil {
				return err
			}
			if !yes && !isTerminal(a.in) {
				return usage("signing needs your yes", "say --yes after reading `dsvault agreement show "+clip(args[0])+"`")
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			g, err := s.Agreement(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			hash, err := checkText(g)
			if err != nil {
				return err
			}
			shown := a.out
			if a.json {
				shown = a.err // stdout is for the document
			}
			fmt.Fprintln(shown, cleanText(strings.TrimRight(g.Text, "\n")))
			fmt.Fprintf(shown, "\n%s version %d, SHA-256 %x\n", clean(g.Name), g.Version, hash)
			if !yes {
				if err := a.confirm("Do you accept this agreement? Type yes: "); err != nil {
					return err
				}
			}
			sig, err := s.Sign(cmd.Context(), args[0], wire.Sign{Version: g.Version, SHA256: hash[:], Until: end})
			if err != nil {
				return err
			}
			return a.result(sig, "signed %s version %d as %s%s", sig.Agreement, sig.Version, sig.Person, forUntil(sig.Until))
		},
	}
	cmd.Flags().StringVar(&until, "until", "", "end of the signature: 1y, 90d, a date")
	cmd.Flags().BoolVar(&yes, "yes", false, "accept without being asked")
	return cmd
}

func (a *app) agreementWithdrawCmd() *cobra.Command {
	var person string
	cmd := &cobra.Command{
		Use:   "withdraw NAME",
		Short: "Withdraw a signature; reads that rest on it stop at once",
		Long: `Ends your signatures under an agreement, whichever version they are under. Where
it is required you read nothing from then on, and what you read at this moment is
cut. That you had signed stays in the log. You can sign again.`,
		Example: "  dsvault agreement withdraw nda\n  dsvault agreement withdraw nda --person kim",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			out, err := s.WithdrawSignature(cmd.Context(), args[0], whom(strings.Fields(person)))
			if err != nil {
				return err
			}
			return a.result(out, "%s under %s withdrawn", plural(out.Ended, "signature", "signatures"), args[0])
		},
	}
	cmd.Flags().StringVar(&person, "person", "", "for admins: who has withdrawn it in another way")
	return cmd
}

// checkText hashes the text and compares it with the hash that came with it.
func checkText(g wire.Agreement) ([32]byte, error) {
	hash := sha256.Sum256([]byte(g.Text))
	if string(hash[:]) != string(g.SHA256) {
		return hash, fault.New(fault.Corrupt, "dsvault.agreement", "the agreement's text does not have the hash that the server says").
			WithHint("tell the operator; do not sign it")
	}
	return hash, nil
}

func (a *app) confirm(question string) error {
	fmt.Fprint(a.err, question)
	answer, err := bufio.NewReader(io.LimitReader(a.in, 100)).ReadString('\n')
	if err != nil && err != io.EOF {
		return fault.Wrap(fault.Invalid, "dsvault.confirm", "cannot read the answer", err)
	}
	if strings.TrimSpace(answer) != "yes" {
		return fault.New(fault.Canceled, "dsvault.confirm", "not done: the answer was not yes")
	}
	return nil
}

func (a *app) agreementShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "Show the newest version of an agreement",
		Example: "  dsvault agreement show nda",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			g, err := s.Agreement(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if _, err := checkText(g); err != nil {
				return err
			}
			if a.json {
				return writeJSON(a.out, g)
			}
			_, err = fmt.Fprintln(a.out, cleanText(strings.TrimRight(g.Text, "\n")))
			return err
		},
	}
}

func (a *app) agreementListCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the agreements",
		Example: "  dsvault agreement list",
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			header := []string{"NAME", "VERSION", "PUBLISHED", "SHA-256"}
			return list(a, s.Agreements(cmd.Context()), header, func(g wire.Agreement) []string {
				return []string{g.Name, strconv.Itoa(g.Version), timeText(g.At), g.SHA256.String()}
			})
		},
	}
}
