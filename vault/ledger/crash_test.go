package ledger_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/keys"
	"dsvault/vault/ledger"
)

// childEnv makes the test binary a process that admits reads until it is killed.
const childEnv = "DSVAULT_LEDGER_CHILD"

// runChild admits reads in the catalog at $DSVAULT_LEDGER_CHILD with the keys in
// $DSVAULT_LEDGER_KEYS, and prints "read INDEX" and "end INDEX" once each has
// been acknowledged. It ends when it is killed, nobody reads its output, each of
// its 16 readers has read $DSVAULT_LEDGER_READS times, or something fails.
func runChild() {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	db, err := catalog.Open(ctx, os.Getenv(childEnv), catalog.Options{})
	fail(err)
	ring, err := keys.Open(os.Getenv("DSVAULT_LEDGER_KEYS"), keys.NewPassphrase(""), db, rand.Reader)
	fail(err)
	scope, err := dataset.ParseScope("acme/signs/batch-1")
	fail(err)
	v := &vault{scope: scope}
	fail(db.View(ctx, func(tx *catalog.Tx) error {
		row, err := tx.Scope(ctx, scope)
		if err != nil {
			return err
		}
		lee, err := tx.PrincipalByHandle(ctx, "lee")
		v.dataset, v.id, v.lee = ledger.Place{Slot: row.Slot, Tag: row.Tag}, row.Tag, lee.ID
		return err
	}))
	l, err := ledger.Open(ctx, ledger.Config{Catalog: db, World: rbac.NewPartial(rbac.Default()), Sealer: ring,
		Now: time.Now, Random: rand.Reader, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	fail(err)
	most := math.MaxInt
	if limit := os.Getenv("DSVAULT_LEDGER_READS"); limit != "" {
		most, err = strconv.Atoi(limit)
		fail(err)
	}
	together(16, func(i int) {
		for range most {
			p, err := l.Admit(ctx, v.read(v.lee, i))
			fail(err)
			fmt.Fprintf(os.Stdout, "read %d\n", p.Receipt().Index)
			if i%2 == 0 {
				fail(p.End(ctx, int64(i), ledger.Finished))
				fmt.Fprintf(os.Stdout, "end %d\n", p.Receipt().Index)
			}
		}
	})
}

// TestKilled kills a process that admits reads, at random moments, and looks
// for everything that it has acknowledged.
func TestKilled(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		v, n := newVault(t, url)
		v.clock.us.Store(time.Now().UnixMicro())
		n.Close()
		if n.db.Engine() == "sqlite" {
			check(t, n.db.Close())
		}
		for range 4 {
			reads, ends := v.runAndKill(t, 1+mathrand.IntN(400))
			n := v.node()
			v.acknowledged(t, n, reads, ends)
			n.Close()
			check(t, n.db.Close())
		}
	})
}

// acknowledged verifies the log after a restart, and looks for the reads and the
// ends of reads that were acknowledged before.
func (v *vault) acknowledged(t *testing.T, n *node, reads, ends []uint64) {
	t.Helper()
	log, report := v.log(n)
	if len(report.OpenReads) != 0 {
		t.Errorf("reads are open after a restart: %v", report.OpenReads)
	}
	closed := map[uint64]string{}
	for _, e := range log {
		if e.Kind == audit.KindReadEnd {
			ref, _ := e.Uint64(audit.FieldRefIndex)
			closed[ref], _ = e.Text(audit.FieldCause)
		}
	}
	for _, index := range reads {
		if index >= uint64(len(log)) || log[index].Kind != audit.KindRead || closed[index] == "" {
			t.Errorf("read %d was acknowledged and is not in the log of %d, or was not closed", index, len(log))
		}
	}
	for _, index := range ends {
		if closed[index] != string(ledger.Finished) {
			t.Errorf("the end of read %d was acknowledged; in the log it is %q", index, closed[index])
		}
	}
	var left []storage.OpenRead
	check(t, n.db.View(t.Context(), func(tx *catalog.Tx) (err error) {
		left, err = tx.OpenReads(t.Context(), 1)
		return err
	}))
	if len(left) != 0 {
		t.Errorf("left open: %+v", left)
	}
}

// printed gives the indexes in what a child has printed.
func printed(t *testing.T, line string) (read bool, index uint64) {
	t.Helper()
	var what string
	if _, err := fmt.Sscan(line, &what, &index); err != nil {
		t.Fatalf("the child printed %q: %v", line, err)
	}
	return what == "read", index
}

// runAndKill runs a child until it has printed that many lines, kills it, and
// gives the indexes in all that it printed.
func (v *vault) runAndKill(t *testing.T, lines int) (reads, ends []uint64) {
	t.Helper()
	cmd := exec.Command(must[string](t)(os.Executable()))
	cmd.Env = append(os.Environ(), childEnv+"="+v.url, "DSVAULT_LEDGER_KEYS="+v.keys)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	scanner := bufio.NewScanner(out)
	for seen := 1; scanner.Scan(); seen++ {
		if read, index := printed(t, scanner.Text()); read {
			reads = append(reads, index)
		} else {
			ends = append(ends, index)
		}
		if seen == lines {
			check(t, cmd.Process.Kill())
		}
	}
	if len(reads)+len(ends) < lines {
		t.Fatalf("the child ended by itself after %d lines", len(reads)+len(ends))
	}
	return reads, ends
}
