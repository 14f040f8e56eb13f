package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/storagetest"
	"dsvault/vault/audit"
	"dsvault/vault/ledger"
)

// TestEndIsOwed ends reads while the database is away, or does not say whether
// it has recorded it: each end is recorded once, with its bytes, when it is back.
func TestEndIsOwed(t *testing.T) {
	for name, mode := range map[string]storagetest.WireMode{
		"no database": storagetest.Cut, "COMMIT is lost": storagetest.LosesCommit, "the reply is lost": storagetest.LosesReply,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := engines[1].url(t)
			v, _ := newVault(t, dsn)
			w, near := storagetest.NewWire(t, dsn)
			n := v.nodeAt(near, v.clock)
			permits := make([]*ledger.Permit, 3)
			for i := range permits {
				permits[i] = must[*ledger.Permit](t)(n.Admit(t.Context(), v.read(v.lee, i)))
			}
			w.Break(mode)
			for i, p := range permits {
				if err := p.End(context.Background(), int64(100+i), ledger.ClientGone); !errors.Is(err, ledger.ErrOwed) {
					t.Errorf("the end of read %d: %v", i, err)
				}
			}
			ended, end := context.WithCancel(t.Context())
			end()
			if n.Pay(ended); mode == storagetest.Cut && n.Owed() != len(permits) { // else some may be paid by now
				t.Errorf("%d ends are owed after a try that was broken off", n.Owed())
			}
			w.Set(storagetest.Works)
			for n.Owed() > 0 {
				time.Sleep(time.Millisecond)
			}
			log, report := v.log(n)
			if len(report.OpenReads) > 0 {
				t.Errorf("open: %v", report.OpenReads)
			}
			ends := map[uint64]uint64{}
			for _, e := range log {
				if e.Kind == audit.KindReadEnd {
					of, _ := e.Uint64(audit.FieldRefIndex)
					ends[of], _ = e.Uint64(audit.FieldBytesSent)
				}
			}
			for i, p := range permits {
				if got := ends[p.Receipt().Index]; got != uint64(100+i) {
					t.Errorf("read %d ended with %d bytes, want %d", i, got, 100+i)
				}
			}
		})
	}
}

// TestReadInDoubt: a read whose COMMIT may have been done is not admitted. If it was
// done, the node closes it once it knows; if not, whatever has come in its place
// is left alone.
func TestReadInDoubt(t *testing.T) {
	for name, mode := range map[string]storagetest.WireMode{
		"COMMIT is lost": storagetest.LosesCommit, "the reply is lost": storagetest.LosesReply,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := engines[1].url(t)
			v, other := newVault(t, dsn)
			w, near := storagetest.NewWire(t, dsn)
			n := v.nodeAt(near, v.clock)
			w.Break(mode)
			if _, err := n.Admit(t.Context(), v.read(v.lee, 0)); !errors.Is(err, storage.ErrCommitUnknown) {
				t.Fatalf("the read: %v", err)
			}
			if n.Doubtful() != 1 {
				t.Errorf("%d reads are in doubt", n.Doubtful())
			}
			w.Set(storagetest.Works)
			next := must[*ledger.Permit](t)(other.Admit(t.Context(), v.read(v.lee, 1)))
			for n.Doubtful()+n.Owed() > 0 {
				time.Sleep(time.Millisecond)
			}
			log, report := v.log(n)
			if len(report.OpenReads) != 1 || report.OpenReads[0] != next.Receipt().Index {
				t.Errorf("open are %v, want %d", report.OpenReads, next.Receipt().Index)
			}
			var reads, ends []string
			for _, e := range log {
				switch e.Kind {
				case audit.KindRead:
					reads = append(reads, fmt.Sprint(e.Object.Number))
				case audit.KindReadEnd:
					cause, _ := e.Text(audit.FieldCause)
					bytes, _ := e.Uint64(audit.FieldBytesSent)
					ends = append(ends, fmt.Sprint(cause, " ", bytes))
				}
			}
			want := "[0 1] [failed 0]"
			if mode == storagetest.LosesCommit {
				want = "[1] []"
			}
			if got := fmt.Sprint(reads, " ", ends); got != want {
				t.Errorf("the log has %s, want %s", got, want)
			}
		})
	}
}
