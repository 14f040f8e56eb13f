//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/keys"
)

// scale says how much there is in a catalog.
type scale struct {
	people, grants, projects, assignments, leaves int
}

const (
	scaleClients = 20 // at the most
	perProject   = 2  // datasets
	shardsEach   = 8  // in one assignment
)

func (c scale) clients() int  { return min(scaleClients, c.projects) }
func (c scale) datasets() int { return perProject * c.projects }

func (c scale) client(n int) string  { return fmt.Sprintf("client-%02d", n%c.clients()) }
func (c scale) project(n int) string { return fmt.Sprintf("%s/project-%05d", c.client(n), n) }
func (c scale) dataset(n int) string {
	return fmt.Sprintf("%s/batch-%d", c.project(n/perProject), n%perProject)
}

// projectOf is where somebody's grant is: person who has few of them.
func (c scale) projectOf(who, nth int) int { return (who*7 + nth*13) % c.projects }

// datasetOf is what somebody's assignment is of: in the projects of their grants.
func (c scale) datasetOf(who, nth int) int {
	grants := max(1, c.grants/c.people)
	return c.projectOf(who, nth%grants)*perProject + nth/grants%perProject
}

// made are IDs that follow from a number.
func made(kind byte, n int) []byte {
	id := make([]byte, 16)
	id[0] = kind
	binary.BigEndian.PutUint64(id[8:], uint64(n+1))
	return id
}

func personID(n int) dataset.PrincipalID   { return dataset.PrincipalID(made('p', n)) }
func datasetID(n int) dataset.DatasetID    { return dataset.DatasetID(made('d', n)) }
func personName(n int) string              { return fmt.Sprintf("person-%06d", n) }
func scopeTag(kind byte, n int) (t []byte) { return made(kind, n) }

// personToken is somebody's token.
func personToken(n int) string {
	hash := sha256.Sum256([]byte(personName(n)))
	return "dsv_" + base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).EncodeToString(hash[:])
}

// filler fills the catalog of a vault that is not running.
type filler struct {
	*site
	c        scale
	url      string // of the catalog
	raw      *sql.DB
	tx       *sql.Tx
	numbered bool // placeholders are

	now      int64
	admin    []byte
	revision int
	slot     int
}

// fill puts a catalog of this size behind what the vault has.
func (s *site) fill(url string, c scale) {
	s.t.Helper()
	f := &filler{site: s, c: c, url: url, now: time.Now().UnixMicro()}
	driver, source := "pgx", url
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok {
		driver, source = "sqlite", "file:"+path+"?_pragma=synchronous(0)&_pragma=foreign_keys(0)"
	}
	f.numbered = driver == "pgx"
	var err error
	f.raw, err = sql.Open(driver, source)
	f.must(err)
	defer f.raw.Close()
	f.tx, err = f.raw.Begin()
	f.must(err)
	f.must(f.tx.QueryRow("SELECT revision, next_slot FROM head").Scan(&f.revision, &f.slot))
	f.must(f.tx.QueryRow("SELECT id FROM principals").Scan(&f.admin))
	begin := time.Now()
	f.scopes()
	f.everybody()
	f.access()
	f.run("UPDATE head SET revision = $1, next_slot = $2", f.revision, f.slot)
	f.must(f.tx.Commit())
	if f.numbered {
		_, err = f.raw.Exec("ANALYZE")
		f.must(err)
	}
	s.t.Logf("%d people, %d grants, %d assignments written in %v", c.people, c.grants, c.assignments, time.Since(begin).Round(time.Millisecond))
	begin = time.Now()
	f.grow()
	s.t.Logf("%d leaves written in %v", c.leaves, time.Since(begin).Round(time.Millisecond))
}

func (f *filler) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *filler) run(statement string, args ...any) {
	f.t.Helper()
	_, err := f.tx.Exec(statement, args...)
	f.must(err)
}

// rows inserts n rows, many with a statement.
func (f *filler) rows(table, columns string, n int, row func(i int) []any) {
	f.t.Helper()
	const atOnce = 200
	width := 1 + strings.Count(columns, ",")
	var args []any
	var b strings.Builder
	for i := range n {
		args = append(args, row(i)...)
		if i+1 < n && len(args) < atOnce*width {
			continue
		}
		b.Reset()
		b.WriteString("INSERT INTO " + table + " (" + columns + ") VALUES ")
		for p := range len(args) {
			switch {
			case p == 0:
				b.WriteByte('(')
			case p%width == 0:
				b.WriteString("), (")
			default:
				b.WriteByte(',')
			}
			if f.numbered {
				fmt.Fprintf(&b, "$%d", p+1)
			} else {
				b.WriteByte('?')
			}
		}
		f.run(b.String()+")", args...)
		args = args[:0]
	}
}

func (f *filler) next() int { f.revision++; return f.revision }

// scopes makes clients, projects and datasets.
func (f *filler) scopes() {
	first := f.slot
	all := f.c.clients() + f.c.projects + f.c.datasets()
	name := func(i int) string {
		switch {
		case i < f.c.clients():
			return f.c.client(i)
		case i < f.c.clients()+f.c.projects:
			return f.c.project(i - f.c.clients())
		}
		return f.c.dataset(i - f.c.clients() - f.c.projects)
	}
	f.rows("scopes", "slot, path, tag, created_at, created_by", all, func(i int) []any {
		return []any{first + i, name(i), scopeTag('s', i), f.now, f.admin}
	})
	f.rows("projects", "slot, path, purposes, region, sensitive, contract, delivery, revision, consent, claims", f.c.projects, func(i int) []any {
		return []any{first + f.c.clients() + i, f.c.project(i), `["labeling"]`, "eu", 0, "C-" + fmt.Sprint(i), `["opened"]`, f.next(), "[]", 0}
	})
	f.rows("datasets", "id, slot, path, tag, state, recipient, salt, complete, shards, version, push, store, revision, created_at, created_by, filled_at",
		f.c.datasets(), func(i int) []any {
			at := f.c.clients() + f.c.projects + i
			id, salt := datasetID(i), sha256.Sum256(scopeTag('d', i))
			return []any{id[:], first + at, f.c.dataset(i), scopeTag('s', at), "active", "age1", salt[:], 0, 0, 0, 0, "", f.next(), f.now, f.admin, 0}
		})
	f.slot += all
}

// everybody makes people, who have keys and tokens of their own, and signatures.
func (f *filler) everybody() {
	ctx := context.Background()
	db, err := catalog.Open(ctx, f.url, catalog.Options{})
	f.must(err)
	defer db.Close()
	ring, err := keys.Open(filepath.Join(f.data, "keys"), keys.NewPassphrase(""), db, rand.Reader)
	f.must(err)
	wrapped := make([]storage.WrappedKey, f.c.people)
	errs := make(chan error)
	workers := runtime.GOMAXPROCS(0)
	for w := range workers { // each takes a fraction of a millisecond
		go func() {
			var err error
			for i := w; i < len(wrapped) && err == nil; i += workers {
				wrapped[i], err = ring.NewPerson(personID(i))
			}
			errs <- err
		}()
	}
	for range workers {
		f.must(<-errs)
	}
	f.rows("principals", "id, handle, service, disabled, region, key_epoch, key_sealed, profile, revision, created_at, created_by, restricted",
		f.c.people, func(i int) []any {
			id, key := personID(i), wrapped[i]
			return []any{id[:], personName(i), 0, 0, "eu", int64(key.Epoch), key.Sealed, []byte{}, f.next(), f.now, f.admin, 0}
		})
	f.rows("tokens", "id, hash, principal, kind, created_at, expires, ended", f.c.people, func(i int) []any {
		id, hash := personID(i), sha256.Sum256([]byte(personToken(i)))
		return []any{made('t', i), hash[:], id[:], "session", f.now, 0, 0}
	})
	nda := sha256.Sum256([]byte("keep it to yourself"))
	f.rows("agreements", "name, version, hash, text, created_by, created_at, revision, grace", 1, func(int) []any {
		return []any{"nda", 1, nda[:], []byte("keep it to yourself"), f.admin, f.now, f.next(), 0}
	})
	f.rows("signatures", "principal, agreement, version, hash, signed_at, until, withdrawn, revision", f.c.people, func(i int) []any {
		id := personID(i)
		return []any{id[:], "nda", 1, nda[:], f.now, 0, 0, f.next()}
	})
}

// access makes grants and assignments.
func (f *filler) access() {
	until := time.UnixMicro(f.now).Add(30 * 24 * time.Hour).UnixMicro()
	f.rows("grants", "id, principal, role, path, until, reason, by_whom, at, ended, approved_by, revision", f.c.grants, func(i int) []any {
		who, nth := i%f.c.people, i/f.c.people
		id := personID(who)
		return []any{made('g', i), id[:], "labeler", f.c.project(f.c.projectOf(who, nth)), until, "signs", f.admin, f.now + int64(i), 0, []byte{}, f.next()}
	})
	f.rows("assignments", "id, principal, dataset, path, shards, until, by_whom, at, ended, approved_by, claim, revision", f.c.assignments, func(i int) []any {
		who, nth := i%f.c.people, i/f.c.people
		id, at := personID(who), f.c.datasetOf(who, nth)
		of := datasetID(at)
		shards := fmt.Sprintf("%d-%d", nth*shardsEach, nth*shardsEach+shardsEach-1)
		return []any{made('a', i), id[:], of[:], f.c.dataset(at), shards, until, f.admin, f.now + int64(i), 0, []byte{}, 0, f.next()}
	})
}

// grow adds valid leaves to the log, in runs of one dataset after another.
func (f *filler) grow() {
	const atOnce, run = 1 << 15, 64
	ctx := context.Background()
	db, err := catalog.Open(ctx, f.url, catalog.Options{})
	f.must(err)
	defer db.Close()
	first := uint64(f.slot - f.c.datasets())
	tag := func(slot uint64) [16]byte { return [16]byte(scopeTag('s', int(slot-first)+f.c.clients()+f.c.projects)) }
	chains := map[uint64]storage.Chain{}
	for done := 0; done < f.c.leaves; {
		f.must(db.Update(ctx, func(tx *catalog.Tx) error {
			head, err := tx.LockHead(ctx)
			if err != nil {
				return err
			}
			tree, err := audit.NewTree(head.Size, head.Frontier)
			if err != nil {
				return err
			}
			touched := map[uint64]struct{}{}
			var list []storage.Leaf
			for ; done < f.c.leaves && len(list) < atOnce; done++ {
				slot := first + uint64(done/run%f.c.datasets())
				chain := chains[slot]
				head.Time++
				leaf := audit.Leaf{Kind: audit.KindLogRead, Time: head.Time, Revision: head.Revision, Slot: slot, Tag: tag(slot),
					Seq: chain.Seq + 1, Prev: chain.LastHash, Decision: audit.Allowed, Reason: "own",
					Object: audit.Object{Kind: audit.ObjectDataset, ID: tag(slot)}}
				data, err := leaf.Marshal()
				if err != nil {
					return err
				}
				hash := audit.LeafHash(data)
				tree.Append(hash)
				list = append(list, storage.Leaf{Index: head.Size, Slot: slot, Kind: uint16(leaf.Kind), Decision: uint8(leaf.Decision), Time: head.Time,
					Data: data, Principal: personID(done % f.c.people), Details: data[:120]})
				chains[slot] = storage.Chain{Slot: slot, Seq: leaf.Seq, LastIndex: head.Size, LastHash: hash}
				touched[slot] = struct{}{}
				head.Size++
			}
			if err := tx.AppendLeaves(ctx, list); err != nil {
				return err
			}
			var ends []storage.Chain
			for slot := range touched {
				ends = append(ends, chains[slot])
			}
			if err := tx.SetChains(ctx, ends); err != nil {
				return err
			}
			head.Frontier = tree.Frontier()
			return tx.SetHead(ctx, head)
		}))
	}
}
