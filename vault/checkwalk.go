package vault

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
)

const (
	saveEvery   = time.Second // how often the place of a check is kept, by the clock
	saveSteps   = 1000        // and by keys
	maxUnsaved  = 200         // findings
	maxFindings = 10_000      // that a check keeps; beyond it they are only counted
	relistAfter = 10 * time.Minute
	rowPage     = 500
	readChunk   = 256 << 10

	// rowsDone is the cursor's key once all objects are done and only the
	// catalog's own rows are left to compare; no key is greater.
	rowsDone = "~"
)

// errLostCheck: the check has ended, or another node has it.
var errLostCheck = errors.New("the check is not this node's any more")

// checkRun is one check under way. It belongs to one goroutine. What it holds
// is bounded: a page of rows, one listing, and a buffer.
type checkRun struct {
	v     *Vault
	c     storage.Check
	found []storage.Finding // since the last save
	saved time.Time
	steps int                                 // keys since the last save
	limit *rate.Limiter                       // nil: none
	buf   []byte                              // at most a second's worth of the rate
	scope map[dataset.DatasetID]dataset.Scope // of the dataset last asked for
}

func newCheckRun(v *Vault, c storage.Check) *checkRun {
	r := &checkRun{v: v, c: c, saved: v.now(), buf: make([]byte, readChunk)}
	if c.Rate > 0 {
		r.buf = r.buf[:min(c.Rate, readChunk)]
		r.limit = rate.NewLimiter(rate.Limit(c.Rate), len(r.buf))
	}
	r.c.Ahead = 0 // what was not finished is read again
	return r
}

// run goes on from the cursor to the end.
func (r *checkRun) run(ctx context.Context) error {
	if r.c.CursorKey != rowsDone {
		if err := r.objects(ctx); err != nil {
			return err
		}
		r.c.CursorScope, r.c.CursorKey = "", rowsDone
	}
	if err := r.rows(ctx); err != nil {
		return err
	}
	if s, ok := r.v.objects.(storage.Sweeper); ok && r.c.Repair && r.c.Scope == dataset.Root && !r.v.world.AnyHold() {
		n, err := s.Sweep(ctx, r.v.now().Add(-attemptLife))
		r.c.Leftovers, r.c.Repaired = r.c.Leftovers+int64(n), r.c.Repaired+int64(n)
		return err
	}
	return nil
}

// objects compares what storage holds with the rows that name it. A dataset's
// objects have a prefix of their own; the whole vault is everything.
func (r *checkRun) objects(ctx context.Context) error {
	if r.c.Scope == dataset.Root {
		return r.walk(ctx, "", "")
	}
	for {
		d, ok, err := r.next(ctx, r.c.CursorKey != "")
		if err != nil || !ok {
			return err
		}
		if err := r.walk(ctx, d.Scope.String(), storage.RegionKey(d.Store, "v1/"+d.ID.String()+"/")); err != nil {
			return err
		}
		r.c.CursorScope, r.c.CursorKey = d.Scope.String(), ""
	}
}

// next gives the dataset behind the cursor, or the one that it is in.
func (r *checkRun) next(ctx context.Context, inside bool) (d storage.Dataset, ok bool, err error) {
	err = r.v.db.View(ctx, func(tx *catalog.Tx) error {
		if inside {
			scope, err := dataset.ParseScope(r.c.CursorScope)
			if err != nil {
				return err
			}
			if d, err = tx.Dataset(ctx, scope); err == nil {
				ok = true
			}
			if err := none(err); err != nil || ok {
				return err
			}
		}
		list, err := tx.DatasetsUnder(ctx, r.c.Scope, r.c.CursorScope, 1)
		if ok = len(list) > 0; ok {
			d = list[0]
		}
		return err
	})
	return d, ok, err
}

// walk goes through listing and rows side by side, in key order.
func (r *checkRun) walk(ctx context.Context, scope, prefix string) error {
	list := &listing{v: r.v, prefix: prefix, last: r.c.CursorKey}
	defer list.close()
	rows := newNamedRows(r.v, prefix, r.c.CursorKey)
	for {
		o, err := list.peek(ctx)
		if err != nil {
			return err
		}
		n, err := rows.peek(ctx)
		if err != nil {
			return err
		}
		var key string
		switch {
		case o == nil && n == nil:
			return nil
		case o == nil || n != nil && n.key < o.Key:
			key = n.key
			err = r.absent(ctx, *n)
			rows.pop()
		case n == nil || o.Key < n.key:
			key = o.Key
			err = r.unnamed(ctx, *o)
			list.pop()
		default:
			key = o.Key
			err = r.both(ctx, *n, *o)
			rows.pop()
			list.pop()
		}
		if err != nil {
			return err
		}
		r.c.CursorScope, r.c.CursorKey, r.c.Ahead = scope, key, 0
		r.c.MovedAt = r.v.now()
		if r.steps++; r.steps >= saveSteps || len(r.found) >= maxUnsaved || r.due() {
			if err := r.save(ctx); err != nil {
				return err
			}
		}
	}
}

func (r *checkRun) due() bool { return r.v.now().Sub(r.saved) >= saveEvery }

// save keeps the place and what was found up to it, in one transaction.
func (r *checkRun) save(ctx context.Context) error {
	return r.v.db.Update(ctx, func(tx *catalog.Tx) error { return r.write(ctx, tx) })
}

// write does so in a transaction that the caller commits.
func (r *checkRun) write(ctx context.Context, tx *catalog.Tx) error {
	c, now := r.c, r.v.now()
	keep := r.found[:min(int64(len(r.found)), max(maxFindings-c.Findings, 0))]
	for i := range keep {
		keep[i].Number = int(c.Findings) + i
	}
	c.Findings += int64(len(keep))
	if err := tx.SaveCheck(ctx, c); err != nil {
		if errors.Is(err, storage.ErrNoRow) {
			return errLostCheck
		}
		return err
	}
	if err := tx.AddFindings(ctx, c.ID, keep); err != nil {
		return err
	}
	r.c, r.found, r.saved, r.steps = c, r.found[:0], now, 0
	return nil
}

// leave keeps the place when this node ends.
func (r *checkRun) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := r.save(ctx); err != nil && !errors.Is(err, errLostCheck) {
		r.v.log.WarnContext(ctx, "the place of a check was not kept; it goes on from an earlier one", "check", r.c.ID, "err", err)
	}
}

// report adds a finding and counts it.
func (r *checkRun) report(ctx context.Context, f storage.Finding, id dataset.DatasetID) error {
	if !id.IsZero() {
		scope, err := r.scopeOf(ctx, id)
		if err != nil {
			return err
		}
		f.Scope = scope
	}
	switch {
	case f.Kind == storage.FoundMissing:
		r.c.Missing++
	case f.Kind == storage.FoundChanged && !f.Repaired:
		r.c.Changed++
	case f.Kind == storage.FoundExtra:
		r.c.Extra++
	case f.Kind == storage.FoundLeftover:
		r.c.Leftovers++
	}
	if f.Repaired {
		r.c.Repaired++
	} else if f.Kind == storage.FoundMissing || f.Kind == storage.FoundChanged {
		r.v.log.ErrorContext(ctx, "stored data is damaged", "kind", string(f.Kind), "dataset", id, "shard", f.Shard, "key", f.Key, "detail", f.Detail)
	}
	r.found = append(r.found, f)
	return nil
}

func (r *checkRun) scopeOf(ctx context.Context, id dataset.DatasetID) (dataset.Scope, error) {
	if scope, ok := r.scope[id]; ok {
		return scope, nil
	}
	var d storage.Dataset
	err := r.v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		d, err = tx.DatasetByID(ctx, id)
		return missingRow("dataset", err)
	})
	r.scope = map[dataset.DatasetID]dataset.Scope{id: d.Scope}
	return d.Scope, err
}

// rows compares the catalog with itself: a dataset has all shards of its versions.
func (r *checkRun) rows(ctx context.Context) error {
	for {
		d, ok, err := r.next(ctx, false)
		if err != nil || !ok {
			return err
		}
		var numbers []int
		count := 0
		if d.Complete {
			err = r.v.db.View(ctx, func(tx *catalog.Tx) error {
				want, err := versionShards(ctx, tx, d.ID)
				if err == nil {
					numbers, count, err = tx.MissingShards(ctx, d.ID, want, maxUnsaved)
				}
				return err
			})
		}
		if err != nil {
			return err
		}
		for _, n := range numbers {
			err := r.report(ctx, storage.Finding{Kind: storage.FoundMissing, Shard: n, Detail: "the catalog has no row for it"}, d.ID)
			if err != nil {
				return err
			}
		}
		r.c.Missing += int64(count - len(numbers))
		r.c.CursorScope, r.c.MovedAt = d.Scope.String(), r.v.now()
		if r.steps++; r.steps >= saveSteps || len(r.found) > 0 || r.due() {
			if err := r.save(ctx); err != nil {
				return err
			}
		}
	}
}

// versionShards joins the shards of all versions of a dataset.
func versionShards(ctx context.Context, tx *catalog.Tx, id dataset.DatasetID) (all dataset.ShardSet, err error) {
	for after := 0; ; {
		list, err := tx.Versions(ctx, id, after, rowPage)
		for _, version := range list {
			all, after = all.Union(version.Shards.Set()), version.Version
		}
		if err != nil || len(list) < rowPage {
			return all, err
		}
	}
}

// listing looks ahead in the store's list. A list that has been open for long
// is begun again where it was: servers forget.
type listing struct {
	v      *Vault
	prefix string
	last   string // the last key that was done with
	since  time.Time
	next   func() (storage.Object, error, bool)
	stop   func()
	ahead  *storage.Object
}

func (l *listing) peek(ctx context.Context) (*storage.Object, error) {
	if l.ahead != nil {
		return l.ahead, nil
	}
	now := l.v.now()
	if l.next != nil && now.Sub(l.since) > relistAfter {
		l.close()
	}
	if l.next == nil {
		l.next, l.stop = iter.Pull2(storage.ListAfter(ctx, l.v.objects, l.prefix, l.last))
		l.since = now
	}
	for {
		o, err, ok := l.next()
		if err != nil || !ok {
			return nil, err
		}
		l.last = o.Key
		if _, key := storage.SplitRegion(o.Key); key == markKey {
			continue
		}
		l.ahead = &o
		return l.ahead, nil
	}
}

func (l *listing) pop() { l.ahead = nil }

func (l *listing) close() {
	if l.stop != nil {
		l.stop()
	}
	l.next, l.stop = nil, nil
}

// named is a key that rows name: of a shard's object or index, of returned work,
// or of what an attempt may have put.
type named struct {
	key     string
	shard   *storage.StoredObject
	attempt *storage.Attempt
}

// namedRows looks ahead in the rows that name objects, by key, a page at a time.
type namedRows struct {
	v                *Vault
	prefix           string
	cursor           string     // keys up to it are done
	ahead            *rowsAhead // which of them is peeked at
	shards, attempts rowsAhead
	work             rowsAhead
}

// rowsAhead is a page of one table.
type rowsAhead struct {
	page []named
	last string // the last key that was read
	end  bool   // there are no more
}

// newNamedRows begins behind the cursor. A shard's index comes right behind the
// shard, so a cursor at the shard begins with the same row.
func newNamedRows(v *Vault, prefix, cursor string) *namedRows {
	from := prefix
	if shard, index := storage.ShardKey(cursor); index {
		from = shard
	} else if cursor != "" {
		from = cursor[:len(cursor)-1]
	}
	return &namedRows{v: v, prefix: prefix, cursor: cursor, shards: rowsAhead{last: from}, attempts: rowsAhead{last: from}, work: rowsAhead{last: from}}
}

func (n *namedRows) peek(ctx context.Context) (*named, error) {
	err := n.shards.fill(ctx, n, func(tx *catalog.Tx, after string) (page []named, rows int, err error) {
		list, err := tx.StoredObjects(ctx, after, rowPage)
		for i, o := range list {
			if page = append(page, named{key: o.Key, shard: &list[i]}); !o.Index {
				rows++
			}
		}
		return page, rows, err
	})
	if err != nil {
		return nil, err
	}
	err = n.attempts.fill(ctx, n, func(tx *catalog.Tx, after string) (page []named, rows int, err error) {
		list, err := tx.AttemptsAfter(ctx, after, rowPage)
		for i, a := range list {
			page = append(page, named{key: a.Key, attempt: &list[i]}, named{key: storage.IndexKey(a.Key), attempt: &list[i]})
		}
		return page, len(list), err
	})
	if err != nil {
		return nil, err
	}
	err = n.work.fill(ctx, n, func(tx *catalog.Tx, after string) (page []named, rows int, err error) {
		list, err := tx.StoredWork(ctx, after, rowPage)
		for i, o := range list {
			page = append(page, named{key: o.Key, shard: &list[i]})
		}
		return page, len(list), err
	})
	if err != nil {
		return nil, err
	}
	n.ahead = nil
	for _, rows := range []*rowsAhead{&n.shards, &n.attempts, &n.work} {
		if len(rows.page) > 0 && (n.ahead == nil || rows.page[0].key < n.ahead.page[0].key) {
			n.ahead = rows
		}
	}
	if n.ahead == nil {
		return nil, nil
	}
	return &n.ahead.page[0], nil
}

func (n *namedRows) pop() { n.ahead.page = n.ahead.page[1:] }

// fill reads the next page that has something behind the cursor.
func (p *rowsAhead) fill(ctx context.Context, n *namedRows, read func(*catalog.Tx, string) ([]named, int, error)) error {
	for len(p.page) == 0 && !p.end {
		var rows int
		err := n.v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			p.page, rows, err = read(tx, p.last)
			return err
		})
		if err != nil {
			return err
		}
		p.end = rows < rowPage
		if len(p.page) > 0 {
			p.last, _ = storage.ShardKey(p.page[len(p.page)-1].key)
			p.end = p.end || !strings.HasPrefix(p.last, n.prefix) && p.last > n.prefix
		}
		p.page = slices.DeleteFunc(p.page, func(k named) bool { return !strings.HasPrefix(k.key, n.prefix) || k.key <= n.cursor })
	}
	return nil
}
