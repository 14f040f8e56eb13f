//go:build linux

package main

import (
	"fmt"
	"path"
	"strings"

	"github.com/jackc/pgx/v5"

	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/client"
	"dsvault/vault/wire"
)

// story is what the log itself tells: in its order, access is given, taken and
// used.
type story struct {
	w       *workload
	open    map[uint64]bool // reads without an end
	allowed map[string]bool // by slot, person and shard
	kinds   map[audit.Kind]int
	found   map[string]int // changes, as acknowledged are
	reads   int            // of those delivered, that are in the log
	refused int
	unknown int // reads that ended as unknown
	wrong   int
}

func (s *story) complain(format string, args ...any) {
	if s.wrong++; s.wrong <= 20 {
		s.w.t.Errorf(format, args...)
	}
}

// each hears of every record, in order.
func (s *story) each(r wire.Record) error {
	leaf, err := audit.ParseLeaf(r.Leaf)
	if err != nil {
		return err
	}
	s.kinds[leaf.Kind]++
	person := leaf.Actor
	if tag, ok := leaf.Bytes(audit.FieldSubjectTag); ok {
		person = [16]byte(tag)
	}
	shards, _ := leaf.Text(audit.FieldShardSet)
	about := func(shard string) string { return fmt.Sprintf("%d %x %s", leaf.Slot, person, shard) }
	switch leaf.Kind {
	case audit.KindAssign:
		if strings.Contains(r.Object, "/granted-") { // there it is the role that comes and goes
			break
		}
		s.allowed[about(shards)] = true
	case audit.KindUnassign:
		s.allowed[about(shards)] = false
	case audit.KindGrant:
		s.allowed[about("0")] = true
	case audit.KindRevoke:
		s.allowed[about("0")] = false
	case audit.KindRead:
		s.open[r.Index] = true
		if !s.allowed[about(fmt.Sprint(leaf.Object.Number))] {
			s.complain("record %d is a read of %s that nobody had given, or that was taken before", r.Index, r.Object)
		}
		s.w.mu.Lock()
		if hash, ok := s.w.reads[r.Index]; ok {
			if delete(s.w.reads, r.Index); hash != fmt.Sprintf("%x", []byte(r.Hash)) {
				s.complain("record %d is not the one that its reader was told of", r.Index)
			}
			s.reads++
		}
		s.w.mu.Unlock()
	case audit.KindRefused:
		if kind, _ := leaf.Uint64(audit.FieldRefusedKind); kind != uint64(audit.KindRead) || leaf.Object.Kind != audit.ObjectShard {
			break
		}
		// Signatures and ends are not told apart here.
		if strings.HasSuffix(path.Dir(r.Object), "/signed") || strings.HasSuffix(path.Dir(r.Object), "/once") {
			break
		}
		if s.refused++; s.allowed[about(fmt.Sprint(leaf.Object.Number))] {
			s.complain("record %d refuses a read of %s that had been given: %s", r.Index, r.Object, r.Reason)
		}
	case audit.KindReadEnd:
		of, _ := leaf.Uint64(audit.FieldRefIndex)
		if !s.open[of] {
			s.complain("record %d ends read %d, which is not open", r.Index, of)
		}
		delete(s.open, of)
		if cause, _ := leaf.Text(audit.FieldCause); cause == "unknown" {
			s.unknown++
		}
	}
	s.found[fmt.Sprint(r.Kind, " ", leaf.Time)]++
	s.found[fmt.Sprint(r.Kind, " ", leaf.Revision)]++
	return nil
}

// checkLog starts one node again, waits until it has closed what others have
// left open, verifies the log and holds it against what people were told.
func (w *workload) checkLog() {
	w.t.Helper()
	w.restarted()
	s := &story{
		w: w, open: make(map[uint64]bool), allowed: make(map[string]bool), kinds: make(map[audit.Kind]int), found: make(map[string]int),
	}
	admin, pin := w.client("admin", nil)
	v, err := admin.VerifyLog(w.t.Context(), scope(w.t, "/"), pin, client.VerifyOptions{Each: s.each})
	if err != nil {
		w.t.Fatalf("the log does not verify: %v", err)
	}
	if len(v.Open) > 0 || len(s.open) > 0 {
		w.t.Errorf("reads without an end: %v, %v", v.Open, s.open)
	}
	for index := range w.reads {
		s.complain("bytes of read %d arrived, and it is not in the log", index)
	}
	for key, n := range w.acked {
		if s.found[key] < n {
			s.complain("%d of %q were acknowledged, and %d are in the log", n, key, s.found[key])
		}
	}
	w.t.Logf("the log verifies: %d records, %d of them reads, %d of which were delivered and %d ended as unknown, %d refusals; %d changes were acknowledged and are in it; gaps: %d",
		v.Size, s.kinds[audit.KindRead], s.reads, s.unknown, s.refused, len(w.acked), s.wrong)
}

// restarted ends with one node that has closed all reads: once what shows the
// others to be alive has run out.
func (w *workload) restarted() {
	w.t.Helper()
	ctx := w.t.Context()
	db, err := pgx.Connect(ctx, w.pg.DSN())
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close(ctx)
	count := func(query string, args ...any) (n int) {
		if err := db.QueryRow(ctx, query, args...).Scan(&n); err != nil {
			w.t.Fatal(err)
		}
		return n
	}
	alive := "SELECT count(*) FROM leases WHERE name LIKE $1 AND until > extract(epoch FROM clock_timestamp()) * 1000000"
	await(w.t, "nobody counts as alive", func() bool { return count(alive, catalog.NodeLease("")+"%") == 0 })
	w.launchNode(w.nodes[0])
	await(w.t, "the node starts", func() bool { return w.nodes[0].isReady() || w.nodes[0].program.ended() })
	await(w.t, "no read is open", func() bool { return count("SELECT count(*) FROM open_reads") == 0 })
}
