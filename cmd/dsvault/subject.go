package main

import (
	"strings"

	"github.com/spf13/cobra"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func (a *app) subjectCmd() *cobra.Command {
	return group("subject", "What is held about a person, and what they decide about it",
		a.subjectShowCmd(), a.subjectExportCmd(), a.subjectCorrectCmd(), a.subjectRestrictCmd(), a.subjectLiftCmd(),
		a.subjectObjectCmd(), a.subjectDeleteCmd())
}

// whom is the person that a command names; oneself if it names none.
func whom(args []string) string {
	if len(args) == 0 {
		return "me"
	}
	return args[0]
}

func (a *app) subjectShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "show [PERSON]",
		Short:   "Show whether a person's data is restricted, and their consents and objections",
		Example: "  dsvault subject show\n  dsvault subject show alice",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			subject, err := s.Subject(cmd.Context(), whom(args))
			if err != nil {
				return err
			}
			return a.showSubject(subject)
		},
	}
}

func (a *app) showSubject(s wire.Subject) error {
	if a.json {
		return writeJSON(a.out, s)
	}
	t := newTable(a.out, "PERSON", "NAME", "EMAIL", "RESTRICTED")
	t.row(s.Person, s.Name, s.Email, untilText(s.Restricted))
	if err := t.flush(); err != nil || len(s.Choices) == 0 {
		return err
	}
	t = newTable(a.out, "CHOICE", "PURPOSE", "SINCE", "ENDED")
	for _, c := range s.Choices {
		t.row(string(c.Kind), c.Purpose, timeText(c.At), untilText(c.Ended))
	}
	return t.flush()
}

func (a *app) subjectExportCmd() *cobra.Command {
	var path, request string
	var once, sealed bool
	cmd := &cobra.Command{
		Use:   "export [PERSON]",
		Short: "Write all that is held about a person into a ZIP",
		Long: `Writes profile, roles, assignments, signatures, consents, requests, devices,
links, what the log has of the person and the details beside it, each as JSON and
as CSV. docs/rights.md describes the files.

Your own copy comes sealed to this machine's device key and is opened here, unless
you say --sealed. Of somebody else, for admins, it is sealed to the device key
that the person registered last, so that only they can open it: with "age -d -i
device.key". To somebody who has none a copy in clear is handed over, once, for a
request in the register that says who asked and how that was checked: --once
--request ID. Each copy is in the log before its first byte.`,
		Example: `  dsvault subject export
  dsvault subject export alice -o alice.zip.age
  dsvault subject export alice --once --request rrq_… -o alice.zip`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var req wire.NewSubjectExport
			if once != (request != "") {
				return usage("--once and --request belong together", "open a request with `dsvault request open`, and name it")
			}
			if once {
				id, err := dataset.ParseID[dataset.RightsID](request)
				if err != nil {
					return err
				}
				req.Request = id
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			who := whom(args)
			own := who == "me" || s.login.Handle != "" && who == s.login.Handle
			open := own && !once && !sealed
			if path == "" {
				name := who
				if who == "me" && s.login.Handle != "" {
					name = s.login.Handle
				}
				if path = name + "-export.zip"; !once && !open {
					path += ".age"
				}
			}
			file, err := newExport(path)
			if err != nil {
				return err
			}
			defer file.discard()
			if err := s.ExportSubject(cmd.Context(), who, req, open, file); err != nil {
				return err
			}
			if err := file.keep(); err != nil {
				return err
			}
			return a.result(struct {
				File string `json:"file"`
			}{path}, "wrote %s", path)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&path, "out", "o", "", "file to write; PERSON-export.zip, with .age if it stays sealed")
	f.BoolVar(&sealed, "sealed", false, "keep your own copy sealed")
	f.BoolVar(&once, "once", false, "hand a copy over in clear; needs --request")
	f.StringVar(&request, "request", "", "the request in the register that it is handed over for")
	return cmd
}

func (a *app) subjectCorrectCmd() *cobra.Command {
	var name, email, phone, company, job string
	cmd := &cobra.Command{
		Use:   "correct PERSON",
		Short: "Correct what is kept of a person; \"me\" is yourself",
		Long: `Replaces the fields that are named; an empty text takes one away. What it was
before is not kept. It does what "person update" does, and the log says that it
was a correction on request, and of which fields.`,
		Example: `  dsvault subject correct me --name "Alice Adams"
  dsvault subject correct alice --email alice@example.org`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var req wire.PersonUpdate
			for _, f := range []struct {
				name string
				text *string
				to   **string
			}{{"name", &name, &req.Name}, {"email", &email, &req.Email}, {"phone", &phone, &req.Phone},
				{"company", &company, &req.Company}, {"job-title", &job, &req.JobTitle}} {
				if cmd.Flags().Changed(f.name) {
					*f.to = f.text
				}
			}
			if req == (wire.PersonUpdate{}) {
				return usage("nothing to correct", "give --name, --email, --phone, --company or --job-title")
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			p, err := s.CorrectSubject(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			return a.result(p, "corrected what is kept of %s", p.Handle)
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

func (a *app) subjectRestrictCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "restrict PERSON",
		Short: "Restrict the processing of a person's data: keep it, and do not work with it",
		Long: `From now on the person reads no data, looks at no log, uploads nothing and gets no
roles or work; what they read at this moment is cut. Others cannot correct, copy
or anonymise what is held about them, and do not see name and address. They can
log in, exercise their rights and lift the restriction. The log stays as it is,
since others rely on it. You can do it for yourself ("me"), admins for others.`,
		Example: "  dsvault subject restrict me\n  dsvault subject restrict alice --reason \"disputes the address\"",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			subject, err := s.RestrictSubject(cmd.Context(), args[0], wire.Restriction{Reason: reason})
			if err != nil {
				return err
			}
			return a.result(subject, "the data of %s is kept, and not worked with until `dsvault subject lift %s`", subject.Person, subject.Person)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; kept sealed")
	return cmd
}

func (a *app) subjectLiftCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "lift PERSON",
		Short:   "End the restriction of a person's data",
		Long:    "Ends it for yourself (\"me\"), or as an admin for others, who are to be told before.",
		Example: "  dsvault subject lift alice",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			subject, err := s.LiftRestriction(cmd.Context(), args[0], wire.Restriction{Reason: reason})
			if err != nil {
				return err
			}
			return a.result(subject, "the data of %s is not restricted any more", subject.Person)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; kept sealed")
	return cmd
}

func (a *app) subjectObjectCmd() *cobra.Command {
	var req wire.PurposeChoice
	cmd := &cobra.Command{
		Use:   "object PERSON",
		Short: "Object to the processing of a person's data for a purpose",
		Long: `From now on the person reads nothing for that purpose, so that nothing is noted
about them for it; what they read for it at this moment is cut. --end takes the
objection back. You can do it for yourself ("me"), admins for others.`,
		Example: "  dsvault subject object me --purpose training\n  dsvault subject object me --purpose training --end",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.Purpose == "" {
				return usage("which purpose?", "name it with --purpose")
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			subject, err := s.ObjectTo(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			if req.End {
				return a.result(subject, "%s does not object to %s any more", subject.Person, req.Purpose)
			}
			return a.result(subject, "%s objects to %s", subject.Person, req.Purpose)
		},
	}
	cmd.Flags().StringVar(&req.Purpose, "purpose", "", "the purpose")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why; kept sealed")
	cmd.Flags().BoolVar(&req.End, "end", false, "take the objection back")
	return cmd
}

func (a *app) subjectDeleteCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete PERSON",
		Short: "Forget a person, as far as the law lets it; \"me\" asks for that",
		Long: `For an admin: anonymises the person as "person anonymize" does, closes their
requests for erasure, and says what is kept and why. It cannot be undone.

For yourself ("me"): enters a request for erasure into the register, which an
admin answers within a month. You cannot do it alone: whether a duty or a claim
stands against it is for others to say, and your access would end with it.`,
		Example: "  dsvault subject delete me\n  dsvault subject delete alice --yes",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes && !isTerminal(a.in) {
				return usage("deleting needs your yes", "say --yes if you mean it")
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			if !yes {
				if err := a.confirm("Delete " + clean(args[0]) + "? Type yes: "); err != nil {
					return err
				}
			}
			done, err := s.DeleteSubject(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.showDeleted(args[0], done)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do it without asking")
	return cmd
}

func (a *app) showDeleted(who string, d wire.Deleted) error {
	if a.json {
		return writeJSON(a.out, d)
	}
	if d.Request != nil {
		return a.result(d, "entered your request %s; it is to be answered by %s", d.Request.ID, d.Request.Deadline)
	}
	if !d.Anonymized.Cleared {
		a.note("the database still holds traces; they are cleared within the hour, or at the next start of the server")
	}
	if err := a.result(d, "%s is %s from now on; kept:", who, d.Anonymized.Pseudonym); err != nil {
		return err
	}
	t := newTable(a.out, "WHAT", "HOW MANY", "WHY")
	for _, k := range d.Kept {
		count := "all"
		if k.Count > 0 {
			count = plural(k.Count, "row", "rows")
		}
		t.row(k.What, count, k.Why)
	}
	return t.flush()
}

func (a *app) consentCmd() *cobra.Command {
	give := a.consentChoiceCmd("give", "Consent to a purpose that rests on consent", `You may read for that purpose then. It can be withdrawn at any time.`, false)
	withdraw := a.consentChoiceCmd("withdraw", "Withdraw a consent; what rests on it stops at once",
		`Nothing is read for that purpose by you any more, and what you read for it at this
moment is cut. What was done before stays lawful, and stays in the log.`, true)
	return group("consent", "Give and withdraw your consent to a purpose", give, withdraw)
}

func (a *app) consentChoiceCmd(name, short, long string, end bool) *cobra.Command {
	var person string
	cmd := &cobra.Command{
		Use:     name + " PURPOSE",
		Short:   short,
		Long:    long,
		Example: "  dsvault consent " + name + " research",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			subject, err := s.Consent(cmd.Context(), whom(strings.Fields(person)), wire.PurposeChoice{Purpose: args[0], End: end})
			if err != nil {
				return err
			}
			if end {
				return a.result(subject, "%s does not consent to %s any more", subject.Person, args[0])
			}
			return a.result(subject, "%s consents to %s", subject.Person, args[0])
		},
	}
	if end {
		cmd.Flags().StringVar(&person, "person", "", "for admins: who has withdrawn it in another way")
	}
	return cmd
}
