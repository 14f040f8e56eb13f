package vault_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// faultyOp is something that somebody does while one statement fails.
type faultyOp struct {
	name string
	who  string
	kind audit.Kind // of its record

	// prepare makes what the operation needs, and gives the operation.
	prepare func(w *world) func(c identity.Caller) error
	// done reports whether the rows say that it has happened.
	done func(w *world) bool
	// undo makes room for the next time.
	undo func(w *world)
	// many: it has so many statements that only the long form fails each.
	many bool
}

const faultyDataset = "acme/signs/batch-1"

var faultyOps = []faultyOp{
	{
		name: "grant", who: "root", kind: audit.KindGrant,
		prepare: func(w *world) func(identity.Caller) error {
			return func(c identity.Caller) error {
				_, err := w.v.Grant(context.Background(), c, wire.Grant{Role: dataset.Labeler, Person: "stranger", Scope: w.scope("acme/signs")})
				return err
			}
		},
		done: func(w *world) bool { return w.granted("stranger") },
		undo: func(w *world) { w.revoke("stranger") },
	},
	{
		name: "revoke", who: "root", kind: audit.KindRevoke,
		prepare: func(w *world) func(identity.Caller) error {
			if !w.granted("stranger") {
				w.grant(dataset.Labeler, "stranger", "acme/signs", nil)
			}
			return func(c identity.Caller) error {
				_, err := w.v.Revoke(context.Background(), c, dataset.Labeler, "stranger", w.scope("acme/signs"))
				return err
			}
		},
		done: func(w *world) bool { return !w.granted("stranger") },
	},
	{
		name: "assign", who: "root", kind: audit.KindAssign,
		prepare: func(w *world) func(identity.Caller) error {
			return func(c identity.Caller) error {
				_, err := w.v.Assign(context.Background(), c, wire.Assignment{Dataset: w.scope(faultyDataset), Person: "rita", Shards: must[dataset.ShardSet](w.t)(dataset.ParseShardSet("0-1"))})
				return err
			}
		},
		done: func(w *world) bool { return w.assigned("rita") },
		undo: func(w *world) {
			if w.assigned("rita") {
				must[wire.Revoked](w.t)(w.v.Unassign(context.Background(), w.as("root"), w.scope(faultyDataset), "rita", nil))
			}
		},
	},
	uploadOp(),
	completeOp(),
	anonymizeOp(),
}

// newDataset makes another dataset with n shards.
func (w *world) newDataset(n int) string {
	w.t.Helper()
	w.made++
	ds := fmt.Sprintf("acme/signs/made-%d", w.made)
	w.openDataset(ds)
	for i := range n {
		if err := w.upload("carol", ds, i, fmt.Appendf(nil, "%s %d", ds, i)); err != nil {
			w.t.Fatal(err)
		}
	}
	return ds
}

func uploadOp() faultyOp {
	var ds string
	return faultyOp{
		name: "upload", who: "carol", kind: audit.KindUploadEnd,
		prepare: func(w *world) func(identity.Caller) error {
			ds = w.newDataset(0)
			d, to := w.openDataset(ds)
			plain := []byte("a small shard of " + ds)
			sealed := must[[]byte](w.t)(seal.SealBytes(plain, to))
			ref := dataset.ShardRef{Dataset: d.Scope, Number: 0}
			ctx := context.Background()
			up := must[wire.Upload](w.t)(w.v.StartUpload(ctx, w.as("carol"), ref, wire.NewUpload{Fingerprint: make([]byte, 32), Size: int64(len(plain))}))
			must[wire.Stored](w.t)(w.v.StoreUpload(ctx, w.as("carol"), ref.Dataset, up.Attempt, bytes.NewReader(sealed), int64(len(sealed))))
			sum, sealedSum := sha256.Sum256(plain), sha256.Sum256(sealed)
			m := must[[]byte](w.t)(json.Marshal(dataset.Manifest{Version: 1, Packing: dataset.PackFile, Name: "file", Size: int64(len(plain)), SHA256: sum[:]}))
			manifest := must[[]byte](w.t)(seal.SealBytes(m, to))
			return func(c identity.Caller) error {
				_, err := w.v.CommitUpload(ctx, c, ref.Dataset, up.Attempt, wire.Commit{SHA256: sealedSum[:], Manifest: manifest})
				return err
			}
		},
		done: func(w *world) bool {
			return len(must[wire.Page[wire.Shard]](w.t)(w.v.Shards(context.Background(), w.as("carol"), w.scope(ds), -1, 0)).Items) == 1
		},
	}
}

func completeOp() faultyOp {
	var ds string
	return faultyOp{
		name: "complete", who: "carol", kind: audit.KindDatasetComplete,
		prepare: func(w *world) func(identity.Caller) error {
			ds = w.newDataset(1)
			return func(c identity.Caller) error {
				_, err := w.v.Complete(context.Background(), c, w.scope(ds), wire.Complete{Shards: dataset.FirstShards(1)})
				return err
			}
		},
		done: func(w *world) bool {
			return must[wire.Dataset](w.t)(w.v.Dataset(context.Background(), w.as("carol"), w.scope(ds))).Complete
		},
	}
}

func anonymizeOp() faultyOp {
	var who dataset.PrincipalID
	return faultyOp{
		name: "anonymize", who: "root", kind: audit.KindAnonymize, many: true,
		prepare: func(w *world) func(identity.Caller) error {
			w.made++
			name := fmt.Sprintf("made-%d", w.made)
			w.invite(name)
			who = w.person(name).ID
			return func(c identity.Caller) error {
				_, err := w.v.Anonymize(context.Background(), c, name)
				return err
			}
		},
		done: func(w *world) (gone bool) {
			w.look(func(ctx context.Context, tx *catalog.Tx) error {
				p, err := tx.Principal(ctx, who)
				gone = len(p.Key.Sealed) == 0
				return err
			})
			return gone
		},
	}
}

func (w *world) person(handle string) (p storage.Principal) {
	w.t.Helper()
	w.look(func(ctx context.Context, tx *catalog.Tx) (err error) {
		p, err = tx.PrincipalByHandle(ctx, handle)
		return err
	})
	return p
}

func (w *world) look(f func(context.Context, *catalog.Tx) error) {
	w.t.Helper()
	ctx := context.Background()
	if err := w.db.View(ctx, func(tx *catalog.Tx) error { return f(ctx, tx) }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) granted(who string) bool {
	w.t.Helper()
	var list []dataset.Grant
	id := w.person(who).ID
	w.look(func(ctx context.Context, tx *catalog.Tx) (err error) {
		list, err = tx.Grants(ctx, storage.GrantQuery{Principal: id})
		return err
	})
	return len(list) > 0
}

func (w *world) assigned(who string) bool {
	w.t.Helper()
	var list []dataset.Assignment
	id := w.person(who).ID
	w.look(func(ctx context.Context, tx *catalog.Tx) (err error) {
		list, err = tx.Assignments(ctx, storage.AssignmentQuery{Principal: id})
		return err
	})
	return len(list) > 0
}

func (w *world) revoke(who string) {
	w.t.Helper()
	if w.granted(who) {
		must[wire.Revoked](w.t)(w.v.Revoke(context.Background(), w.as("root"), dataset.Labeler, who, w.scope("acme/signs")))
	}
}

// sound verifies the whole log against the head: order, chains, root and
// revisions; and gives its leaves.
func (w *world) sound() []audit.Leaf {
	w.t.Helper()
	verifier := audit.NewVerifier()
	var leaves []audit.Leaf
	var head storage.Head
	w.look(func(ctx context.Context, tx *catalog.Tx) (err error) {
		if head, err = tx.Head(ctx); err != nil {
			return err
		}
		return tx.LeafData(ctx, 0, head.Size+1, func(index, _ uint64, data []byte) error {
			leaf, err := audit.ParseLeaf(data)
			leaves = append(leaves, leaf)
			if err == nil {
				err = verifier.AddLeaf(index, data)
			}
			return err
		})
	})
	tree := must[*audit.Tree](w.t)(audit.NewTree(head.Size, head.Frontier))
	must[audit.Report](w.t)(verifier.Finish(audit.Checkpoint{Origin: "dsvault-test", Size: head.Size, Root: tree.Root()}))
	if last := leaves[len(leaves)-1]; last.Revision != head.Revision {
		w.t.Fatalf("the last leaf has revision %d, the head %d", last.Revision, head.Revision)
	}
	return leaves
}

// recorded counts the leaves of a kind, from one on, that a request has made.
func (w *world) recorded(from uint64, request dataset.RequestID, kind audit.Kind) (n int) {
	w.t.Helper()
	w.look(func(ctx context.Context, tx *catalog.Tx) error {
		return tx.LeafData(ctx, from, math.MaxInt64, func(_, _ uint64, data []byte) error {
			leaf, err := audit.ParseLeaf(data)
			if leaf.Request == [16]byte(request) && leaf.Kind == kind {
				n++
			}
			return err
		})
	})
	return n
}

func (w *world) logSize() (size uint64) {
	w.t.Helper()
	w.look(func(ctx context.Context, tx *catalog.Tx) error {
		head, err := tx.Head(ctx)
		size = head.Size
		return err
	})
	return size
}

// faulty runs f as somebody, from the token on, while the n-th statement fails.
// It gives that statement, or "" if there were not so many.
func (w *world) faulty(faults *storagetest.SQLFaults, n int, kind storagetest.SQLFault, who string, f func(identity.Caller) error) (dataset.RequestID, string, error) {
	actor := ledger.Actor{Request: dataset.NewID[dataset.RequestID](rand.Reader), Address: "192.0.2.7", Agent: "test"}
	faults.Arm(n, kind)
	c, err := w.v.Authenticate(context.Background(), w.tokens[who], false, actor)
	if err == nil {
		err = f(c)
	}
	return actor.Request, faults.Disarm(), err
}

var faultKinds = map[string]storagetest.SQLFault{"not run": storagetest.NotRun, "reply lost": storagetest.ReplyLost}

// onFaultyWorlds runs a test on each engine, in each way that a statement fails.
// PostgreSQL's are for the long form: what is ours above the driver is the same.
func onFaultyWorlds(t *testing.T, test func(t *testing.T, w *world, faults *storagetest.SQLFaults, kind storagetest.SQLFault)) {
	engines := []string{"sqlite"}
	if os.Getenv("DSVAULT_TEST_FULL") == "1" {
		engines = append(engines, "postgres")
	}
	for _, engine := range engines {
		for name, kind := range faultKinds {
			t.Run(engine+"/"+name, func(t *testing.T) {
				url := "sqlite:" + filepath.Join(t.TempDir(), "catalog.db")
				if engine == "postgres" {
					url = storagetest.Postgres(t)
				}
				faults := &storagetest.SQLFaults{Remote: engine == "postgres"}
				w := newWorldOn(t, url, catalog.Options{Wrap: faults.Wrap})
				w.setUp()
				test(t, w, faults, kind)
			})
		}
	}
}

// TestEveryStatementFails fails every statement of an operation, one after
// another. Whatever happens, the log verifies, and the rows agree with it; what
// was acknowledged has happened; and an outage is never a "no".
func TestEveryStatementFails(t *testing.T) {
	onFaultyWorlds(t, func(t *testing.T, w *world, faults *storagetest.SQLFaults, kind storagetest.SQLFault) {
		for _, op := range faultyOps {
			statements, step := 0, 1
			if op.many && os.Getenv("DSVAULT_TEST_FULL") != "1" {
				step = 5
			}
			for n := 1; !t.Failed(); n += step {
				run := op.prepare(w)
				before := w.logSize()
				request, failed, err := w.faulty(faults, n, kind, op.who, run)
				recorded, done := w.recorded(before, request, op.kind), op.done(w)
				if recorded > 1 || (recorded == 1) != done {
					t.Errorf("%s: statement %d (%s) failed: %d records, and the rows say done=%v (%v)", op.name, n, failed, recorded, done, err)
				}
				if err == nil && !done {
					t.Errorf("%s: statement %d (%s) failed: it was acknowledged and is lost", op.name, n, failed)
				}
				if err != nil && fault.CodeOf(err) != fault.Unavailable {
					t.Errorf("%s: statement %d (%s) failed: the outage was told as %v", op.name, n, failed, err)
				}
				if !done { // nothing is stuck
					if err := run(w.as(op.who)); err != nil || !op.done(w) {
						t.Errorf("%s: after statement %d (%s) had failed, the next try: %v", op.name, n, failed, err)
					}
				}
				if op.undo != nil {
					op.undo(w)
				}
				if failed == "" {
					break
				}
				statements = n
			}
			w.sound()
			t.Logf("%s: %d statements", op.name, statements)
			if statements < 5 {
				t.Errorf("%s: only %d statements", op.name, statements)
			}
		}
	})
}

// TestEveryStatementOfAReadFails: whoever got a byte is in the log, and what a
// fault left open is closed at the next start.
func TestEveryStatementOfAReadFails(t *testing.T) {
	onFaultyWorlds(t, func(t *testing.T, w *world, faults *storagetest.SQLFaults, kind storagetest.SQLFault) {
		w.assign("lee", "0-1")
		for n := 1; !t.Failed(); n++ {
			var got bytes.Buffer
			before := w.logSize()
			request, failed, err := w.faulty(faults, n, kind, "lee", func(c identity.Caller) error {
				s, err := w.v.ReadShard(context.Background(), c, dataset.ShardRef{Dataset: w.scope(faultyDataset)}, w.ids["lee"], "")
				if err != nil {
					return err
				}
				return s.Send(&got, func() {})
			})
			reads := w.recorded(before, request, audit.KindRead)
			if got.Len() > 0 && reads != 1 {
				t.Errorf("statement %d (%s) failed: %d bytes were sent, with %d records", n, failed, got.Len(), reads)
			}
			if err == nil && got.Len() == 0 {
				t.Errorf("statement %d (%s) failed: a read without bytes or error", n, failed)
			}
			if err != nil && fault.CodeOf(err) != fault.Unavailable {
				t.Errorf("statement %d (%s) failed: the outage was told as %v", n, failed, err)
			}
			must[[]byte](t)(w.read("lee", faultyDataset, 1))
			if failed == "" {
				t.Logf("%d statements", n-1)
				break
			}
		}
		w.v.Close()
		w.v = must[*vault.Vault](t)(w.open())
		reads, ends := map[uint64]bool{}, 0
		for i, l := range w.sound() {
			switch l.Kind {
			case audit.KindRead:
				reads[uint64(i)] = true
			case audit.KindReadEnd:
				ref, _ := l.Uint64(audit.FieldRefIndex)
				if !reads[ref] {
					t.Errorf("record %d ends record %d, which is no open read", i, ref)
				}
				delete(reads, ref)
				ends++
			}
		}
		if len(reads) > 0 || ends < 20 {
			t.Errorf("%d reads have ended, open are %v", ends, reads)
		}
	})
}
