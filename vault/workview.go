package vault

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/identity"
	"dsvault/vault/wire"
)

// What a shard's work is before anybody has returned it.
const (
	workFree     = "free"
	workClaimed  = "claimed"
	workAssigned = "assigned"
)

// Work lists where the work on the shards of a scope stands: to those who may see
// its assignments and to its owner all of it, to others what is their own.
func (v *Vault) Work(ctx context.Context, c identity.Caller, under dataset.Scope, after string, limit int) (wire.Page[wire.ShardWork], error) {
	page := wire.Page[wire.ShardWork]{Items: []wire.ShardWork{}}
	t, err := v.target(ctx, under)
	if err != nil {
		return page, err
	}
	in := v.intent(c, audit.KindList, t, rbac.Read, rbac.AssignmentObj)
	if !t.known {
		return page, v.absent(ctx, t, in)
	}
	all, err := v.seesWork(ctx, c, t)
	if err != nil {
		return page, err
	}
	cursor := dataset.ShardRef{Dataset: dataset.Root, Number: -1}
	if after != "" {
		if cursor, err = dataset.ParseShardRef(after); err != nil {
			return page, err
		}
	}
	limit = clip(limit, wire.MaxPage)
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		names := v.names(ctx, tx)
		for scanned := 0; len(page.Items) < limit && scanned < 20; scanned++ { // datasets of one page
			d, ok, err := nextDataset(ctx, tx, t.scope, cursor)
			if err != nil || !ok {
				cursor.Dataset = dataset.Root
				return err
			}
			if d.Scope != cursor.Dataset {
				cursor = dataset.ShardRef{Dataset: d.Scope, Number: -1}
			}
			b := board{dataset: d, now: v.now(), names: names}
			if !all {
				b.only = c.Principal
			}
			last, err := b.rows(ctx, tx, cursor.Number, limit-len(page.Items))
			if err != nil {
				return err
			}
			page.Items = append(page.Items, b.out...)
			cursor.Number = last
		}
		return nil
	})
	if err == nil && cursor.Dataset != dataset.Root {
		page.Next = cursor.String()
	}
	return page, err
}

// seesWork tells those who oversee the work at a scope from those who do it.
// Others are refused.
func (v *Vault) seesWork(ctx context.Context, c identity.Caller, t target) (all bool, err error) {
	in := v.intent(c, audit.KindList, t, rbac.Read, rbac.AssignmentObj)
	owner := in.Query
	owner.Object.Kind = rbac.Dataset
	d, err := v.decide(ctx, owner)
	if err != nil {
		return false, err
	}
	all, err = v.allowed(ctx, in.Query)
	if all = all || d.Allowed && d.Roles.Has(dataset.ClientUser); all || err != nil {
		return all, err
	}
	in.Query.Object.Owner = c.Principal
	_, err = v.ledger.Check(ctx, in)
	return false, err
}

// decide asks without recording anything. An error is no answer.
func (v *Vault) decide(ctx context.Context, q rbac.Query) (rbac.Decision, error) {
	q.Now = v.now()
	return v.ledger.Decide(ctx, q)
}

// nextDataset gives the dataset that the cursor is in, if there are more shards
// of it, or else the next one.
func nextDataset(ctx context.Context, tx *catalog.Tx, under dataset.Scope, cursor dataset.ShardRef) (d storage.Dataset, ok bool, err error) {
	from := cursor.Dataset.String()
	if cursor.Dataset == dataset.Root {
		from = ""
	}
	if cursor.Number < endOfShards && from != "" {
		d, err := tx.Dataset(ctx, cursor.Dataset)
		if err == nil && under.Contains(d.Scope) {
			return d, true, nil
		}
		if none(err) != nil {
			return d, false, err
		}
	}
	list, err := tx.DatasetsUnder(ctx, under, from, 1)
	if err != nil || len(list) == 0 {
		return d, false, err
	}
	return list[0], true, nil
}

// endOfShards: no shard comes behind it.
const endOfShards = dataset.MaxShards - 1

// behind gives the shards of a set behind one.
func behind(s dataset.ShardSet, after int) (rest dataset.ShardSet) {
	for _, r := range s {
		if r.Last > after {
			rest = append(rest, dataset.ShardRange{First: max(r.First, after+1), Last: r.Last})
		}
	}
	return rest
}

// board is the work on one dataset.
type board struct {
	dataset storage.Dataset
	now     time.Time
	names   func(dataset.PrincipalID) string
	only    dataset.PrincipalID // whose rows are wanted; zero: everybody's
	out     []wire.ShardWork
}

// rows adds the rows of shards behind one, at least so many if there are, but
// whole shards, and gives the last shard that it has looked at; endOfShards if
// that was all.
func (b *board) rows(ctx context.Context, tx *catalog.Tx, after, limit int) (last int, err error) {
	if !b.dataset.Complete {
		return endOfShards, nil
	}
	newest, err := tx.Version(ctx, b.dataset.ID, b.dataset.Version)
	if err != nil {
		return 0, missingRow("version", err)
	}
	var held []dataset.Assignment
	err = tx.AssignmentsInForce(ctx, b.dataset.ID, b.now, func(a dataset.Assignment) error {
		if b.only.IsZero() || a.Principal == b.only {
			held = append(held, a)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	next, stop := iter.Pull(behind(newest.Shards.Set(), after).All())
	defer stop()
	for scanned := 0; scanned < 20*wire.MaxPage && len(b.out) < limit; {
		var some []int
		for len(some) < rowPage && len(some) < limit-len(b.out) {
			n, ok := next()
			if !ok {
				break
			}
			some = append(some, n)
		}
		if len(some) == 0 {
			return endOfShards, nil
		}
		if err := b.add(ctx, tx, some, held); err != nil {
			return 0, err
		}
		scanned, last = scanned+len(some), some[len(some)-1]
	}
	return last, nil
}

// add makes the rows of these shards, which are in order.
func (b *board) add(ctx context.Context, tx *catalog.Tx, numbers []int, held []dataset.Assignment) error {
	returned := map[int][]storage.Work{}
	q := storage.WorkQuery{Dataset: b.dataset.ID, First: numbers[0], Last: numbers[len(numbers)-1], Author: b.only, Latest: true}
	for {
		list, err := tx.ListWork(ctx, q)
		if err != nil {
			return err
		}
		for _, w := range list {
			returned[w.Number] = append(returned[w.Number], w)
		}
		if len(list) < catalog.MaxPage {
			break
		}
		q.After = list[len(list)-1].ID
	}
	for _, n := range numbers {
		b.shard(n, returned[n], held)
	}
	return nil
}

func (b *board) shard(n int, returned []storage.Work, held []dataset.Assignment) {
	people := map[dataset.PrincipalID]*wire.ShardWork{}
	row := func(who dataset.PrincipalID) *wire.ShardWork {
		if people[who] == nil {
			people[who] = &wire.ShardWork{Dataset: b.dataset.Scope, Shard: n, Person: b.names(who)}
		}
		return people[who]
	}
	for _, a := range held {
		if !a.Shards.Has(n) {
			continue
		}
		r := row(a.Principal)
		r.State, r.By = workAssigned, b.names(a.By)
		if a.Claim {
			r.State, r.By = workClaimed, r.Person
		}
		r.Since, r.Until = timePtr(a.At), timePtr(a.Until)
	}
	for _, w := range returned {
		r := row(w.Author)
		r.Work = w.ID
		switch w.State {
		case storage.WorkSubmitted:
			r.State, r.Since, r.By = string(w.State), timePtr(w.SubmittedAt), r.Person
		case storage.WorkSentBack:
			if r.Since != nil && r.Since.After(w.DecidedAt) {
				continue // given to them, or claimed, again since
			}
			fallthrough
		default:
			r.State, r.Since, r.By = string(w.State), timePtr(w.DecidedAt), b.names(w.DecidedBy)
		}
	}
	if len(people) == 0 && b.only.IsZero() {
		b.out = append(b.out, wire.ShardWork{Dataset: b.dataset.Scope, Shard: n, State: workFree})
	}
	rows := make([]wire.ShardWork, 0, len(people))
	for _, r := range people {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(x, y wire.ShardWork) int { return cmp.Compare(x.Person, y.Person) })
	b.out = append(b.out, rows...)
}
