package ledger_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"dsvault/storage/storagetest"
)

// TestSyscallsFail fails calls with which SQLite writes and syncs its files, in
// a process that admits reads from many goroutines. It ends by itself then, and
// the next one finds everything that it has acknowledged.
func TestSyscallsFail(t *testing.T) {
	each := []int{1, 3, 20, 40}
	if os.Getenv("DSVAULT_TEST_FULL") == "1" {
		each = nil
		for n := 1; n <= 60; n++ {
			each = append(each, n)
		}
	}
	v, n := newVault(t, engines[0].url(t))
	v.clock.us.Store(time.Now().UnixMicro())
	n.Close()
	check(t, n.db.Close())
	broken := 0
	for _, f := range []struct{ call, errno string }{{"fsync", "EIO"}, {"pwrite64", "EIO"}, {"pwrite64", "ENOSPC"}} {
		for _, nth := range each {
			out, failed := storagetest.FailSyscall(t, f.call, f.errno, nth, os.Args[:1],
				childEnv+"="+v.url, "DSVAULT_LEDGER_KEYS="+v.keys, "DSVAULT_LEDGER_READS=8")
			if failed > 0 {
				broken++
			}
			var reads, ends []uint64
			for line := range strings.Lines(string(out)) {
				if read, index := printed(t, line); read {
					reads = append(reads, index)
				} else {
					ends = append(ends, index)
				}
			}
			n := v.node()
			v.acknowledged(t, n, reads, ends)
			n.Close()
			check(t, n.db.Close())
			if t.Failed() {
				t.Fatalf("after call %d of %s in each thread had failed with %s", nth, f.call, f.errno)
			}
		}
	}
	t.Logf("%d of %d runs had calls that failed", broken, 3*len(each))
	if broken < len(each) {
		t.Error("hardly a call failed")
	}
}
