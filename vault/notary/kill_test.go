package notary

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// childEnv makes the test binary a node that signs until it is killed; it names
// the catalog. The log's key and the state file are in further variables.
const childEnv = "DSVAULT_NOTARY_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		runChild()
		os.Exit(0)
	}
	storagetest.Main(m)
}

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
	signer, err := note.NewSigner(os.Getenv(childEnv + "_SECRET"))
	fail(err)
	n, err := Open(ctx, nodeConfig(db, Key{Signer: signer, Verifier: os.Getenv(childEnv + "_PUBLIC")}, os.Getenv(childEnv+"_STATE"), "child"))
	fail(err)
	n.Run(ctx)
}

// nodeConfig is a node among several.
func nodeConfig(db *catalog.DB, key Key, state, name string) Config {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	return Config{Catalog: db, Origin: key.Signer.Name(), Keys: []Key{key}, State: state, Logger: log, Now: time.Now,
		Elect: func(ctx context.Context, f func(context.Context)) {
			db.Hold(ctx, catalog.Lease{Name: "notary", Holder: name, Logger: log}, f)
		}}
}

// TestSignerKilled kills the elected node in the middle of its work, again and
// again: another signs within seconds, every checkpoint continues the one
// before, and the killed one starts again with the state that it had.
func TestSignerKilled(t *testing.T) {
	onEngines(t, func(t *testing.T, url string) {
		ctx := t.Context()
		db := openCatalog(t, url)
		secret, public, err := note.GenerateKey(rand.Reader, "log.example.org/test")
		check(t, err)
		signer, err := note.NewSigner(secret)
		check(t, err)
		key := Key{Signer: signer, Verifier: public}
		state := filepath.Join(t.TempDir(), "state")
		check(t, InitState(state, key))
		check(t, InitState(state+"-2", key))
		size, last := uint64(0), audit.Checkpoint{Root: audit.EmptyRoot()}
		heir, err := Open(ctx, nodeConfig(db, key, state+"-2", "heir"))
		check(t, err)
		// published grows the log, waits for its checkpoint and compares it with the last.
		published := func() {
			t.Helper()
			size += 1 + mathrand.Uint64N(700)
			grow(t, db, size)
			stored, err := heir.Await(ctx, size)
			// It waits less long than a start or an election may take on a busy machine.
			for late := time.Now().Add(time.Minute); fault.Is(err, fault.Unavailable) && time.Now().Before(late); {
				stored, err = heir.Await(ctx, size)
			}
			check(t, err)
			cp, err := heir.open(stored.Note)
			check(t, err)
			proof, err := heir.Consistency(ctx, cp, last.Size)
			check(t, err)
			check(t, audit.CheckConsistency(last, cp, proof))
			last = cp
		}
		for round := range 2 {
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), childEnv+"="+url, childEnv+"_SECRET="+secret, childEnv+"_PUBLIC="+public, childEnv+"_STATE="+state)
			child.Stderr = os.Stderr
			check(t, child.Start())
			published()
			published() // it is well at work
			grow(t, db, size+300)
			size += 300
			time.Sleep(time.Duration(mathrand.IntN(20)) * time.Millisecond) // a random moment
			check(t, child.Process.Kill())
			child.Wait()

			running, stop := context.WithCancel(ctx)
			ended := make(chan struct{})
			go func() { defer close(ended); heir.Run(running) }()
			published()
			published()
			stop()
			<-ended
			if _, err := Open(ctx, nodeConfig(db, key, state, "child")); err != nil {
				t.Fatalf("round %d: the killed node does not start again: %v", round, err)
			}
		}
	})
}
