package catalog

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"dsvault/storage"
	"dsvault/storage/storagetest"
)

func init() { children["fail"] = childFails }

// childFails commits leaves, on one thread, whatever fails, and prints the index
// and the attempt of each that was acknowledged.
func childFails() {
	runtime.LockOSThread()
	ctx := context.Background()
	db, err := Open(ctx, os.Getenv(childEnv+"_URL"), Options{})
	if err != nil {
		return
	}
	defer db.Close()
	commits, err := strconv.Atoi(os.Getenv(childEnv + "_COMMITS"))
	if err != nil {
		panic(err)
	}
	for attempt := range commits {
		if index, err := childAppends(ctx, db, attempt); err == nil {
			fmt.Println(index, attempt)
		}
	}
}

func childAppends(ctx context.Context, db *DB, attempt int) (index uint64, err error) {
	tx, err := db.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback()
	head, err := tx.LockHead(ctx)
	if err != nil {
		return 0, err
	}
	leaf := storage.Leaf{Index: head.Size, Data: append(make([]byte, 5000), strconv.Itoa(attempt)...)}
	if err := tx.AppendLeaves(ctx, []storage.Leaf{leaf}); err != nil {
		return 0, err
	}
	head.Size++
	if err := tx.SetHead(ctx, head); err != nil {
		return 0, err
	}
	return leaf.Index, tx.Commit()
}

// TestEverySyscallFails fails every call with which SQLite reads, writes and
// syncs its files, one after another, in a process that goes on after it. The
// next process finds a sound file with all that was acknowledged.
func TestEverySyscallFails(t *testing.T) {
	type failure struct{ call, errno string }
	commits := 2
	failures := []failure{{"fsync", "EIO"}, {"ftruncate", "EIO"}, {"pwrite64", "EIO"}}
	if os.Getenv("DSVAULT_TEST_FULL") == "1" {
		commits = 12
		failures = append(failures, failure{"pwrite64", "ENOSPC"}, failure{"pread64", "EIO"})
	}
	fresh := filled(t)
	for _, f := range failures {
		t.Run(f.call+"/"+f.errno, func(t *testing.T) {
			t.Parallel()
			n := 1
			for !t.Failed() && syscallFails(t, fresh, f.call, f.errno, n, commits) {
				n++
			}
			t.Logf("%d calls", n-1)
			if f.call != "ftruncate" && n <= commits {
				t.Errorf("only %d calls of %s for %d commits", n-1, f.call, commits)
			}
		})
	}
}

// syscallFails starts from a copy of the file fresh. It reports whether there
// were as many calls.
func syscallFails(t *testing.T, fresh, call, errno string, n, commits int) bool {
	path := filepath.Join(t.TempDir(), "catalog.db")
	if data, err := os.ReadFile(fresh); err != nil || os.WriteFile(path, data, 0o600) != nil {
		t.Fatal("cannot copy the file: ", err)
	}
	url := "sqlite:" + path
	out, failed := storagetest.FailSyscall(t, call, errno, n, os.Args[:1],
		childEnv+"=fail", childEnv+"_URL="+url, fmt.Sprint(childEnv, "_COMMITS=", commits))

	s := &fixture{T: t, url: url, db: open(t, url)}
	defer s.db.Close()
	head := get(s, func(ctx context.Context, tx *Tx) (storage.Head, error) { return tx.Head(ctx) })
	leaves := leafList(s, storage.LeafQuery{})
	if uint64(len(leaves)) != head.Size || head.Size > uint64(commits) {
		t.Errorf("%s %d: %d leaves, head %d", call, n, len(leaves), head.Size)
	}
	acknowledged := 0
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); acknowledged++ {
		var index, attempt int
		if _, err := fmt.Sscan(lines.Text(), &index, &attempt); err != nil {
			t.Fatalf("the child said %q", lines.Text())
		}
		if index >= len(leaves) || string(leaves[index].Data[5000:]) != strconv.Itoa(attempt) {
			t.Errorf("%s %d: leaf %d was acknowledged and is lost", call, n, index)
		}
	}
	if failed == 0 && acknowledged != commits {
		t.Errorf("%s %d: nothing failed, and %d of %d commits were acknowledged", call, n, acknowledged, commits)
	}
	return failed > 0
}
