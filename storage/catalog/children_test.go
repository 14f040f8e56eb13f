package catalog

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"dsvault/storage"
)

// children run in a process of their own, to be killed.
var children = map[string]func(){
	"write": childWrites,
	"hold":  childHolds,
}

// childWrites commits one leaf after another and prints its index after each
// commit; then, with a large transaction open, it prints "open" and waits.
func childWrites() {
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	db, err := Open(ctx, os.Getenv(childEnv+"_URL"), Options{})
	check(err)
	limit, err := strconv.Atoi(os.Getenv(childEnv + "_LIMIT"))
	check(err)
	for i := range uint64(limit) {
		tx, err := db.Begin(ctx)
		check(err)
		check(tx.AppendLeaves(ctx, []storage.Leaf{{Index: i, Data: make([]byte, 5000), Details: []byte("sealed")}}))
		check(tx.SetHead(ctx, storage.Head{Size: i + 1}))
		check(tx.Commit())
		fmt.Println(i)
	}
	tx, err := db.Begin(ctx)
	check(err)
	for i := range uint64(5000) {
		check(tx.AppendLeaves(ctx, []storage.Leaf{{Index: uint64(limit) + i, Data: make([]byte, 5000)}}))
	}
	check(tx.SetHead(ctx, storage.Head{Size: 1 << 40}))
	fmt.Println("open")
	select {}
}

// TestKilledWriter kills a writer between commits and inside a transaction
// that is larger than SQLite's cache: what was acknowledged is there, and the
// open transaction is not.
func TestKilledWriter(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit int    // commits that the child does
		until string // the line after which it is killed
	}{
		{"while committing", 1 << 30, "20"},
		{"in a transaction", 10, "open"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := "sqlite:" + filepath.Join(t.TempDir(), "catalog.db")
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"=write", childEnv+"_URL="+url, childEnv+"_LIMIT="+strconv.Itoa(c.limit))
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			acknowledged := uint64(0)
			killed := false
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if n, err := strconv.ParseUint(lines.Text(), 10, 64); err == nil {
					acknowledged = n + 1
				} else if lines.Text() != "open" {
					t.Errorf("the child said %q", lines.Text())
				}
				if lines.Text() == c.until {
					killed = true
					if err := cmd.Process.Kill(); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = cmd.Wait() // killed
			if !killed {
				t.Fatal("the child ended by itself")
			}

			s := &fixture{T: t, url: url, db: open(t, url)}
			head := get(s, func(ctx context.Context, tx *Tx) (storage.Head, error) { return tx.Head(ctx) })
			// One commit may have succeeded without being acknowledged.
			if head.Size != acknowledged && head.Size != acknowledged+1 {
				t.Errorf("head %d after %d acknowledged commits", head.Size, acknowledged)
			}
			if leaves := leafList(s, storage.LeafQuery{}); uint64(len(leaves)) != head.Size {
				t.Errorf("%d leaves, head %d", len(leaves), head.Size)
			}
			s.write(func(ctx context.Context, tx *Tx) error {
				return tx.AppendLeaves(ctx, []storage.Leaf{{Index: head.Size}})
			})
		})
	}
}
