//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/note"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/keys"
)

// forger is somebody who has a vault's folder, keys and all, while its server
// does not run.
type forger struct {
	*site
	ts *tamperSite
}

func (f *forger) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// opened gives the vault's catalog.
func (f *forger) opened(do func(ctx context.Context, db *catalog.DB)) {
	f.t.Helper()
	ctx := context.Background()
	db, err := catalog.Open(ctx, "sqlite:"+filepath.Join(f.data, "catalog.db"), catalog.Options{})
	f.check(err)
	defer db.Close()
	do(ctx, db)
}

// replace has the rows of the leaves, and nothing else, be what change makes of
// them: what somebody can do who has the database only.
func (f *forger) replace(change func([]storage.Leaf) []storage.Leaf) (leaves []storage.Leaf) {
	f.t.Helper()
	f.opened(func(ctx context.Context, db *catalog.DB) {
		f.check(db.View(ctx, func(tx *catalog.Tx) error {
			return tx.Leaves(ctx, storage.LeafQuery{}, func(l storage.Leaf) error {
				leaves = append(leaves, l)
				return nil
			})
		}))
		leaves = change(leaves)
		raw, err := sql.Open("sqlite", "file:"+filepath.Join(f.data, "catalog.db"))
		f.check(err)
		defer raw.Close()
		for _, table := range []string{"leaf_batches", "leaf_slots", "leaf_people"} {
			_, err := raw.Exec("DELETE FROM " + table)
			f.check(err)
		}
		for i := range leaves {
			leaves[i].Index = uint64(i)
		}
		f.check(db.Update(ctx, func(tx *catalog.Tx) error { return tx.AppendLeaves(ctx, leaves) }))
	})
	return leaves
}

// forge has the log be what change makes of it, and everything that rests on it:
// what somebody can do who has the keys too. Chains, statements, head and tiles
// are as if the log had always been so, and what the vault remembers of its own
// signatures is gone.
func (f *forger) forge(change func([]storage.Leaf) []storage.Leaf, edits ...func(*forging)) {
	f.t.Helper()
	g := forging{f: f, slots: map[uint64]audit.Entry{}, moved: map[uint64]uint64{}}
	for _, edit := range edits {
		edit(&g)
	}
	f.replace(func(list []storage.Leaf) []storage.Leaf {
		if change != nil {
			list = change(list)
		}
		return g.chain(list)
	})
	f.opened(func(ctx context.Context, db *catalog.DB) {
		f.check(db.Update(ctx, func(tx *catalog.Tx) error { return g.store(ctx, tx) }))
	})
	f.forget()
}

// forget removes what the vault remembers of its own signatures.
func (f *forger) forget() { f.check(os.Remove(filepath.Join(f.data, "keys", vault.LogStateFile))) }

// forging is one log that is being made up.
type forging struct {
	f     *forger
	edit  func(index int, l *audit.Leaf) // the last word on a leaf
	leave func(index int) bool           // leaves that stay in the tree and are left out of chains and statements

	slots     map[uint64]audit.Entry
	array     audit.Array
	tree      audit.Tree
	moved     map[uint64]uint64 // old index -> new one
	last      audit.Leaf
	statement []byte
}

// chain makes every leaf follow from those before it.
func (g *forging) chain(list []storage.Leaf) []storage.Leaf {
	for i := range list {
		l, err := audit.ParseLeaf(list[i].Data)
		g.f.check(err)
		g.moved[list[i].Index] = uint64(i)
		state := g.slots[l.Slot]
		left := g.leave != nil && g.leave(i)
		if !left {
			l.Seq, l.Prev = state.Count+1, state.Hash
		}
		l.Time, l.Revision = max(l.Time, g.last.Time), max(l.Revision, g.last.Revision)
		if ref, ok := l.Uint64(audit.FieldRefIndex); ok {
			l.Set(audit.Uint64Field(audit.FieldRefIndex, g.moved[ref]))
		}
		if l.Kind == audit.KindStatement {
			s := audit.Statement{Length: g.array.Len(), Root: g.array.Root()}
			l.Set(s.Fields()...)
			g.statement = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(i)), uint64(l.Time))
		}
		if g.edit != nil {
			g.edit(i, &l)
		}
		data, err := l.Marshal()
		g.f.check(err)
		hash := audit.LeafHash(data)
		g.tree.Append(hash)
		list[i].Data, list[i].Time = data, l.Time
		g.last = l
		if left {
			list[i].Slot = 0 // where nobody looks who asks for its scope
			continue
		}
		g.slots[l.Slot] = audit.Entry{Tag: l.Tag, Count: l.Seq, Last: uint64(i), Hash: hash}
		g.f.check(g.array.Set(l.Slot, g.slots[l.Slot]))
	}
	return list
}

// store puts into the catalog what rests on the leaves.
func (g *forging) store(ctx context.Context, tx *catalog.Tx) error {
	head, err := tx.LockHead(ctx)
	if err != nil {
		return err
	}
	head.Size, head.Frontier, head.Time = g.tree.Size(), g.tree.Frontier(), g.last.Time
	if err := tx.SetHead(ctx, head); err != nil {
		return err
	}
	var chains []storage.Chain
	for slot, e := range g.slots {
		chains = append(chains, storage.Chain{Slot: slot, Seq: e.Count, LastIndex: e.Last, LastHash: e.Hash})
	}
	if err := tx.SetChains(ctx, chains); err != nil {
		return err
	}
	if g.statement != nil {
		if err := tx.SetMeta(ctx, "statement", g.statement); err != nil {
			return err
		}
	}
	return tx.DropCheckpoint(ctx)
}

// signer is the log's private key.
func (f *forger) signer() (signer note.Signer) {
	f.t.Helper()
	f.opened(func(_ context.Context, db *catalog.DB) {
		ring, err := keys.Open(filepath.Join(f.data, "keys"), keys.NewPassphrase(""), db, rand.Reader)
		f.check(err)
		signer = ring.LogKeys()[0].Signer
	})
	return signer
}

// newcomer is Ann on a machine that has not verified the log yet.
func (f *forger) newcomer() {
	f.check(os.CopyFS(f.config("new"), os.DirFS(f.config("ann"))))
	f.check(os.Remove(filepath.Join(f.config("new"), "log.json")))
	private(f.t, f.config("new"))
}

// kinds gives the places of the leaves of a kind.
func kinds(list []storage.Leaf, kind audit.Kind) (at []int) {
	for i, l := range list {
		if l.Kind == uint16(kind) && l.Decision == uint8(audit.Allowed) {
			at = append(at, i)
		}
	}
	return at
}

// bundle reads the parts of a file in the folder of the case.
func (f *forger) bundle(name string) []part {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.dir, name))
	f.check(err)
	return takeApart(f.t, data)
}

// signed puts another checkpoint in place of the one in a bundle.
func (f *forger) signed(p []part, origin string, signer note.Signer) []part {
	f.t.Helper()
	i := pick(p, 'C', 0)
	lines := bytes.Split(p[i].data, []byte("\n"))
	text := append([]byte(origin+"\n"), bytes.Join(lines[1:3], []byte("\n"))...)
	data, err := note.Sign(&note.Note{Text: string(text) + "\n"}, signer)
	f.check(err)
	p[i].data = data
	return p
}

// origin is the log's name.
func (f *forger) origin() string { return f.signer().Name() }

var tamperings = []tampering{
	{name: "a bit flipped in the database", by: "the vault", soon: true, says: "rolled back or rewritten",
		rewrite: func(f *forger) { f.replace(flipOne) }},
	{name: "a leaf deleted from the database", by: "the vault", says: "does not end where its head says",
		rewrite: func(f *forger) { f.replace(dropOne) }},
	{name: "the catalog rolled back to a backup", by: "the vault", says: "rolled back",
		rewrite: func(f *forger) {
			state := filepath.Join(f.data, "keys", vault.LogStateFile)
			kept, err := os.ReadFile(state)
			f.check(err)
			f.forge(cutOff)
			f.check(os.WriteFile(state, kept, 0o600))
		}},
	{name: "a leaf changed by the operator", by: "cleo", with: verifyAcme, says: "known:",
		rewrite: func(f *forger) { f.forge(flipOne) }},
	{name: "a leaf deleted by the operator", by: "cleo", with: verifyAcme, says: "known:",
		rewrite: func(f *forger) { f.forge(dropOne) }},
	{name: "a leaf inserted by the operator", by: "ann", with: verifyAll, says: "known:",
		rewrite: func(f *forger) { f.forge(insertOne) }},
	{name: "leaves reordered by the operator", by: "ann", with: verifyAll, says: "known:",
		rewrite: func(f *forger) {
			f.forge(func(l []storage.Leaf) []storage.Leaf {
				at := kinds(l, audit.KindUpload)
				l[at[0]], l[at[1]] = l[at[1]], l[at[0]]
				return l
			})
		}},
	{name: "the end cut off by the operator", by: "cleo", with: verifyAcme, says: "known: it has N leaves",
		rewrite: func(f *forger) { f.forge(cutOff) }},
	{name: "the end replaced by the operator (delete and append)", by: "cleo", with: verifyAcme, says: "known:",
		rewrite: func(f *forger) {
			f.forge(func(l []storage.Leaf) []storage.Leaf {
				cut := kinds(l, audit.KindLogRead)[0]
				for i, n := 0, len(l)-cut+5; i < n; i++ {
					l = append(l[:cut+i:cut+i], insertOne(l[:cut+i])[1:2]...)
				}
				return l
			})
		}},
	{name: "one inserted for one dropped by the operator", by: "cleo", with: verifyAcme, says: "known:",
		rewrite: func(f *forger) {
			f.forge(func(l []storage.Leaf) []storage.Leaf { return insertOne(dropOne(l)) })
		}},
	{name: "a fork: ann is shown another log than cleo", by: "ann", with: []string{"verify", "new.bundle", "shown.bundle"}, says: "known: its first N leaves have another root",
		rewrite: func(f *forger) { f.forge(dropSecond) },
		before:  [][]string{{"ann", "log", "--export", "shown.bundle"}}},
	{name: "a previous hash swapped by the operator", by: "new", with: verifyAll, says: "slot-chain:",
		rewrite: func(f *forger) {
			f.newcomer()
			f.forge(nil, func(g *forging) {
				g.edit = func(i int, l *audit.Leaf) {
					if l.Kind == audit.KindAssign {
						l.Prev = g.slots[0].Hash
					}
				}
			})
		}},
	{name: "a statement that leaves a read out, against a receipt", by: "lee", with: []string{"verify", "second.json", "shown.bundle"}, says: "receipt:",
		rewrite: undercount,
		before:  [][]string{{"cleo", "log", "acme", "--export", "shown.bundle"}, {"lee", "verify", "second.json"}}},
	{name: "a statement that leaves a read out, against the whole log", by: "ann", with: verifyAll, says: "statement:",
		rewrite: undercount},
	{name: "a read that was promised and is not in the log", by: "lee", with: []string{"receipt", "complete", "second.json"}, says: "receipt:",
		rewrite: func(f *forger) { f.forge(dropSecond) }},
	{name: "an answer of earlier replayed", by: "cleo", with: verifyAcme, says: "fresh:",
		lie: func(f *forger, _ []part) []part { return f.bundle("cleo.bundle") }},
	{name: "an old checkpoint replayed", by: "cleo", with: verifyAcme, says: "known:",
		lie: func(f *forger, _ []part) []part { return f.bundle("old.bundle") }},
	{name: "a record left out on the way", by: "cleo", with: verifyAcme, says: "slot-sequence:",
		lie: func(_ *forger, p []part) []part { i := pick(p, 'R', 4); return slices.Delete(p, i, i+1) }},
	{name: "a dataset left out on the way", by: "cleo", with: verifyAcme, says: "known: it leaves out acme/signs/two",
		lie: func(_ *forger, p []part) []part {
			slot := p[pick(p, 'E', -1)].data[:8]
			return slices.DeleteFunc(p, func(p part) bool {
				return p.kind == 'E' && bytes.Equal(p.data[:8], slot) || p.kind == 'R' && bytes.Equal(p.data[10+34:10+42], slot)
			})
		}},
	{name: "personal details exchanged in the database", by: "cleo", with: verifyAcme, says: "details:",
		rewrite: func(f *forger) {
			f.replace(func(l []storage.Leaf) []storage.Leaf {
				at := kinds(l, audit.KindUpload)
				l[at[0]].Details, l[at[1]].Details = l[at[1]].Details, l[at[0]].Details
				return l
			})
		}},
	{name: "another key of the same name", by: "cleo", with: verifyAcme, says: "checkpoint-signature:",
		lie: func(f *forger, p []part) []part {
			skey, _, err := note.GenerateKey(rand.Reader, f.origin())
			f.check(err)
			signer, err := note.NewSigner(skey)
			f.check(err)
			return f.signed(p, f.origin(), signer)
		}},
	{name: "a checkpoint of another origin by the log's own key", by: "cleo", with: verifyAcme, says: "checkpoint-origin:",
		lie: func(f *forger, p []part) []part { return f.signed(p, "another-log", f.signer()) }},
	{name: "foreign log", by: "cleo", with: []string{"verify", "foreign.bundle"}, says: "checkpoint-origin:",
		rewrite: func(f *forger) {
			other := newSite(f.t)
			other.ok("admin", "log", "--export", filepath.Join(f.dir, "foreign.bundle"))
			other.stop()
		}},
}

var (
	verifyAcme = []string{"log", "acme", "--verify"}
	verifyAll  = []string{"log", "--verify"}
)

// flipOne changes one bit of a leaf that cleo and ann have seen.
func flipOne(l []storage.Leaf) []storage.Leaf {
	l[kinds(l, audit.KindAssign)[0]].Data[114] ^= 1 // in the request's ID
	return l
}

func dropOne(l []storage.Leaf) []storage.Leaf {
	at := kinds(l, audit.KindAssign)[0]
	return slices.Delete(l, at, at+1)
}

// dropSecond removes Lee's second read and its end, and makes up for it.
func dropSecond(l []storage.Leaf) []storage.Leaf {
	at := kinds(l, audit.KindRead)[1]
	l = slices.Delete(l, at, at+2)
	for range 4 {
		l = append(l, insertOne(l)[1])
	}
	return l
}

// insertOne makes up a leaf: a second start of the node.
func insertOne(l []storage.Leaf) []storage.Leaf {
	made := l[kinds(l, audit.KindNodeStart)[0]]
	made.Index = 1 << 60 // it was nowhere
	made.Data = bytes.Clone(made.Data)
	return slices.Insert(slices.Clone(l), 1, made)
}

// cutOff keeps what was there before anybody looked.
func cutOff(l []storage.Leaf) []storage.Leaf { return l[:kinds(l, audit.KindAssign)[0]+1] }

// undercount leaves Lee's second read in the log, as promised, but out of the
// chain of its dataset and of every statement.
func undercount(f *forger) {
	var left []int
	f.forge(func(l []storage.Leaf) []storage.Leaf {
		at := kinds(l, audit.KindRead)[1]
		left = []int{at, at + 1}
		return l
	}, func(g *forging) { g.leave = func(i int) bool { return slices.Contains(left, i) } })
}
