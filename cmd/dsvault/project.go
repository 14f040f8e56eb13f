package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

func (a *app) projectCmd() *cobra.Command {
	return group("project", "Create projects and change their terms", a.projectCreateCmd(), a.projectUpdateCmd())
}

// terms are the flags of a project's terms.
type terms struct {
	purposes, delivery, consent []string
	region, contract            string
	sensitive, claims           bool
	conditions                  conditionFlags
}

func (t *terms) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&t.purposes, "purpose", nil, "what the data may be used for; can be given several times")
	f.StringSliceVar(&t.consent, "consent", nil, "of the purposes, those that rest on the consent of whoever reads")
	f.StringVar(&t.region, "region", "", "only people of this region may read")
	f.BoolVar(&t.sensitive, "sensitive", false, "special categories of data: access takes two people; needs --contract")
	f.StringVar(&t.contract, "contract", "", "reference of the contract")
	f.StringSliceVar(&t.delivery, "delivery", nil, "ways of delivery that are allowed: sealed always is; opened, direct")
	t.conditions.flags(f)
	t.conditions.projectFlags(f)
	f.BoolVar(&t.claims, "claims", false, "annotators may claim shards that nobody works on")
}

func parseDeliveries(names []string) ([]dataset.Delivery, error) {
	ways := []dataset.Delivery{}
	for _, name := range names {
		d, err := dataset.ParseDelivery(name)
		if err != nil {
			return nil, err
		}
		ways = append(ways, d)
	}
	return ways, nil
}

func (a *app) projectCreateCmd() *cobra.Command {
	var t terms
	cmd := &cobra.Command{
		Use:   "create CLIENT/PROJECT",
		Short: "Create a project, one engagement of a client",
		Example: `  dsvault project create acme/signs --purpose labeling
  dsvault project create acme/faces --purpose labeling --purpose review --region eu --sensitive --contract C-17 --requires nda
  dsvault project create acme/clips --purpose labeling --delivery opened`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			p := wire.NewProject{Purposes: t.purposes, Consent: t.consent, Region: t.region, Sensitive: t.sensitive, Contract: t.contract, Claims: t.claims}
			if p.Scope, err = dataset.ParseScope(args[0]); err != nil {
				return err
			}
			if p.Delivery, err = parseDeliveries(t.delivery); err != nil {
				return err
			}
			if p.Conditions, _, err = t.conditions.changed(cmd.Flags()); err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			entry, err := s.CreateProject(cmd.Context(), p)
			if err != nil {
				return err
			}
			return a.result(entry, "created the project %s for %s", entry.Scope, strings.Join(entry.Purposes, ", "))
		},
	}
	t.flags(cmd.Flags())
	cmd.MarkFlagRequired("purpose")
	return cmd
}

func (a *app) projectUpdateCmd() *cobra.Command {
	var t terms
	cmd := &cobra.Command{
		Use:   "update CLIENT/PROJECT",
		Short: "Change the terms of a project",
		Long: `Changes the terms that are named; the others stay. What the new terms do not
allow ends at once. The terms of a sensitive project are changed by its client,
or by an admin once another one has approved.
An empty --region, --requires or --contract takes that term away.`,
		Example: `  dsvault project update acme/signs --delivery opened
  dsvault project update acme/signs --delivery sealed
  dsvault project update acme/signs --purpose labeling --purpose review --sensitive=false`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := dataset.ParseScope(args[0])
			if err != nil {
				return err
			}
			if scope.Depth() != 2 {
				return fault.New(fault.Invalid, "project update", "that is not the name of a project").WithHint("name it: CLIENT/PROJECT")
			}
			req, err := t.changed(cmd.Flags())
			if err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			entry, err := s.UpdateProject(cmd.Context(), scope, req)
			if err != nil {
				return err
			}
			if entry.Pending != nil {
				return a.pending(entry, entry.Pending)
			}
			return a.result(entry, "updated the project %s: %s delivery, for %s", entry.Scope,
				strings.Join(append([]string{string(dataset.Sealed)}, textsOf(entry.Delivery)...), ", "), strings.Join(entry.Purposes, ", "))
		},
	}
	t.flags(cmd.Flags())
	return cmd
}

// changed gives the terms whose flags were set.
func (t *terms) changed(f *pflag.FlagSet) (req wire.ProjectUpdate, err error) {
	any := false
	is := func(name string) bool {
		set := f.Changed(name)
		any = any || set
		return set
	}
	if is("purpose") {
		req.Purposes = &t.purposes
	}
	if is("consent") {
		req.Consent = &t.consent
	}
	if is("region") {
		req.Region = &t.region
	}
	if is("sensitive") {
		req.Sensitive = &t.sensitive
	}
	if is("claims") {
		req.Claims = &t.claims
	}
	if is("contract") {
		req.Contract = &t.contract
	}
	if is("delivery") {
		ways, err := parseDeliveries(t.delivery)
		if err != nil {
			return req, err
		}
		req.Delivery = &ways
	}
	conditions, some, err := t.conditions.changed(f)
	if err != nil {
		return req, err
	}
	req.Conditions = conditions
	if !any && !some {
		return req, usage("no term to change", "give at least one flag, for example --delivery opened")
	}
	return req, nil
}

func textsOf[T ~string](list []T) []string {
	texts := make([]string, len(list))
	for i, t := range list {
		texts[i] = string(t)
	}
	return texts
}
