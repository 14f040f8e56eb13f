package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dsvault/storage"
	"dsvault/storage/storagetest"
	"dsvault/vault/dataset"
)

// childEnv makes the test binary run one of children instead of the tests.
const childEnv = "DSVAULT_CATALOG_CHILD"

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		children[name]()
		os.Exit(0)
	}
	storagetest.Main(m)
}

// engines start what they need and give a function that makes new, empty
// catalogs and returns their URLs.
var engines = []struct {
	name  string
	start func(t testing.TB) (freshURL func() string)
}{
	{"sqlite", func(t testing.TB) func() string {
		return func() string { return "sqlite:" + filepath.Join(t.TempDir(), fmt.Sprint(counter.Add(1), ".db")) }
	}},
	{"postgres", func(t testing.TB) func() string {
		// A schema of its own isolates as well as a database, and is made much faster.
		dsn := postgresDSN(t)
		return func() string {
			schema := fmt.Sprint("s", counter.Add(1))
			postgresExec(t, dsn, "CREATE SCHEMA "+schema)
			return dsn + "&search_path=" + schema
		}
	}},
}

func postgresDSN(t testing.TB) string {
	t.Helper()
	return storagetest.Postgres(t)
}

func postgresExec(t testing.TB, dsn, statement string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), statement); err != nil {
		t.Fatal(err)
	}
}

// TestConformance runs the one suite on every engine, each test on a fresh
// database.
func TestConformance(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine.name, func(t *testing.T) {
			freshURL := engine.start(t)
			for _, test := range suite {
				t.Run(test.name, func(t *testing.T) {
					url := freshURL()
					s := &fixture{T: t, url: url, db: open(t, url), engine: engine.name, freshURL: freshURL}
					test.run(s)
				})
			}
		})
	}
}

var suite = []struct {
	name string
	run  func(*fixture)
}{
	{"Head", testHead},
	{"Leaves", testLeaves},
	{"LeavesInBulk", testLeavesInBulk},
	{"LeavesOverBatches", testLeavesOverBatches},
	{"DropDetails", testDropDetails},
	{"DropDetailsOf", testDropDetailsOf},
	{"Forget", testForget},
	{"Work", testWork},
	{"Reviews", testReviews},
	{"LastUse", testLastUse},
	{"Scrub", testScrub},
	{"Choices", testChoices},
	{"RightsRequests", testRightsRequests},
	{"MovedLeaves", testMovedLeaves},
	{"BrokenBatches", testBrokenBatches},
	{"Chains", testChains},
	{"OpenReads", testOpenReads},
	{"Scopes", testScopes},
	{"Projects", testProjects},
	{"Conditions", testConditions},
	{"MovedConditions", testMovedConditions},
	{"Datasets", testDatasets},
	{"Attempts", testAttempts},
	{"Shards", testShards},
	{"Checks", testChecks},
	{"StoredObjects", testStoredObjects},
	{"MissingShards", testMissingShards},
	{"Versions", testVersions},
	{"MovedVersions", testMovedVersions},
	{"Parts", testParts},
	{"NoncesAreUniqueForEver", testNonces},
	{"Principals", testPrincipals},
	{"Tokens", testTokens},
	{"OneTimeTokenRace", testTokenRace},
	{"Links", testLinks},
	{"Approvals", testApprovals},
	{"Outbox", testOutbox},
	{"Addresses", testAddresses},
	{"Notices", testNotices},
	{"BreakGlass", testBreakGlass},
	{"Disclosures", testDisclosures},
	{"Devices", testDevices},
	{"Agreements", testAgreements},
	{"Signatures", testSignatures},
	{"Grants", testGrants},
	{"Assignments", testAssignments},
	{"Meta", testMeta},
	{"Leases", testLeases},
	{"LeaseRace", testLeaseRace},
	{"Hold", testHold},
	{"HoldAlone", testHoldAlone},
	{"HolderKilled", testHolderKilled},
	{"Checkpoint", testCheckpoint},
	{"Tiles", testTiles},
	{"Times", testTimes},
	{"Savepoints", testSavepoints},
	{"BrokenTransaction", testBrokenTransaction},
	{"BrokenView", testBrokenView},
	{"Together", testTogether},
	{"Snapshot", testSnapshot},
	{"HeadLock", testHeadLock},
	{"CancelledContexts", testCancelled},
	{"MisuseOfTransactions", testMisuse},
	{"Reopen", testReopen},
	{"OpenedTwiceAtOnce", testOpenedTwiceAtOnce},
	{"NewerSchemaIsRefused", testNewerSchema},
	{"Close", testClose},
}

// fixture is one test's database.
type fixture struct {
	*testing.T
	url      string
	db       *DB
	engine   string
	freshURL func() string
}

func open(t testing.TB, url string) *DB {
	t.Helper()
	db, err := Open(t.Context(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// write commits what f writes.
func (s *fixture) write(f func(ctx context.Context, tx *Tx) error) {
	s.Helper()
	if err := s.try(f); err != nil {
		s.Fatal(err)
	}
}

func (s *fixture) try(f func(ctx context.Context, tx *Tx) error) error {
	tx, err := s.db.Begin(s.Context())
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(s.Context(), tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (s *fixture) read(f func(ctx context.Context, tx *Tx) error) {
	s.Helper()
	if err := s.db.View(s.Context(), func(tx *Tx) error { return f(s.Context(), tx) }); err != nil {
		s.Fatal(err)
	}
}

// get reads one value in a snapshot of its own.
func get[T any](s *fixture, f func(ctx context.Context, tx *Tx) (T, error)) T {
	s.Helper()
	var value T
	s.read(func(ctx context.Context, tx *Tx) (err error) {
		value, err = f(ctx, tx)
		return err
	})
	return value
}

// getErr is get for a call that should fail.
func getErr[T any](s *fixture, f func(ctx context.Context, tx *Tx) (T, error)) error {
	return s.db.View(s.Context(), func(tx *Tx) error {
		_, err := f(s.Context(), tx)
		return err
	})
}

func same[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func failsWith(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got error %v, want %v", what, err, want)
	}
}

var counter atomic.Uint64

// fresh gives 32 bytes that no other call gives.
func fresh() [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, counter.Add(1)))
}

func newID[T ~[16]byte]() T { return T(fresh16()) }

func fresh16() [16]byte { b := fresh(); return [16]byte(b[:16]) }

func day(n int) time.Time { return time.Date(2026, 1, n, 3, 4, 5, 678_901_000, time.UTC) }

func scope(path string) dataset.Scope {
	s, err := dataset.ParseScope(path)
	if err != nil {
		panic(err)
	}
	return s
}

// person adds a principal.
func (s *fixture) person(handle string) dataset.PrincipalID {
	s.Helper()
	p := storage.Principal{ID: newID[dataset.PrincipalID](), Handle: handle, CreatedAt: day(1)}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddPrincipal(ctx, p) })
	return p.ID
}

// scopeRow adds a scope.
func (s *fixture) scopeRow(slot uint64, path string) storage.ScopeRow {
	s.Helper()
	row := storage.ScopeRow{Slot: slot, Scope: scope(path), Tag: fresh16(), CreatedAt: day(1), CreatedBy: newID[dataset.PrincipalID]()}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddScope(ctx, row) })
	return row
}

// dataset adds a dataset and its scope.
func (s *fixture) dataset(slot uint64, path string, rev uint64) storage.Dataset {
	s.Helper()
	row := s.scopeRow(slot, path)
	d := storage.Dataset{ID: newID[dataset.DatasetID](), Slot: slot, Scope: row.Scope, Tag: row.Tag, State: dataset.Active,
		Recipient: "age1pq…", Salt: fresh(), Revision: rev, CreatedAt: day(2), CreatedBy: newID[dataset.PrincipalID]()}
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddDataset(ctx, d) })
	return d
}
