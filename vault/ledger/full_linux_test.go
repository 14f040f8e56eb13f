package ledger_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// TestFullDisk admits until the disk is full: then there are no permits, what
// was acknowledged is there, and once there is room the node goes on.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
		if os.Getenv("DSVAULT_TEST_REQUIRE") == "1" {
			t.Fatalf("cannot mount a small file system: %v", err)
		}
		t.Skipf("cannot mount a small file system (needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	v, n := newVault(t, "sqlite:"+filepath.Join(dir, "catalog.db"))
	var mu sync.Mutex
	var acknowledged []uint64
	admit := func(shard int) error {
		p, err := n.Admit(context.Background(), v.read(v.lee, shard))
		if err == nil {
			mu.Lock()
			acknowledged = append(acknowledged, p.Receipt().Index)
			mu.Unlock()
		} else if p != nil {
			t.Error("a permit with an error")
		}
		return err
	}
	together(16, func(i int) {
		for {
			if err := admit(i); err != nil {
				wantCode(t, err, fault.Unavailable)
				return
			}
		}
	})
	if _, err := n.Admit(t.Context(), v.read(v.stranger, 1)); !fault.Is(err, fault.NotFound) {
		t.Errorf("a refusal on a full disk: %v", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=24m"); err != nil {
		t.Fatal(err)
	}
	check(t, admit(1))
	log, _ := v.log(n)
	for _, index := range acknowledged {
		if index >= uint64(len(log)) || log[index].Kind != audit.KindRead {
			t.Errorf("read %d was acknowledged and is not in the log", index)
		}
	}
	n.Close()
	v.open(n)
	must[*ledger.Permit](t)(n.Admit(t.Context(), v.read(v.lee, 2)))
}
