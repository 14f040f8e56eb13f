package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

// Conditions gives what a scope and those above it ask of readers, to whoever
// may know of the scope.
func (v *Vault) Conditions(ctx context.Context, c identity.Caller, scope dataset.Scope) (wire.Conditions, error) {
	t, err := v.target(ctx, scope)
	if err != nil {
		return wire.Conditions{}, err
	}
	if err := checkConditionsScope(t.scope); err != nil {
		return wire.Conditions{}, err
	}
	in := v.intent(c, audit.KindList, t, rbac.Read, recordKind(t.scope))
	if !t.known {
		return wire.Conditions{}, v.absent(ctx, t, in)
	}
	seen, err := v.visible(ctx, c, t.scope)
	if err != nil {
		return wire.Conditions{}, err
	}
	if !seen {
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return wire.Conditions{}, err
		}
	}
	return v.conditions(ctx, t)
}

func (v *Vault) conditions(ctx context.Context, t target) (wire.Conditions, error) {
	out := wireConditions(storage.Conditions{Scope: t.scope})
	var rows []storage.Conditions
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		rows, err = tx.Conditions(ctx, t.scope)
		return err
	})
	for _, row := range rows {
		if row.Scope == t.scope {
			above := out.Above
			out = wireConditions(row)
			out.Above = above
		} else {
			out.Above = append(out.Above, wireConditions(row))
		}
	}
	return out, err
}

func wireConditions(c storage.Conditions) wire.Conditions {
	out := wire.Conditions{Scope: c.Scope, Requires: c.Requires, ContractorMax: int64(c.ContractorMax / time.Second),
		ContractorDelivery: c.ContractorDelivery, Hours: c.Hours, Networks: c.Networks, Transfers: c.Transfers}
	if out.Requires == nil {
		out.Requires = []string{}
	}
	return out
}

func checkConditionsScope(scope dataset.Scope) error {
	if scope.Depth() > 2 {
		return fault.New(fault.Invalid, "vault.Conditions", "a dataset has no conditions of its own").
			WithHint("set them at its project, CLIENT/PROJECT, at a client, or at / for the whole vault")
	}
	return nil
}

// UpdateConditions changes what a scope asks of readers. It holds from the moment
// that this returns; reads that do not meet it are cut.
func (v *Vault) UpdateConditions(ctx context.Context, c identity.Caller, scope dataset.Scope, req wire.ConditionsUpdate) (wire.Conditions, error) {
	t, err := v.target(ctx, scope)
	if err != nil {
		return wire.Conditions{}, err
	}
	if err := checkConditionsScope(t.scope); err != nil {
		return wire.Conditions{}, err
	}
	if t.scope.Depth() == 2 { // they are part of its terms
		entry, err := v.UpdateProject(ctx, c, t.scope, wire.ProjectUpdate{Conditions: req})
		if err != nil {
			return wire.Conditions{}, err
		}
		out, err := v.conditions(ctx, t)
		out.Pending = entry.Pending
		return out, err
	}
	in := v.intent(c, audit.KindConditions, t, rbac.Update, rbac.Org)
	if !t.known {
		return wire.Conditions{}, v.absent(ctx, t, in)
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.Conditions{}, err
	}
	asked, err := checkConditions(t.scope, &req)
	if err != nil {
		return wire.Conditions{}, err
	}
	if len(asked) == 0 {
		return wire.Conditions{}, fault.New(fault.Invalid, "vault.UpdateConditions", "no condition to change").WithHint("name at least one")
	}
	in.Note, in.PolicyChange = asked, true
	in.Note["scope"] = t.scope.String()
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		return putConditions(ctx, tx, t.row.Slot, t.scope, req)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Conditions{}, err
	}
	return v.conditions(ctx, t)
}

// putConditions changes a scope's row by a request that was checked.
func putConditions(ctx context.Context, tx *ledger.Tx, slot uint64, scope dataset.Scope, req wire.ConditionsUpdate) error {
	row := storage.Conditions{Slot: slot, Scope: scope}
	rows, err := tx.Conditions(ctx, scope)
	if err != nil {
		return err
	}
	if n := len(rows); n > 0 && rows[n-1].Scope == scope {
		row = rows[n-1]
	}
	set(&row.Requires, req.Requires)
	set(&row.ContractorDelivery, req.ContractorDelivery)
	set(&row.Hours, req.Hours)
	set(&row.Networks, req.Networks)
	set(&row.Transfers, req.Transfers)
	if req.ContractorMax != nil {
		row.ContractorMax = time.Duration(*req.ContractorMax) * time.Second
	}
	row.Revision = tx.Revision
	return tx.PutConditions(ctx, row)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// checkConditions looks at a change, puts it into the form in which it is kept,
// and says in words what it changes, for the sealed details.
func checkConditions(scope dataset.Scope, req *wire.ConditionsUpdate) (map[string]string, error) {
	const op = "vault.checkConditions"
	note := map[string]string{}
	lists := []struct {
		name  string
		list  *[]string
		most  int
		check func(string) (string, error)
	}{
		{"requires", req.Requires, wire.MaxRequires, dataset.ParseName},
		{"hours", req.Hours, wire.MaxHours, func(s string) (string, error) {
			_, err := rbac.ParseHours(s)
			return s, err
		}},
		{"networks", req.Networks, wire.MaxNetworks, func(s string) (string, error) {
			p, err := rbac.ParseNetwork(s)
			return p.String(), err
		}},
	}
	for _, l := range lists {
		if l.list == nil {
			continue
		}
		if len(*l.list) > l.most {
			return nil, fault.New(fault.TooLarge, op, fmt.Sprintf("%s has more than %d entries", l.name, l.most))
		}
		kept := []string{}
		for _, s := range *l.list {
			s, err := l.check(s)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(kept, s) {
				kept = append(kept, s)
			}
		}
		*l.list = kept
		note[l.name] = strings.Join(kept, "; ")
	}
	if n := req.ContractorMax; n != nil {
		most := int64(wire.MaxContractorMax / time.Second)
		if *n < 0 || *n > most {
			return nil, fault.New(fault.Invalid, op, "the longest grant of a contractor is at most ten years").WithHint("give for example 90d; 0 takes the limit away")
		}
		note["contractor-max"] = (time.Duration(*n) * time.Second).String()
	}
	if ways := req.ContractorDelivery; ways != nil {
		if scope.Depth() != 2 {
			return nil, fault.New(fault.Invalid, op, "how contractors get data is for the project to say").
				WithHint("name the project: CLIENT/PROJECT")
		}
		named := *ways
		if len(named) > maxPurposes {
			return nil, fault.New(fault.TooLarge, op, "too many ways of delivery")
		}
		for _, d := range named {
			if _, err := dataset.ParseDelivery(string(d)); err != nil {
				return nil, err
			}
		}
		kept := besidesSealed(named)
		*ways = kept
		note["contractor-delivery"] = strings.Join(textsOf(kept), ",")
	}
	if req.Transfers != nil {
		var err error
		if note["transfers"], err = checkTransfers(*req.Transfers); err != nil {
			return nil, err
		}
	}
	return note, nil
}

// checkTransfers looks at transfer bases, and gives them in words.
func checkTransfers(list []dataset.Transfer) (string, error) {
	const op = "vault.checkTransfers"
	if len(list) > wire.MaxTransfers {
		return "", fault.New(fault.TooLarge, op, fmt.Sprintf("more than %d transfer bases", wire.MaxTransfers))
	}
	var said []string
	for i, t := range list {
		if _, err := dataset.ParseName(t.Region); err != nil {
			return "", err
		}
		if _, err := dataset.ParseBasis(string(t.Basis)); err != nil {
			return "", err
		}
		if err := checkText("reference", t.Reference, wire.MaxProfile); err != nil {
			return "", err
		}
		switch {
		case slices.ContainsFunc(list[:i], func(o dataset.Transfer) bool { return o.Region == t.Region }):
			return "", fault.New(fault.Invalid, op, "the region "+t.Region+" has two transfer bases").WithHint("name one")
		case t.Basis == dataset.BasisSCC && t.Reference == "":
			return "", fault.New(fault.Invalid, op, "standard contractual clauses need a reference").WithHint("write for example us=scc:SCC-2026-17")
		}
		said = append(said, strings.TrimSuffix(t.Region+"="+string(t.Basis)+":"+t.Reference, ":"))
	}
	return strings.Join(said, "; "), nil
}

// besidesSealed puts ways of delivery into their one order, without the one that
// always is allowed.
func besidesSealed(named []dataset.Delivery) []dataset.Delivery {
	var kept []dataset.Delivery
	for _, d := range dataset.Deliveries {
		if d != dataset.Sealed && slices.Contains(named, d) {
			kept = append(kept, d)
		}
	}
	return kept
}

// clockLead is how much a caller's clock may be ahead where it sets an end.
const clockLead = 5 * time.Minute

// boundContractor holds the end of a contractor's grant against the longest that
// a scope and those above it allow.
func (v *Vault) boundContractor(ctx context.Context, g *dataset.Grant) error {
	if g.Role != dataset.Contractor {
		return nil
	}
	var rows []storage.Conditions
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		rows, err = tx.Conditions(ctx, g.Scope)
		return err
	})
	if err != nil {
		return err
	}
	longest := time.Duration(0)
	for _, row := range rows {
		if m := row.ContractorMax; m > 0 && (longest == 0 || m < longest) {
			longest = m
		}
	}
	if longest == 0 {
		return nil
	}
	switch over := g.Until.Sub(v.now().Add(longest)); {
	case over > clockLead:
		return fault.New(fault.Invalid, "vault.Grant", "a contractor's grant at "+g.Scope.String()+" lasts at most "+spanText(longest)).
			WithHint("give an earlier end, for example --until " + spanText(longest))
	case over > 0:
		g.Until = v.now().Add(longest)
	}
	return nil
}

// spanText is a span as --until takes it, rounded down.
func spanText(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= day && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", max(d/time.Minute, 1))
}
