package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// conditionFlags are the flags of what a scope asks of readers.
type conditionFlags struct {
	requires, hours, networks []string
	contractorDelivery        []string
	transfers                 []string
	contractorMax             string
}

func (c *conditionFlags) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&c.requires, "requires", nil, "agreement that readers have to sign; can be given several times")
	f.StringVar(&c.contractorMax, "contractor-max", "", "longest grant of a contractor, for example 90d; 0 for no limit")
	f.StringArrayVar(&c.hours, "hours", nil, `hours in which contractors may read, "Mon-Fri 08:00-18:00 Europe/Berlin"; can be given several times`)
	f.StringSliceVar(&c.networks, "networks", nil, "networks from which contractors may read, for example 192.0.2.0/24")
}

// transferFlag is not on every command that has the others.
func (c *conditionFlags) transferFlag(f *pflag.FlagSet) {
	f.StringArrayVar(&c.transfers, "transfer", nil, "basis on which people of another region may read: us=adequacy, us=scc:REFERENCE; can be given several times")
}

// projectFlags are those that only a project has.
func (c *conditionFlags) projectFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&c.contractorDelivery, "contractor-delivery", nil, "ways of delivery that contractors may use besides sealed: opened, direct")
}

// changed gives the conditions whose flags were set, and whether any was.
func (c *conditionFlags) changed(f *pflag.FlagSet) (req wire.ConditionsUpdate, any bool, err error) {
	is := func(name string) bool {
		set := f.Changed(name)
		any = any || set
		return set
	}
	list := func(values []string) *[]string {
		kept := slices.DeleteFunc(slices.Clone(values), func(s string) bool { return s == "" })
		if kept == nil {
			kept = []string{}
		}
		return &kept
	}
	if is("requires") {
		req.Requires = list(c.requires)
	}
	if is("hours") {
		req.Hours = list(c.hours)
	}
	if is("networks") {
		req.Networks = list(c.networks)
	}
	if is("contractor-max") {
		longest := int64(0)
		if c.contractorMax != "0" {
			span, err := parseSpan("contractor-max", c.contractorMax)
			if err != nil {
				return req, any, err
			}
			longest = int64(span / time.Second)
		}
		req.ContractorMax = &longest
	}
	if is("contractor-delivery") {
		ways, err := parseDeliveries(*list(c.contractorDelivery))
		if err != nil {
			return req, any, err
		}
		req.ContractorDelivery = &ways
	}
	if is("transfer") {
		transfers := []dataset.Transfer{}
		for _, text := range *list(c.transfers) {
			region, rest, ok := strings.Cut(text, "=")
			basis, reference, _ := strings.Cut(rest, ":")
			if !ok {
				return req, any, usage("bad --transfer "+clip(text), "give REGION=adequacy or REGION=scc:REFERENCE")
			}
			transfers = append(transfers, dataset.Transfer{Region: region, Basis: dataset.Basis(basis), Reference: reference})
		}
		req.Transfers = &transfers
	}
	return req, any, nil
}

func (a *app) conditionsCmd() *cobra.Command {
	var c conditionFlags
	cmd := &cobra.Command{
		Use:   "conditions [SCOPE]",
		Short: "Show or change what a scope asks of those who read there",
		Long: `Without flags, shows what the vault (/), a client or a project asks of readers,
and what the scopes above it ask: all of it holds together. With flags, changes
those that are named; an empty value takes one away. What they do not allow any
more ends at once.

An agreement that is required has to be signed by every reader but the data's
owner. --transfer is for projects that have a region, and people of another one.
The other conditions are for contractors.`,
		Example: `  dsvault conditions acme/signs
  dsvault conditions / --requires nda --contractor-max 90d
  dsvault conditions acme/signs --hours "Mon-Fri 08:00-18:00 Europe/Berlin" --networks 192.0.2.0/24
  dsvault conditions acme/signs --contractor-delivery opened
  dsvault conditions acme --transfer uk=adequacy --transfer us=scc:SCC-2026-17
  dsvault conditions acme --requires ""`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := scopeArg(args)
			if err != nil {
				return err
			}
			req, change, err := c.changed(cmd.Flags())
			if err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			var out wire.Conditions
			if change {
				out, err = s.UpdateConditions(cmd.Context(), scope, req)
			} else {
				out, err = s.Conditions(cmd.Context(), scope)
			}
			if err != nil {
				return err
			}
			if out.Pending != nil {
				return a.pending(out, out.Pending)
			}
			return a.printConditions(out)
		},
	}
	c.flags(cmd.Flags())
	c.projectFlags(cmd.Flags())
	c.transferFlag(cmd.Flags())
	return cmd
}

func (a *app) printConditions(c wire.Conditions) error {
	if a.json {
		return writeJSON(a.out, c)
	}
	above := c.Above
	t := newTable(a.out, "SCOPE", "ASKS", "OF", "VALUE")
	for _, c := range append(slices.Clone(above), c) {
		row := func(asks, of, value string) {
			if value != "" {
				t.row(c.Scope.String(), asks, of, value)
			}
		}
		row("requires", "readers", strings.Join(c.Requires, ", "))
		if c.ContractorMax > 0 {
			row("contractor-max", "contractors", durationText(time.Duration(c.ContractorMax)*time.Second))
		}
		row("contractor-delivery", "contractors", strings.Join(textsOf(c.ContractorDelivery), ", "))
		row("hours", "contractors", strings.Join(c.Hours, "; "))
		row("networks", "contractors", strings.Join(c.Networks, ", "))
		for _, g := range c.Transfers {
			row("transfer", "readers in "+g.Region, strings.TrimSpace(string(g.Basis)+" "+g.Reference))
		}
	}
	if t.rows == 1 {
		_, err := fmt.Fprintf(a.out, "%s asks nothing of readers\n", clean(c.Scope.String()))
		return err
	}
	return t.flush()
}

// durationText is a span as flags take it.
func durationText(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return d.String()
}

func (a *app) agreementStatusCmd() *cobra.Command {
	var person string
	var missing bool
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show who has signed which agreement, and whether it counts",
		Long: `Shows how people stand to the agreements that they have to sign, or ever signed:
everybody to admins and auditors, you alone to you. A signature is in force; on
an older version that counts for a while yet (grace); on one that counts no more
(outdated); expired; or not there (unsigned).`,
		Example: `  dsvault agreement status
  dsvault agreement status nda --missing
  dsvault agreement status --person carl`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 {
				var err error
				if name, err = dataset.ParseName(args[0]); err != nil {
					return err
				}
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			rows := func(yield func(wire.SignatureStatus, error) bool) {
				for row, err := range s.Signatures(cmd.Context(), person) {
					if err == nil && (name != "" && row.Agreement != name || missing && (row.InForce() || !row.Required)) {
						continue
					}
					if !yield(row, err) {
						return
					}
				}
			}
			header := []string{"PERSON", "AGREEMENT", "STATE", "SIGNED", "NEWEST", "AT", "COUNTS UNTIL"}
			return list(a, rows, header, func(g wire.SignatureStatus) []string {
				signed, at := "", ""
				if g.Version > 0 {
					signed, at = fmt.Sprint(g.Version), timeText(*g.At)
				}
				counts := ""
				if g.InForce() {
					counts = untilText(g.Counts)
				}
				return []string{g.Person, g.Agreement, string(g.State), signed, fmt.Sprint(g.Newest), at, counts}
			})
		},
	}
	cmd.Flags().StringVar(&person, "person", "", "only this person's; me for your own")
	cmd.Flags().BoolVar(&missing, "missing", false, "only what is required and not in force")
	return cmd
}
