package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// update lets the tests that compare a file with what it is made from write it.
var update = flag.Bool("update", false, "write the files that tests compare with")

const (
	module     = "dsvault"
	repository = "../.."
)

// layers gives each package its rank. A package imports packages of lower rank
// only; extra names what it may import besides. This table is the one place:
// the linter's rules in .depguard.json are made from it.
var layers = map[string]struct {
	rank  int
	extra []string
}{
	"vault/fault":   {0, nil},
	"policies":      {0, nil},
	"vault/audit":   {0, nil}, // an auditor builds it without anything else of ours
	"vault/dataset": {0, []string{"vault/fault"}},
	"vault/seal":    {0, []string{"vault/fault"}},
	"vault/trace":   {0, nil},

	"vault/wire":    {1, nil},
	"vault/pack":    {1, nil},
	"vault/courier": {1, nil},
	"vault/metrics": {1, nil}, // does what the meters of others ask for, without them
	"vault/tracing": {1, nil},
	"rbac":          {1, nil},
	"storage":       {1, nil},

	"storage/s3":      {2, nil},
	"storage/dir":     {2, nil},
	"storage/catalog": {2, nil},

	"vault/ledger":   {3, nil},
	"vault/identity": {3, []string{"vault/ledger"}},

	"vault/keys":   {4, nil},
	"vault/notary": {4, nil},

	"vault":        {5, nil},
	"vault/client": {5, nil},

	"vault/api":     {6, nil},
	"vault/console": {6, nil},

	"cmd/dsvault": {7, nil},

	"storage/storagetest":       {testHelper, nil},
	"vault/courier/couriertest": {testHelper, nil},
}

// testHelper is the rank of what tests alone import: nothing is above it.
const testHelper = 2_000

// homes says which packages may import a library. The rest of the program does
// not know that it is there. Tests may import anything.
var homes = map[string][]string{
	"github.com/casbin/":           {"rbac"},
	"github.com/minio/":            {"storage/s3", "storage/storagetest"},
	"github.com/labstack/echo":     {"vault/api", "vault/console"},
	"database/sql":                 {"storage/catalog", "storage/storagetest"},
	"modernc.org/":                 {"storage/catalog"},
	"github.com/jackc/":            {"storage/catalog", "storage/storagetest"},
	"github.com/pressly/goose":     {"storage/catalog"},
	"filippo.io/age":               {"vault/seal", "vault/keys"},
	"github.com/transparency-dev/": {"vault/audit", "vault/ledger"},
	"github.com/prometheus/":       {"vault/metrics"},
	"go.opentelemetry.io/":         {"vault/tracing"},
	"github.com/spf13/":            {"cmd/dsvault"},
	"github.com/schollz/":          {"cmd/dsvault"},
	"github.com/wneessen/":         {"vault/courier"},
	"code.dny.dev/":                {"vault/courier"},
	"github.com/emersion/":         {"vault/courier/couriertest"},
	"github.com/standard-webhooks": {"vault/courier/couriertest"},
	"testing":                      {"storage/storagetest", "vault/courier/couriertest"},
	"pgregory.net/rapid":           {},
	"github.com/rogpeppe/":         {},
	"c2sp.org/CCTV/":               {},
}

// light are the packages that people build into programs of their own: they
// lead to nothing heavy.
var (
	light = []string{"vault/audit", "vault/client"}
	heavy = []string{"database/sql", "modernc.org/", "github.com/jackc/", "github.com/minio/", "github.com/casbin/", "github.com/labstack/"}
)

// mayImport reports whether the source, not the tests, of a package may import
// another one of ours.
func mayImport(from, to string) bool {
	if from == "vault/audit" || from == "vault/fault" || from == "policies" {
		return false
	}
	return layers[to].rank < layers[from].rank && layers[to].rank != testHelper || slices.Contains(layers[from].extra, to)
}

func belongs(homes []string) string {
	if len(homes) == 0 {
		return "is for tests"
	}
	return "belongs in " + strings.Join(homes, " and ")
}

// sources gives what each package of the module imports, and one file that
// does. It reads every Go file but the tests, whatever its build tags.
func sources(t *testing.T) map[string]map[string]string {
	t.Helper()
	found := map[string]map[string]string{}
	err := filepath.WalkDir(repository, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != repository && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(repository, name)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(rel))
		if found[pkg] == nil {
			found[pkg] = map[string]string{}
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found[pkg][imported] = filepath.ToSlash(rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 10 {
		t.Fatalf("only %d packages were found", len(found))
	}
	return found
}

// ours gives the path of an imported package inside the module.
func ours(imported string) (string, bool) { return strings.CutPrefix(imported, module+"/") }

// TestLayers: the imports are the architecture.
func TestLayers(t *testing.T) {
	found := sources(t)
	for pkg, imports := range found {
		if _, ok := layers[pkg]; !ok {
			t.Errorf("package %s has no rank: give it one in the table of layers", pkg)
			continue
		}
		for imported, file := range imports {
			if to, ok := ours(imported); ok && !mayImport(pkg, to) {
				t.Errorf("%s: %s (rank %d) may not import %s (rank %d)", file, pkg, layers[pkg].rank, to, layers[to].rank)
			}
		}
		for library, homes := range homes {
			for imported, file := range imports {
				if strings.HasPrefix(imported, library) && !slices.Contains(homes, pkg) {
					t.Errorf("%s: %s %s", file, imported, belongs(homes))
				}
			}
		}
	}
}

func TestLayersKeepLightPackagesLight(t *testing.T) {
	found := sources(t)
	for _, root := range light {
		seen := map[string]bool{}
		var visit func(pkg string, way []string)
		visit = func(pkg string, way []string) {
			if seen[pkg] {
				return
			}
			seen[pkg] = true
			for imported := range found[pkg] {
				if to, ok := ours(imported); ok {
					visit(to, append(slices.Clone(way), to))
					continue
				}
				if slices.ContainsFunc(heavy, func(h string) bool { return strings.HasPrefix(imported, h) }) {
					t.Errorf("%s leads to %s by %s", root, imported, strings.Join(way, " -> "))
				}
			}
		}
		visit(root, []string{root})
	}
}

// The rules themselves must be able to refuse.
func TestLayersRefuse(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"vault", "vault/ledger", true}, {"vault/ledger", "vault", false},
		{"vault/identity", "vault/ledger", true}, {"vault/ledger", "vault/identity", false},
		{"vault/api", "vault/client", true}, {"vault/client", "vault", false},
		{"vault/audit", "vault/fault", false}, {"vault/seal", "vault/dataset", false},
		{"cmd/dsvault", "storage/storagetest", false}, {"storage/s3", "storage/dir", false},
		{"vault/console", "vault/api", false}, {"vault/dataset", "vault/fault", true},
	} {
		if got := mayImport(c.from, c.to); got != c.want {
			t.Errorf("mayImport(%s, %s) = %v", c.from, c.to, got)
		}
	}
}

// depguard is one list of the linter's configuration.
type depguard struct {
	ListMode string            `json:"listMode"`
	Files    []string          `json:"files"`
	Allow    []string          `json:"allow,omitempty"`
	Deny     map[string]string `json:"deny"`
}

// TestLayersInLinter: the linter's rules are those of the table. After a change
// of the table: go test -run TestLayers ./cmd/dsvault -update
func TestLayersInLinter(t *testing.T) {
	rules := map[string]depguard{}
	for pkg := range layers {
		rule := depguard{ListMode: "lax", Files: []string{"**/" + pkg + "/*.go", "!$test"}}
		for _, to := range slices.Sorted(maps.Keys(layers)) {
			if mayImport(pkg, to) {
				rule.Allow = append(rule.Allow, module+"/"+to+"$")
			}
		}
		rule.Deny = map[string]string{module + "/": "is not in a layer below " + pkg}
		rules[pkg] = rule
	}
	for library, in := range homes {
		rule := depguard{ListMode: "lax", Files: []string{"$all", "!$test"}, Deny: map[string]string{library: belongs(in)}}
		for _, pkg := range in {
			rule.Files = append(rule.Files, "!**/"+pkg+"/*.go")
		}
		rules[library] = rule
	}
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(rules); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(repository, ".depguard.json")
	if *update {
		if err := os.WriteFile(name, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error(".depguard.json differs from the table of layers: run go test -run TestLayers ./cmd/dsvault -update")
	}
}
