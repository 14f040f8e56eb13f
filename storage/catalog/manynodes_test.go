package catalog

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"dsvault/storage/storagetest"
)

func init() { children["open"] = openInChild }

// openInChild opens the catalog once it is told to, uses it, and says so.
func openInChild() {
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	db, err := Open(context.Background(), os.Getenv(childEnv+"_URL"), Options{})
	if err == nil {
		err = db.Ping(context.Background())
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("opened", db.Schema())
}

// node is a process that opens a catalog.
type node struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startNode(t *testing.T, url string) node {
	t.Helper()
	n := node{cmd: exec.Command(os.Args[0])}
	n.cmd.Env = append(os.Environ(), childEnv+"=open", childEnv+"_URL="+url)
	var err error
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := n.cmd.StdoutPipe()
	if err == nil {
		err = n.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	n.out = bufio.NewReader(out)
	t.Cleanup(func() {
		n.cmd.Process.Kill()
		n.cmd.Wait()
	})
	if line, err := n.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	return n
}

// TestManyNodesMigrate starts processes on one database at once: an empty one, one
// with an old schema, and one whose first node was killed while it migrated. Each
// migration is done once, and all of them open it.
func TestManyNodesMigrate(t *testing.T) {
	const nodes = 4
	for name, prepare := range map[string]func(t *testing.T, s *fixture) (url string){
		"empty": func(_ *testing.T, s *fixture) string { return s.freshURL() },
		"old":   func(_ *testing.T, s *fixture) string { return s.before(9).url },
		"killed": func(t *testing.T, s *fixture) string {
			url := s.before(5).url
			first := startNode(t, url)
			fmt.Fprintln(first.in)
			first.cmd.Process.Kill()
			first.cmd.Wait()
			return url
		},
	} {
		t.Run(name, func(t *testing.T) {
			fresh := func() string { return storagetest.Postgres(t) }
			s := &fixture{T: t, db: open(t, fresh()), engine: "postgres", freshURL: fresh}
			s.url = prepare(t, s)
			var all []node
			for range nodes {
				all = append(all, startNode(t, s.url))
			}
			for _, n := range all {
				fmt.Fprintln(n.in)
			}
			for i, n := range all {
				want := fmt.Sprintln("opened", s.db.Schema())
				if line, err := n.out.ReadString('\n'); line != want {
					t.Errorf("node %d said %q, %v", i, line, err)
				}
			}
			raw := s.rawDB()
			var versions, rows int
			err := raw.QueryRowContext(t.Context(), "SELECT COUNT(DISTINCT version_id), COUNT(*) FROM goose_db_version WHERE version_id > 0").Scan(&versions, &rows)
			if list, _ := migrations(&postgresDialect); err != nil || versions != len(list) || rows != len(list) {
				t.Errorf("%d migrations were done in %d rows, %v; want each of %d once", versions, rows, err, len(list))
			}
		})
	}
}
