package s3

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"dsvault/storage/storagetest"
)

var update = flag.Bool("update", false, "write what the probe finds into docs/s3.md")

// powers are the rows of the table in the docs, by the fields of Report.
var powers = []struct{ field, text string }{
	{"Range", "GET of a range"},
	{"IfMatch", "GET refuses another ETag (If-Match)"},
	{"Checksums", "PUT of a damaged body is refused"},
	{"PartChecksums", "so is a damaged part"},
	{"Multipart", "multipart uploads"},
	{"MultipartETag", "Complete gives the object's ETag"},
	{"ListUploads", "lists unfinished uploads to one key"},
	{"SweepUploads", "lists unfinished uploads below a prefix"},
	{"PutIfAbsent", "conditional PUT (If-None-Match: *)"},
	{"Presigned", "presigned URLs of parts"},
	{"PresignedChecksums", "a part sent so that is not the one announced is refused"},
	{"Versioned", "buckets with versions"},
	{"ObjectLock", "buckets with object lock"},
}

const docs = "../../docs/s3.md"

// TestProbe holds the table in the docs to what the servers really do.
func TestProbe(t *testing.T) {
	if n := reflect.TypeFor[Report]().NumField(); n != len(powers) {
		t.Fatalf("Report has %d fields, the table %d rows", n, len(powers))
	}
	found := map[string]Report{}
	for _, server := range servers {
		t.Run(server.name, func(t *testing.T) { found[server.name] = probe(t, server.start(t)) })
	}
	if len(found) != len(servers) {
		t.Skip("the table needs every server")
	}
	var table strings.Builder
	head, line := "| |", "| --- |"
	for _, server := range servers {
		head, line = head+" "+server.name+" |", line+" --- |"
	}
	fmt.Fprintf(&table, "%s\n%s\n", head, line)
	for _, power := range powers {
		fmt.Fprintf(&table, "| %s |", power.text)
		for _, server := range servers {
			yes := reflect.ValueOf(found[server.name]).FieldByName(power.field).Bool()
			fmt.Fprintf(&table, " %s |", map[bool]string{true: "yes", false: "no"}[yes])
		}
		fmt.Fprintln(&table)
	}
	checkDocs(t, table.String())
}

// probe asks for all that the server has: of the kinds of bucket it makes, one
// with object lock, or else with versions.
func probe(t *testing.T, server storagetest.S3Server) Report {
	s := mustOpen(t, server, "p", nil)
	plain, err := s.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if plain.Versioned || plain.ObjectLock {
		t.Errorf("a plain bucket: %+v", plain)
	}
	checkNothingLeft(t, s)
	report := plain
	for _, kind := range []string{"versioned", "locked"} {
		server.Bucket = kind + "-bucket"
		err := s.core.MakeBucket(t.Context(), server.Bucket, minio.MakeBucketOptions{Region: server.Region, ObjectLocking: kind == "locked"})
		if err == nil && kind == "versioned" {
			err = s.core.EnableVersioning(t.Context(), server.Bucket)
		}
		if err != nil {
			t.Logf("no %s bucket: %v", kind, err)
			continue
		}
		special := mustOpen(t, server, "p", nil)
		r, err := special.Probe(t.Context())
		if err != nil {
			t.Fatal(kind, err)
		}
		checkNothingLeft(t, special)
		report.Versioned, report.ObjectLock = report.Versioned || r.Versioned, report.ObjectLock || r.ObjectLock
		r.Versioned, r.ObjectLock = false, false
		if r != plain {
			t.Errorf("a %s bucket: %+v, a plain one: %+v", kind, r, plain)
		}
	}
	return report
}

// checkNothingLeft looks for objects, and for versions where there are any.
func checkNothingLeft(t *testing.T, s *Store) {
	t.Helper()
	for _, versions := range []bool{false, s.watch.versioned.Load()} {
		for o := range s.core.ListObjectsIter(t.Context(), s.config.Bucket, minio.ListObjectsOptions{Recursive: true, WithVersions: versions}) {
			t.Errorf("left over: %s, version %q, marker %v, error %v", o.Key, o.VersionID, o.IsDeleteMarker, o.Err)
		}
	}
}

// checkDocs compares the table with the one in the docs, or puts it there.
func checkDocs(t *testing.T, table string) {
	const begin, end = "<!-- what the probe found; go test ./storage/s3 -run TestProbe -update -->\n", "<!-- end -->"
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	switch {
	case !ok1 || !ok2:
		t.Fatalf("%s has no place for the table", docs)
	case old == table:
	case *update:
		if err := os.WriteFile(docs, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the probe found\n%s\nand %s says\n%s", table, docs, old)
	}
}
