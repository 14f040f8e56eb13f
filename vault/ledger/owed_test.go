package ledger_test

import (
	"context"
	"errors"
	"testing"
	"time"

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
