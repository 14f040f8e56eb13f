package client

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

func newHome(t *testing.T) *Home {
	t.Helper()
	h, err := OpenHome(filepath.Join(t.TempDir(), "deep", "home"))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHomeIsPrivate(t *testing.T) {
	p := newHome(t).Current()
	if _, err := p.EnsureDevice(); err != nil {
		t.Fatal(err)
	}
	if err := p.SaveToken(mustSecret(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.SaveLogin(Login{URL: "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(p.Dir())
	if err != nil || len(entries) != 3 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
		path := filepath.Join(p.Dir(), e.Name())
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if info, _ := os.Stat(p.Dir()); info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v", info.Mode())
	}
	_, err = p.Token()
	wantCode(t, err, fault.Invalid)
	_, err = p.Login()
	wantCode(t, err, fault.Invalid)
	_, err = p.EnsureDevice() // must not make a new key over it
	wantCode(t, err, fault.Invalid)
}

func TestDeviceKeyStays(t *testing.T) {
	p := newHome(t).Current()
	_, err := p.Device()
	wantCode(t, err, fault.NotFound)
	first, err := p.EnsureDevice()
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.EnsureDevice()
	if err != nil || second.Recipient() != first.Recipient() {
		t.Errorf("another key, %v", err)
	}
	if err := os.WriteFile(p.DevicePath(), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = p.EnsureDevice()
	wantCode(t, err, fault.Invalid)
}

func TestServersHavePlacesOfTheirOwn(t *testing.T) {
	h := newHome(t)
	place := func(url string) *Place {
		t.Helper()
		p, err := h.Server(url)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := place("http://127.0.0.1:1")
	if first.Dir() != h.Dir() {
		t.Errorf("the first server is in %s", first.Dir())
	}
	if err := first.SaveLogin(Login{URL: "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if place("http://127.0.0.1:1").Dir() != h.Dir() {
		t.Error("the first server has moved")
	}
	second := place("https://a.example.org/x/../y")
	if want := filepath.Join(h.Dir(), "servers", "https_a.example.org_x_.._y"); second.Dir() != want {
		t.Errorf("the second server is in %s, not %s", second.Dir(), want)
	}
	if err := os.WriteFile(filepath.Join(h.Dir(), loginFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := h.Server("http://127.0.0.1:2")
	wantCode(t, err, fault.Corrupt)
}

// TestLoginAfterRecovery: the server of a log that was recovered since is no impostor,
// but the pin stays. A log of an earlier epoch, or of another name or key, is none of ours.
func TestLoginAfterRecovery(t *testing.T) {
	key := func(name string, epoch uint64) string {
		_, text, err := note.GenerateKey(bytes.NewReader(make([]byte, 32)), name)
		if err != nil {
			t.Fatal(err)
		}
		if text, err = audit.EpochKey(text, epoch); err != nil {
			t.Fatal(err)
		}
		return text
	}
	_, foreign, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{1}, 32)), "log/epoch-3")
	if err != nil {
		t.Fatal(err)
	}
	l := Login{LogOrigin: "log/epoch-2", LogKey: key("log", 2)}
	for _, c := range []struct {
		origin, key string
		ok          bool
	}{
		{"log/epoch-2", key("log", 2), true}, {"log/epoch-3", key("log", 3), true}, {"log", key("log", 1), false},
		{"log/epoch-3", key("log", 2), false}, {"gol/epoch-3", key("gol", 3), false}, {"log/epoch-3", foreign, false},
	} {
		got, ok := l.LeadsTo(wire.LoggedIn{LogOrigin: c.origin, LogKey: c.key})
		if ok != c.ok || got.LogOrigin != l.LogOrigin || got.LogKey != l.LogKey || len(got.LogKeysBefore) != 0 {
			t.Errorf("%s, %s: %v, %+v", c.origin, c.key, ok, got)
		}
	}
}

// TestLoginFollowsKeys: a login keeps the keys that it has followed, not without
// end, and one from before that was kept is as good.
func TestLoginFollowsKeys(t *testing.T) {
	p := newHome(t).Current()
	if err := p.write(loginFile, []byte(`{"url":"http://127.0.0.1:1","log_origin":"log","log_key":"a"}`)); err != nil {
		t.Fatal(err)
	}
	l, err := p.Login()
	if err != nil || l.Pin().Key != "a" || len(l.FilePin().Older) != 0 {
		t.Fatalf("%+v, %v", l, err)
	}
	l = l.Follow(Verified{Origin: "log", Key: "c", Followed: []string{"b", "a"}})
	l = l.Follow(Verified{Origin: "log", Key: "d", Followed: []string{"c"}})
	if err := p.SaveLogin(l); err != nil {
		t.Fatal(err)
	}
	if l, err = p.Login(); err != nil || l.LogKey != "d" || !slices.Equal(l.FilePin().Older, []string{"c", "b", "a"}) || l.Pin().Older != nil {
		t.Errorf("%+v, %v", l, err)
	}
	for i := range 2 * maxKeysBefore {
		l = l.Follow(Verified{Origin: "log", Key: fmt.Sprint(i + 1), Followed: []string{fmt.Sprint(i)}})
	}
	if n := len(l.LogKeysBefore); n != maxKeysBefore || l.LogKeysBefore[0] != fmt.Sprint(2*maxKeysBefore-1) {
		t.Errorf("%d keys, the newest %s", n, l.LogKeysBefore[0])
	}
}

// TestLoginRefusesAnotherLog: a key that nobody has led to is another log's.
func TestLoginRefusesAnotherLog(t *testing.T) {
	key := func() string {
		_, public, err := note.GenerateKey(rand.Reader, "log")
		if err != nil {
			t.Fatal(err)
		}
		return public
	}
	pinned, other := key(), key()
	for _, c := range []struct {
		login Login
		in    wire.LoggedIn
		ok    bool
	}{
		{Login{}, wire.LoggedIn{LogOrigin: "log", LogKey: other}, true},
		{Login{LogOrigin: "log", LogKey: pinned}, wire.LoggedIn{LogOrigin: "log", LogKey: pinned}, true},
		{Login{LogOrigin: "log", LogKey: pinned}, wire.LoggedIn{LogOrigin: "log", LogKey: other}, false},
		{Login{LogOrigin: "log", LogKey: pinned}, wire.LoggedIn{LogOrigin: "log", LogKey: other, LogSuccessions: [][]byte{[]byte("x")}}, false},
		{Login{LogOrigin: "log", LogKey: pinned}, wire.LoggedIn{LogOrigin: "log/epoch-2", LogKey: pinned}, false},
	} {
		if got, ok := c.login.LeadsTo(c.in); ok != c.ok || !ok && got.LogKey != pinned {
			t.Errorf("%+v from %+v: %+v, %t", c.in, c.login, got, ok)
		}
	}
}
