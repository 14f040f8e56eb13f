package storagetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// postgresServer is one real PostgreSQL, on a socket in a folder of its own.
type postgresServer struct {
	launch    func() (*process, error)
	process   *process
	folder    string
	databases atomic.Int64 // made so far; names them
}

// errNoPostgres: the programs are not on this machine.
var errNoPostgres = errors.New("no PostgreSQL server programs (initdb, postgres) were found")

// Postgres returns the DSN (a URL) of a fresh, empty database, dropped when t
// ends. The first call starts one PostgreSQL for the whole test process, with
// fsync on; see Main for its end. Other processes of the test may connect too.
func Postgres(t testing.TB) (dsn string) {
	t.Helper()
	shared.mu.Lock()
	if shared.postgres == nil && shared.pgErr == nil {
		shared.postgres, shared.pgErr = startPostgres()
	}
	server, err := shared.postgres, shared.pgErr
	shared.mu.Unlock()
	if errors.Is(err, errNoPostgres) {
		missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}

	name := fmt.Sprintf("t%d", server.databases.Add(1))
	if err := server.exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return server.dsn(name)
}

func (s *postgresServer) dsn(database string) string {
	return "postgres://postgres@localhost/" + database + "?sslmode=disable&host=" + url.QueryEscape(s.folder)
}

// exec runs one statement in the maintenance database.
func (s *postgresServer) exec(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.dsn("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

func (s *postgresServer) stop() {
	s.process.stop(syscall.SIGINT) // "fast": ends the sessions
	os.RemoveAll(s.folder)
}

func startPostgres() (*postgresServer, error) {
	folder, err := tempFolder("pg")
	if err != nil {
		return nil, err
	}
	return startPostgresIn(folder)
}

func startPostgresIn(folder string) (*postgresServer, error) {
	initdb, postgres, err := postgresPrograms()
	if err != nil {
		os.RemoveAll(folder)
		return nil, err
	}
	server, err := runPostgres(initdb, postgres, folder)
	if err != nil {
		os.RemoveAll(folder)
		return nil, err
	}
	return server, nil
}

func runPostgres(initdb, postgres, folder string) (*postgresServer, error) {
	as := func(*exec.Cmd) {}
	if os.Getuid() == 0 { // it refuses to run as root
		uid, gid, err := postgresUser()
		if err != nil {
			return nil, err
		}
		if err := os.Chown(folder, uid, gid); err != nil {
			return nil, err
		}
		as = func(cmd *exec.Cmd) { runAs(cmd, uid, gid) }
	}
	data := filepath.Join(folder, "data")

	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	// --no-sync: a cluster that was lost half-made is never used.
	cmd := exec.CommandContext(ctx, initdb, "--pgdata", data, "--username=postgres", "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--no-sync")
	cmd.Dir = folder
	as(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}

	server := &postgresServer{folder: folder, launch: func() (*process, error) {
		cmd := exec.Command(postgres, "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "max_connections=200")
		cmd.Dir = folder
		as(cmd)
		return start(cmd)
	}}
	if err := server.start(); err != nil {
		return nil, err
	}
	return server, nil
}

func (s *postgresServer) start() (err error) {
	if s.process, err = s.launch(); err != nil {
		return err
	}
	if err = s.process.await(func() error { return s.exec("SELECT 1") }); err != nil {
		s.process.stop(syscall.SIGINT)
	}
	return err
}

// Cluster is a PostgreSQL of one test's own, whose role can be changed.
type Cluster struct {
	t      testing.TB
	server *postgresServer
}

// NewCluster starts a PostgreSQL that ends with t.
func NewCluster(t testing.TB) *Cluster {
	t.Helper()
	folder, err := tempFolder("pg")
	if err != nil {
		t.Fatal(err)
	}
	return NewClusterIn(t, folder)
}

// NewClusterIn starts one that has its files in a folder, whose name must be
// short; it is emptied when t ends.
func NewClusterIn(t testing.TB, folder string) *Cluster {
	t.Helper()
	server, err := startPostgresIn(folder)
	if errors.Is(err, errNoPostgres) {
		missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.stop)
	return &Cluster{t, server}
}

// DSN is the URL of its one database.
func (c *Cluster) DSN() string { return c.server.dsn("postgres") }

// Data is the folder with the server's files.
func (c *Cluster) Data() string { return filepath.Join(c.server.folder, "data") }

// Exec runs one statement.
func (c *Cluster) Exec(statement string) {
	c.t.Helper()
	if err := c.server.exec(statement); err != nil {
		c.t.Fatal(err)
	}
}

// Stop ends the server, as a crash does, until Start.
func (c *Cluster) Stop() { c.server.process.stop(syscall.SIGQUIT) }

// Start starts it again.
func (c *Cluster) Start() {
	c.t.Helper()
	if err := c.server.start(); err != nil {
		c.t.Fatal(err)
	}
}

// Ended reports whether the server has given up by itself.
func (c *Cluster) Ended() bool {
	select {
	case <-c.server.process.done:
		return true
	default:
		return false
	}
}

// Demote makes the server a standby, which takes no writes, as after a failover.
func (c *Cluster) Demote() {
	c.t.Helper()
	c.server.process.stop(syscall.SIGINT)
	err := os.WriteFile(filepath.Join(c.Data(), "standby.signal"), nil, 0o644)
	if err == nil {
		err = c.server.start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// Shut ends the server in order, which ends its sessions all the same, until Start.
func (c *Cluster) Shut() { c.server.process.stop(syscall.SIGINT) }

// Socket is the path of the Unix socket that the server listens on.
func (c *Cluster) Socket() string { return filepath.Join(c.server.folder, ".s.PGSQL.5432") }

// Promote makes a standby take writes again.
func (c *Cluster) Promote() {
	c.t.Helper()
	c.Exec("SELECT pg_promote()")
}

// postgresPrograms finds initdb and postgres where Debian puts them (the newest
// version), or in PATH.
func postgresPrograms() (initdb, postgres string, err error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	if len(found) > 0 {
		return filepath.Join(filepath.Dir(found[0]), "initdb"), found[0], nil
	}
	initdb, err1 := exec.LookPath("initdb")
	postgres, err2 := exec.LookPath("postgres")
	if err1 != nil || err2 != nil {
		return "", "", errNoPostgres
	}
	return initdb, postgres, nil
}

func postgresUser() (uid, gid int, err error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return 0, 0, fmt.Errorf("PostgreSQL does not run as root, and there is no user for it: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return uid, gid, errors.Join(err1, err2)
}
