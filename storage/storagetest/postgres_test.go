package storagetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) {
	if os.Getenv("STORAGETEST_DIE") == "" {
		Main(m)
	}
	m.Run() // its servers are left to the kernel, as by a crash
	os.Exit(1)
}

func TestPostgresGivesFreshDurableDatabases(t *testing.T) {
	a, b := Postgres(t), Postgres(t)
	for _, dsn := range []string{a, b} {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "CREATE TABLE one (n int)"); err != nil {
			t.Errorf("the databases are not apart: %v", err)
		}
		var fsync string
		if err := conn.QueryRow(t.Context(), "SHOW fsync").Scan(&fsync); err != nil || fsync != "on" {
			t.Errorf("fsync = %q, %v", fsync, err)
		}
		conn.Close(t.Context())
	}
}

// TestPostgresEndsWithItsProcess kills nothing itself: a child test process
// exits without stopping its server, and the server has to end on its own.
func TestPostgresEndsWithItsProcess(t *testing.T) {
	if os.Getenv("STORAGETEST_DIE") != "" {
		Postgres(t)
		pid, err := os.ReadFile(filepath.Join(shared.postgres.folder, "data", "postmaster.pid"))
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(pid), "\n")
		note := line + "\n" + shared.postgres.folder
		if err := os.WriteFile(os.Getenv("STORAGETEST_DIE"), []byte(note), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if _, _, err := postgresPrograms(); err != nil {
		missing(t, err.Error())
	}
	note := filepath.Join(t.TempDir(), "pid")
	cmd := exec.Command(os.Args[0], "-test.run=^TestPostgresEndsWithItsProcess$")
	cmd.Env = append(os.Environ(), "STORAGETEST_DIE="+note)
	out, _ := cmd.CombinedOutput()
	text, err := os.ReadFile(note)
	if err != nil {
		t.Fatalf("the child started no server: %v\n%s", err, out)
	}
	line, folder, _ := strings.Cut(string(text), "\n")
	t.Cleanup(func() { os.RemoveAll(folder) })
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(startLimit); !gone(pid); {
		if time.Now().After(deadline) {
			t.Fatalf("PostgreSQL, process %d, outlived its test", pid)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
