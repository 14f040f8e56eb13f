package rbac

import (
	"net/netip"
	"slices"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// conditions are what a scope asks of those who read at it or below it. Those
// of all scopes that contain a place hold there, together.
type conditions struct {
	requires  []string           // agreements
	longest   int64              // of a contractor's grant, nanoseconds; 0: no limit
	delivery  []dataset.Delivery // besides sealed, to contractors; of a project
	timed     bool               // contractors read in these hours only
	hours     []Hours
	networks  []netip.Prefix // contractors read from these only; none: from anywhere
	transfers []dataset.Transfer
}

// ConditionsChange replaces a scope's conditions. Hours and networks that do not
// parse are never met.
type ConditionsChange struct {
	Scope              dataset.Scope
	Requires           []string           // agreements that every reader but the owner has to have signed
	ContractorMax      time.Duration      // the longest that a contractor's grant may be; 0: no limit
	ContractorDelivery []dataset.Delivery // of a project: ways besides sealed for contractors
	Hours              []string           // in which contractors may read; none: always
	Networks           []string           // from which contractors may read; none: from anywhere
	Transfers          []dataset.Transfer // on which bases people of other regions may read
}

func (c ConditionsChange) apply(w *World) {
	n := w.scope(c.Scope)
	next := &conditions{
		requires: slices.Clone(c.Requires), longest: int64(c.ContractorMax), delivery: slices.Clone(c.ContractorDelivery),
		timed: len(c.Hours) > 0, transfers: slices.Clone(c.Transfers),
	}
	for _, s := range c.Hours {
		if h, err := ParseHours(s); err == nil {
			next.hours = append(next.hours, h)
		}
	}
	for _, s := range c.Networks {
		p, _ := ParseNetwork(s) // the zero prefix contains nothing
		next.networks = append(next.networks, p)
	}
	w.scopes[n].conditions = next
}

// ParseNetwork reads a network such as 192.0.2.0/24, or one address.
func ParseNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(s); err == nil && a.Zone() == "" {
			p = netip.PrefixFrom(a, a.BitLen())
		}
	}
	if err != nil || !p.IsValid() || p.Addr().Is4In6() {
		return netip.Prefix{}, fault.Wrap(fault.Invalid, "rbac.ParseNetwork", "that is not a network", err).
			WithHint("write it as 192.0.2.0/24, 2001:db8::/48, or one address")
	}
	return p.Masked(), nil
}

// gatherConditions notes what the scopes that contain a place ask for.
func (w *World) gatherConditions(g *grounds, p *person, q *Query, at *scope) {
	inProject := w.projectAt(at) != nil
	g.open, g.longest = forever, forever
	signed, required := int64(forever), false
	for d := range at.depth + 1 {
		c := w.scopes[at.chain[d]].conditions // a place that is not there has number 0, and none
		if c == nil {
			continue
		}
		if c.longest > 0 {
			g.longest = min(g.longest, c.longest)
		}
		if c.timed {
			g.open = min(g.open, openUntil(c.hours, q.Now))
		}
		if len(c.networks) > 0 && !within(c.networks, q.Address) {
			g.fixed |= OffNetwork
		}
		for _, name := range c.requires {
			signed, required = min(signed, w.signed(p, name)), true
		}
	}
	if !inProject {
		return
	}
	if required {
		g.fixed |= Required
	} else {
		signed = w.signed(p, DefaultAgreement)
	}
	g.signed = signed
	if way := q.Delivery; way != "" && way != dataset.Sealed {
		if c := w.scopes[at.chain[2]].conditions; c == nil || !slices.Contains(c.delivery, way) {
			g.fixed |= StaffOnly
		}
	}
}

// transfer is the basis on which people of a region read at a place: that of the
// nearest scope that names the region, or nil.
func (w *World) transfer(at *scope, region string) *dataset.Transfer {
	for d := int(at.depth); d >= 0 && region != ""; d-- {
		if c := w.scopes[at.chain[d]].conditions; c != nil {
			for i := range c.transfers {
				if t := &c.transfers[i]; t.Region == region {
					return t
				}
			}
		}
	}
	return nil
}

// crossing is the region of a person, and the basis on which they read at a place
// if one is needed.
func (w *World) crossing(p *person, at *scope) Crossing {
	c := Crossing{Region: p.region, Basis: dataset.BasisNone}
	if terms := w.projectAt(at); terms != nil && terms.region != "" && terms.region != p.region {
		c.Basis = ""
		if t := w.transfer(at, p.region); t != nil {
			c.Basis, c.Reference = t.Basis, t.Reference
		}
	}
	return c
}

// Crossing says where the data of a read goes, and on which basis.
type Crossing struct {
	Region    string // the reader's, as declared; empty: none
	Basis     dataset.Basis
	Reference string
}

// within reports whether an address is in one of the networks; an unknown one
// is in none.
func within(networks []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// signed is the end of somebody's signature on an agreement. One on an older
// version counts until the grace of each later one has ended.
func (w *World) signed(p *person, name string) int64 {
	if len(p.signatures) == 0 {
		return 0
	}
	graces := w.graces[name]
	last := int64(0)
	for i := range p.signatures {
		s := &p.signatures[i]
		if s.agreement != name || s.version < 1 || s.version > len(graces) {
			continue
		}
		end := s.until
		for _, grace := range graces[s.version:] {
			end = min(end, grace)
		}
		last = max(last, end)
	}
	return last
}

// Unsigned is an agreement that a refused person has no signature in force of.
type Unsigned struct {
	Agreement string
	Published bool // there is a text to sign
}

// unsigned lists what keeps the fact nda from holding.
func (w *World) unsigned(p *person, at *scope, now int64) []Unsigned {
	var names []string
	for d := range at.depth + 1 {
		if c := w.scopes[at.chain[d]].conditions; c != nil {
			names = append(names, c.requires...)
		}
	}
	if len(names) == 0 {
		names = []string{DefaultAgreement}
	}
	slices.Sort(names)
	var list []Unsigned
	for _, name := range slices.Compact(names) {
		if w.signed(p, name) <= now {
			list = append(list, Unsigned{Agreement: name, Published: len(w.graces[name]) > 0})
		}
	}
	return list
}
