//go:build linux

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"dsvault/policies"
	"dsvault/vault/audit"
	"dsvault/vault/client"
)

// TestInitTwice covers second beginnings: a second init, a second server, and
// an init after one that was killed.
func TestInitTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	before := folderObjects(t, filepath.Join(s.data, "keys"))
	s.init().wants(t, exitConflict, "dsvault serve")
	url := s.url
	s.url = "" // another port
	s.serve().wait(t).wants(t, exitConflict, "another dsvault")
	s.url = url
	s.ok("admin", "whoami")
	s.stop()
	s.init().wants(t, exitConflict)
	for name, data := range folderObjects(t, filepath.Join(s.data, "keys")) {
		if name != "log.checkpoint" && !bytes.Equal(before[name], data) { // that one the server moves on
			t.Errorf("a second init changed %s", name)
		}
	}
	s.start()
	s.ok("admin", "log", "--verify")
	s.stop()
}

// TestKilledInit kills init as soon as each of its works shows up.
func TestKilledInit(t *testing.T) {
	t.Parallel()
	for _, sign := range []string{"", "keys/epoch-0001.age", "keys/root.key", "catalog.db", "catalog.db-wal", "objects"} {
		t.Run(sign, func(t *testing.T) {
			s := &site{t: t, dir: t.TempDir()}
			home := filepath.Join(s.dir, "home")
			s.data = filepath.Join(home, "vault")
			p := launch(t, nil, "init", "--data", s.data)
			await(t, "init makes "+sign, func() bool {
				found, _ := filepath.Glob(filepath.Join(home, ".dsvault-init-*", sign))
				return len(found) > 0 || p.ended()
			})
			p.signal(syscall.SIGKILL)
			if o := p.wait(t); o.status == exitOK {
				t.Log("init was faster")
				return
			}
			if _, err := os.Stat(s.data); err == nil { // init had nothing left to do but to say so
				s.start()
			} else {
				s.open()
				s.ok("admin", "log", "--verify")
			}
			s.stop()
			entries, err := os.ReadDir(home)
			if err != nil || len(entries) != 1 {
				t.Errorf("%v is left, %v", entries, err)
			}
		})
	}
}

// TestDamagedVault starts servers on data folders that something happened to.
func TestDamagedVault(t *testing.T) {
	t.Parallel()
	whole := newSite(t)
	whole.project()
	whole.stop()
	other := newSite(t)
	other.stop()
	catalog := "catalog.db"
	overwrite := func(t *testing.T, path string, at int64, data []byte) {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt(data, at)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	version := func(n string) func(*testing.T, string) {
		return func(t *testing.T, data string) {
			db, err := sql.Open("sqlite", filepath.Join(data, catalog))
			if err == nil {
				_, err = db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (" + n + ", 1)")
				db.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tt := range map[string]struct {
		status int
		says   string
		damage func(t *testing.T, data string)
	}{
		"no vault": {exitForbidden, "there is no vault", func(t *testing.T, data string) { remove(t, data) }},
		"no keys":  {exitForbidden, "keys", func(t *testing.T, data string) { remove(t, filepath.Join(data, "keys")) }},
		"no root key": {exitForbidden, "root.key", func(t *testing.T, data string) {
			remove(t, filepath.Join(data, "keys", "root.key"))
		}},
		"keys of another vault": {exitConflict, "another vault", func(t *testing.T, data string) {
			remove(t, filepath.Join(data, "keys"))
			copyFolder(t, filepath.Join(other.data, "keys"), filepath.Join(data, "keys"))
		}},
		"root key of another vault": {exitCorrupt, "root key", func(t *testing.T, data string) {
			remove(t, filepath.Join(data, "keys", "root.key"))
			copyFile(t, filepath.Join(other.data, "keys", "root.key"), filepath.Join(data, "keys", "root.key"))
		}},
		"keys that others may read": {exitForbidden, "chmod 600", func(t *testing.T, data string) {
			if err := os.Chmod(filepath.Join(data, "keys", "root.key"), 0o644); err != nil {
				t.Fatal(err)
			}
		}},
		"no catalog": {exitForbidden, "there is no catalog", func(t *testing.T, data string) { remove(t, filepath.Join(data, catalog)) }},
		"another catalog": {exitConflict, "another vault", func(t *testing.T, data string) {
			copyFile(t, filepath.Join(other.data, catalog), filepath.Join(data, catalog))
		}},
		"a catalog of noise": {exitCorrupt, "not a SQLite database", func(t *testing.T, data string) {
			overwrite(t, filepath.Join(data, catalog), 0, bytes.Repeat([]byte("noise"), 100))
		}},
		"a damaged catalog": {exitCorrupt, "damaged", func(t *testing.T, data string) {
			overwrite(t, filepath.Join(data, catalog), 4096, bytes.Repeat([]byte{0xa5}, 64<<10))
		}},
		"half a catalog": {exitCorrupt, "damaged", func(t *testing.T, data string) {
			if err := os.Truncate(filepath.Join(data, catalog), 40<<10); err != nil {
				t.Fatal(err)
			}
		}},
		"a newer catalog": {exitConflict, "newer version", version("9999")},
	} {
		t.Run(name, func(t *testing.T) {
			s := &site{t: t, dir: t.TempDir()}
			s.data = filepath.Join(s.dir, "vault")
			copyFolder(t, whole.data, s.data)
			tt.damage(t, s.data)
			s.serve().wait(t).wants(t, tt.status, tt.says)
			if name == "no catalog" {
				launch(t, nil, "doctor", "--data", s.data).wait(t).wants(t, exitCorrupt, tt.says)
				if _, err := os.Stat(filepath.Join(s.data, catalog)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the catalog that was missing: %v", err)
				}
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range tree(t, from) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		copyFile(t, filepath.Join(from, name), filepath.Join(to, name))
	}
}

// TestPolicies edits the policy of a running server.
func TestPolicies(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.project()
	s.join("lee", "labeler", "acme/signs")
	s.stop()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	original := make(map[string]string)
	for _, name := range []string{"model.conf", "policy.csv", "truth.csv"} {
		text, err := fs.ReadFile(policies.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		original[name] = string(text)
		write(name, original[name])
	}
	may := []string{"can", "lee", "read", "acme/signs"}
	rule := strings.Fields(s.policyRule(original["policy.csv"], "labeler", "project", "read"))[1]
	id := strings.TrimSuffix(rule, ",")
	without := func(name string) string {
		var kept []string
		for line := range strings.SplitSeq(original[name], "\n") {
			if !strings.Contains(line, id+",") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "\n")
	}
	s.start("--policies", dir)
	s.ok("admin", may...).wants(t, exitOK, id)
	reload := func(words ...string) {
		t.Helper()
		before := len(s.server.err.String())
		s.server.signal(syscall.SIGHUP)
		said := func() string { return s.server.err.String()[before:] }
		await(t, "the policy is read again", func() bool {
			return strings.Contains(said(), "policy refused") || strings.Contains(said(), "policy in force")
		})
		for _, word := range words {
			if !regexp.MustCompile(word).MatchString(said()) {
				t.Errorf("the log does not say %q:\n%s", word, said())
			}
		}
	}

	// Without the rule but with its truth: refused, the old one stays.
	write("policy.csv", without("policy.csv"))
	reload("policy refused", `truth\.csv:[0-9]+|truth\.csv.*line [0-9]+|line [0-9]+`)
	s.ok("admin", may...).wants(t, exitOK, id)
	// A rule that does not parse: refused with its line.
	write("policy.csv", strings.Replace(original["policy.csv"], id+", labeler", id+", lableer", 1))
	reload("policy refused", "lableer", `policy\.csv:[0-9]+|line [0-9]+`)
	s.ok("admin", may...).wants(t, exitOK, id)
	// The same when the server starts.
	s.stop()
	s.serve("--policies", dir).wait(t).wants(t, exitUsage, "lableer", "policy.csv")
	write("policy.csv", original["policy.csv"])
	s.reloadAtStart(dir, "truth.csv", original["truth.csv"])
	// Without the rule and its truth: in force at once, for those who are in.
	write("policy.csv", without("policy.csv"))
	write("truth.csv", without("truth.csv"))
	reload("policy in force")
	s.run("admin", may...).wants(t, exitFailed, "refused")
	s.ok("admin", "log", "--verify").wants(t, exitOK, "policy-load")
	// The folder goes: the last good one stays.
	remove(t, filepath.Join(dir, "model.conf"))
	reload("policy refused", "model.conf")
	s.run("admin", may...).wants(t, exitFailed)
	s.stop()
}

// reloadAtStart starts a server and sends it SIGHUP while it reads the file
// name of the policy folder dir: it has to start and to read the folder again.
func (s *site) reloadAtStart(dir, name, text string) {
	s.t.Helper()
	path := filepath.Join(dir, name)
	remove(s.t, path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.server = s.serve("--policies", dir)
	var pipe *os.File
	await(s.t, "the server opens "+name, func() (opened bool) {
		var err error
		pipe, err = os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err == nil
	})
	defer pipe.Close()
	remove(s.t, path)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.server.signal(syscall.SIGHUP)
	if _, err := pipe.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
	pipe.Close()
	s.listens()
	await(s.t, "the policy is read again", func() bool { return strings.Contains(s.server.err.String(), "policy in force") })
}

// policyRule finds the one rule of a role for an action.
func (s *site) policyRule(table, role, object, action string) string {
	s.t.Helper()
	want := regexp.MustCompile(`(?m)^p, [A-Z]+-[0-9]+, ` + role + ", " + object + ", " + action + ",.*allow$")
	found := want.FindAllString(table, -1)
	if len(found) != 1 {
		s.t.Fatalf("found %q", found)
	}
	return found[0]
}

// TestTLS serves over TLS, on loopback and on all addresses.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	s := &site{t: t, dir: dir, data: filepath.Join(dir, "vault")}
	var made initialised
	s.init().wants(t, exitOK).into(t, &made)
	s.serve("--listen", "0.0.0.0:0").wait(t).wants(t, exitUsage, "in clear", "--behind-tls-proxy")
	s.serve("--listen", "[::]:0").wait(t).wants(t, exitUsage, "in clear")
	s.serve("--listen", ":0").wait(t).wants(t, exitUsage, "in clear")
	s.serve("--tls-cert", cert).wait(t).wants(t, exitUsage, "--tls-key")
	s.serve("--tls-cert", cert, "--tls-key", cert).wait(t).wants(t, exitUsage, "certificate")

	s.start("--tls-cert", cert, "--tls-key", key)
	if !strings.HasPrefix(s.url, "https://127.0.0.1:") {
		t.Errorf("listening on %s", s.url)
	}
	untrusting := launch(t, []string{"DSVAULT_CONFIG=" + s.config("nobody"), "DSVAULT_TOKEN=" + made.Token}, "login", s.url)
	untrusting.wait(t).wants(t, exitUnavailable, "certificate")
	s.clients = []string{"SSL_CERT_FILE=" + cert}
	s.login("admin", made.Token)
	s.project()
	source := files(t, 3)
	s.ok("cleo", "push", source, batch)
	s.ok("cleo", "pull", batch, "-o", s.out("cleo"))
	sameFiles(t, source, s.out("cleo"))
	plain := launch(t, append(s.clients, "DSVAULT_CONFIG="+s.config("cleo"), "DSVAULT_URL=http"+strings.TrimPrefix(s.url, "https")), "whoami")
	if o := plain.wait(t); o.status == exitOK {
		t.Errorf("plain HTTP is served, too: %s", o)
	}
	s.stop()
	s.start("--tls-cert", cert, "--tls-key", key, "--listen", "0.0.0.0:0")
	s.stop()
}

// certificate makes a self-signed certificate for 127.0.0.1.
func certificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestShutdown ends the server while somebody downloads slowly, who may finish,
// and somebody else does not go on at all, who is cut off.
func TestShutdown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.project()
	s.join("ann", "auditor", "/")
	owner, _ := s.client("cleo", nil)
	big := s.bigDataset(owner)
	type download struct {
		begun, goOn chan struct{}
		done        chan error
		pulled      client.Pulled
	}
	begin := func(name string) *download {
		d := &download{begun: make(chan struct{}, 1), goOn: make(chan struct{}), done: make(chan error, 1)}
		c, _ := s.client("cleo", stalling{http.DefaultTransport.(*http.Transport).Clone(), func() {
			select {
			case d.begun <- struct{}{}:
			default:
			}
			<-d.goOn
		}})
		go func() {
			var err error
			d.pulled, err = c.Pull(t.Context(), big, client.PullOptions{Dir: s.out(name)})
			d.done <- err
		}()
		await(t, "the download begins", func() bool { return len(d.begun) > 0 })
		return d
	}
	slow, stuck := begin("slow"), begin("stuck")
	s.server.signal(syscall.SIGTERM)
	address := strings.TrimPrefix(s.url, "http://")
	await(t, "new connections are refused", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(slow.goOn)
	if err := <-slow.done; err != nil {
		t.Errorf("the slow download did not finish: %v", err)
	}
	// The stuck one does not hold the server up for ever.
	if o := s.server.wait(t); o.status != exitOK {
		t.Errorf("the server did not end cleanly: %s", o)
	}
	close(stuck.goOn)
	if err := <-stuck.done; err == nil {
		t.Error("the stuck download succeeded")
	}
	s.start()
	records, verified := s.verified("ann")
	if len(verified.Open) > 0 {
		t.Errorf("reads without an end: %v", verified.Open)
	}
	var causes []string
	for _, r := range records {
		if r.Kind == audit.KindReadEnd.String() {
			causes = append(causes, r.Detail["cause"]+r.Reason)
			t.Logf("read-end: %s %v", r.Reason, r.Detail)
		}
	}
	if len(causes) != 2 || strings.Contains(causes[0], "unknown") || strings.Contains(causes[1], "unknown") || causes[0] == causes[1] {
		t.Errorf("the reads ended as %q", causes)
	}
	s.stop()
}
