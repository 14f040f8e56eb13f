package vault

import (
	"cmp"
	"context"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// readHolders looks at those who hold a role now: who is idle, and who has
// signed what the role asks for. It also puts names to the rows of reads.
func (r *report) readHolders(ctx context.Context) error {
	asked := map[string]map[dataset.PrincipalID]bool{} // agreement -> who is to have signed it
	idle := map[dataset.PrincipalID]bool{}             // whether somebody is
	until := r.query.Until
	if r.made.Before(until) {
		until = r.made
	}
	since := until.AddDate(0, 0, -r.query.IdleDays)
	err := r.v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		r.standing, err = newStanding(ctx, tx, r.made)
		return err
	})
	if err != nil {
		return err
	}
	for after := (dataset.GrantID{}); ; {
		var rows []dataset.Grant
		err := r.v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			rows, err = tx.Grants(ctx, storage.GrantQuery{Under: r.scope, After: after, Limit: wire.MaxPage})
			if err != nil {
				return err
			}
			for _, g := range rows {
				if !g.InForce(r.made) {
					continue
				}
				if err := r.holder(ctx, tx, g, since, until, idle, asked); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(rows) < wire.MaxPage {
			break
		}
		after = rows[len(rows)-1].ID
	}
	return r.v.db.View(ctx, func(tx *catalog.Tx) error {
		if err := r.nameReads(ctx, tx); err != nil {
			return err
		}
		return r.signatures(ctx, tx, asked)
	})
}

func (r *report) holder(ctx context.Context, tx *catalog.Tx, g dataset.Grant, since, until time.Time,
	idle map[dataset.PrincipalID]bool, asked map[string]map[dataset.PrincipalID]bool) error {
	is, known := idle[g.Principal]
	if !known {
		is = true
		q := storage.LeafQuery{Principal: g.Principal, Under: r.scope, SinceUS: since.UnixMicro(), To: r.end, Limit: 1}
		err := tx.Leaves(ctx, q, func(l storage.Leaf) error {
			is = l.Time >= until.UnixMicro()
			return nil
		})
		if err != nil {
			return err
		}
		idle[g.Principal] = is
	}
	if is && g.At.Before(since) { // somebody new has had no time yet
		if len(r.out.Idle) == wire.MaxReport {
			r.left["idle"]++
		} else {
			r.out.Idle = append(r.out.Idle, wire.ReportIdle{Person: r.name(ctx, tx, g.Principal), Role: g.Role, Scope: g.Scope,
				Since: g.At, Until: timePtr(g.Until)})
		}
	}
	for _, name := range requiredOf(r.standing.conditions, g) {
		if asked[name] == nil {
			asked[name] = map[dataset.PrincipalID]bool{}
		}
		asked[name][g.Principal] = true
	}
	return nil
}

// maxLastChecks is how many checks are looked through for the last one.
const maxLastChecks = 1000

// readReviews adds the access reviews of the time, and the last comparison of
// storage with the catalog that covers the scope.
func (r *report) readReviews(ctx context.Context) error {
	return r.v.db.View(ctx, func(tx *catalog.Tx) error {
		names := r.v.names(ctx, tx)
		for before := (dataset.ReviewID{}); ; {
			rows, err := tx.Reviews(ctx, r.scope, before, catalog.MaxPage)
			if err != nil {
				return err
			}
			for _, row := range rows {
				before = row.ID
				if !row.StartedAt.Before(r.query.Until) || !row.EndedAt.IsZero() && row.EndedAt.Before(r.query.From) {
					continue
				}
				if len(r.out.Reviews) == wire.MaxReport {
					r.left["reviews"]++
					continue
				}
				w, err := wireReview(ctx, tx, row, names)
				if err != nil {
					return err
				}
				r.out.Reviews = append(r.out.Reviews, w)
			}
			if len(rows) < catalog.MaxPage {
				break
			}
		}
		checks, err := tx.Checks(ctx, dataset.Root, dataset.CheckID{}, maxLastChecks)
		if err != nil {
			return err
		}
		for _, c := range checks {
			if c.State == storage.CheckFinished && c.EndedAt.Before(r.query.Until) && c.Scope.Contains(r.scope) {
				r.out.LastCheck = &wire.ReportLast{Time: c.EndedAt.UTC(), By: names(c.StartedBy), Scope: c.Scope.String(), Result: "sound"}
				if c.Missing > 0 || c.Changed > 0 {
					r.out.LastCheck.Result = "damaged"
				}
				break
			}
		}
		return nil
	})
}

// signatures counts who has signed the newest version.
func (r *report) signatures(ctx context.Context, tx *catalog.Tx, asked map[string]map[dataset.PrincipalID]bool) error {
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		row := wire.ReportAgreement{Agreement: name, Asked: len(asked[name]), Missing: []string{}}
		row.Version = len(r.standing.versions[name])
		for who := range asked[name] {
			list, err := tx.Signatures(ctx, who)
			if err != nil {
				return err
			}
			if r.standing.status(name, list).InForce() {
				row.Signed++
			} else if len(row.Missing) == wire.MaxReport {
				r.left["agreements"]++
			} else {
				row.Missing = append(row.Missing, r.name(ctx, tx, who))
			}
		}
		slices.Sort(row.Missing)
		r.out.Signed = append(r.out.Signed, row)
	}
	return nil
}

// name gives a handle, reading each once.
func (r *report) name(ctx context.Context, tx *catalog.Tx, id dataset.PrincipalID) string {
	name, known := r.names[id]
	if !known {
		if p, err := tx.Principal(ctx, id); err == nil {
			name = p.Handle
		}
		r.names[id] = name
	}
	return name
}

// nameReads makes the rows of reads.
func (r *report) nameReads(ctx context.Context, tx *catalog.Tx) error {
	for key, row := range r.reads {
		name, err := r.scopeOf(ctx, tx, key.slot)
		if err != nil {
			return err
		}
		row.Dataset = name
		if key.who == (person{}) {
			row.Person = "withheld"
		} else if key.who.id.IsZero() {
			row.Person = "~" + hex.EncodeToString(key.who.tag[:])
		} else {
			row.Person = r.name(ctx, tx, key.who.id)
		}
	}
	return nil
}

// finish puts the rows in order.
func (r *report) finish() wire.AuditReport {
	for _, row := range r.reads {
		r.out.Reads = append(r.out.Reads, *row)
	}
	slices.SortFunc(r.out.Reads, func(a, b wire.ReportReads) int {
		return cmp.Or(strings.Compare(a.Dataset, b.Dataset), strings.Compare(a.Person, b.Person))
	})
	for key, n := range r.refusals {
		r.out.Refusals = append(r.out.Refusals, wire.ReportRefusals{Kind: key.kind, Reason: key.reason, Count: n.count, People: len(n.people)})
	}
	slices.SortFunc(r.out.Refusals, func(a, b wire.ReportRefusals) int {
		return cmp.Or(b.Count-a.Count, strings.Compare(a.Kind, b.Kind), strings.Compare(a.Reason, b.Reason))
	})
	for _, row := range r.verified {
		r.out.Verified = append(r.out.Verified, *row)
		if last := r.out.LastVerified; last == nil || row.Last.After(last.Time) {
			r.out.LastVerified = &wire.ReportLast{Time: row.Last, By: row.Person}
		}
	}
	slices.SortFunc(r.out.Verified, func(a, b wire.ReportVerified) int { return strings.Compare(a.Person, b.Person) })
	slices.SortFunc(r.out.Idle, func(a, b wire.ReportIdle) int {
		return cmp.Or(strings.Compare(a.Person, b.Person), strings.Compare(a.Scope.String(), b.Scope.String()), strings.Compare(string(a.Role), string(b.Role)))
	})
	if len(r.left) > 0 {
		r.out.LeftOff = r.left
	}
	return r.out
}
