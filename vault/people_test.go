package vault_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvault/rbac"
	"dsvault/vault"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

func (w *world) authenticates(token string) bool {
	_, err := w.v.Authenticate(context.Background(), token, true, ledger.Actor{})
	return err == nil
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	out := must[wire.NewToken](t)(w.v.Invite(ctx, w.as("root"), wire.NewPerson{Handle: "ann"}))
	// An invitation is good for login and nothing else, and once.
	if _, err := w.v.Authenticate(ctx, out.Token, false, ledger.Actor{}); fault.CodeOf(err) != fault.Unauthenticated {
		t.Errorf("an invitation used as a token: %v", err)
	}
	w.tokens["ann"] = out.Token
	first, second := w.as("ann"), w.as("ann")
	key := func() wire.Login {
		id := must[*seal.Identity](t)(seal.GenerateIdentity())
		return wire.Login{DeviceName: "x", Recipient: id.Recipient().String()}
	}
	var wg sync.WaitGroup
	errs := make([]error, 2)
	keys := []wire.Login{key(), key()}
	wg.Go(func() { _, errs[0] = w.v.Login(ctx, first, keys[0]) })
	wg.Go(func() { _, errs[1] = w.v.Login(ctx, second, keys[1]) })
	wg.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("two logins with one invitation: %v and %v", errs[0], errs[1])
	}
	if w.authenticates(out.Token) {
		t.Error("a used invitation still holds")
	}
	// An unused one runs out.
	out = must[wire.NewToken](t)(w.v.RotateToken(ctx, w.as("root"), "ann"))
	w.clock.Add(7 * 24 * time.Hour)
	if w.authenticates(out.Token) {
		t.Error("an expired invitation still holds")
	}
	// Rotating one's own ends the old one at once.
	old := w.tokens["root"]
	w.tokens["root"] = must[wire.NewToken](t)(w.v.RotateToken(ctx, w.as("root"), "me")).Token
	if w.authenticates(old) || !w.authenticates(w.tokens["root"]) {
		t.Error("rotation did not replace the token")
	}
	// A service's token stands.
	svc := must[wire.NewToken](t)(w.v.Invite(ctx, w.as("root"), wire.NewPerson{Handle: "bot", Service: true}))
	w.clock.Add(1000 * 24 * time.Hour)
	if !w.authenticates(svc.Token) {
		t.Error("a service's token ended")
	}
	// X25519 and nonsense are no device keys.
	for _, r := range []string{"", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "ssh-ed25519 AAAA", strings.Repeat("x", 10_000)} {
		_, err := w.v.Login(ctx, w.as("root"), wire.Login{Recipient: r})
		wantCode(t, err, fault.Invalid)
	}
}

func TestDisable(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0")
	ctx := context.Background()
	lee := w.as("lee")
	must[wire.Revoked](t)(w.v.Disable(ctx, w.as("root"), "lee"))
	if w.authenticates(w.tokens["lee"]) {
		t.Error("a disabled person's token holds")
	}
	// A request that had authenticated just before is refused as well.
	_, err := w.v.ReadShard(ctx, lee, dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}, w.ids["lee"], "")
	if code := fault.CodeOf(err); code != fault.NotFound && code != fault.Forbidden {
		t.Errorf("got %v", err)
	}
	if _, err := w.v.Sign(ctx, lee, "nda", wire.Sign{}); err == nil {
		t.Error("a disabled person signed")
	}
	key := must[*seal.Identity](t)(seal.GenerateIdentity())
	_, err = w.v.Login(ctx, lee, wire.Login{DeviceName: "late", Recipient: key.Recipient().String()})
	wantCode(t, err, fault.Forbidden)
	_, err = w.v.RotateToken(ctx, lee, "me")
	wantCode(t, err, fault.Forbidden)
}

func TestVaultKeepsAnAdmin(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	_, err := w.v.Revoke(ctx, w.as("root"), dataset.Admin, "root", dataset.Root)
	wantCode(t, err, fault.Conflict)
	w.invite("second")
	soon := w.clock.Now().Add(time.Hour)
	w.grant(dataset.Admin, "second", "/", &soon) // it ends, so it does not count
	_, err = w.v.Disable(ctx, w.as("second"), "root")
	wantCode(t, err, fault.Conflict)
	w.grant(dataset.Admin, "second", "/", nil)
	must[wire.Revoked](t)(w.v.Disable(ctx, w.as("second"), "root"))
}

func TestGrantRules(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	past := w.clock.Now().Add(-time.Second)
	soon := w.clock.Now().Add(time.Hour)
	must[wire.NewToken](t)(w.v.Invite(ctx, w.as("root"), wire.NewPerson{Handle: "bot", Service: true}))
	for name, c := range map[string]struct {
		as   string
		g    wire.Grant
		code fault.Code
	}{
		"contractor without end":  {"root", wire.Grant{Role: dataset.Contractor, Person: "lee", Scope: w.scope("acme")}, fault.Invalid},
		"end in the past":         {"root", wire.Grant{Role: dataset.Labeler, Person: "lee", Scope: w.scope("acme"), Until: &past}, fault.Invalid},
		"to oneself":              {"root", wire.Grant{Role: dataset.Reviewer, Person: "root", Scope: w.scope("acme")}, fault.Forbidden},
		"nobody of that name":     {"root", wire.Grant{Role: dataset.Labeler, Person: "nobody", Scope: w.scope("acme")}, fault.NotFound},
		"no such scope":           {"root", wire.Grant{Role: dataset.Labeler, Person: "lee", Scope: w.scope("other")}, fault.NotFound},
		"no such role":            {"root", wire.Grant{Role: "owner", Person: "lee", Scope: w.scope("acme")}, fault.Invalid},
		"client of everything":    {"root", wire.Grant{Role: dataset.ClientUser, Person: "lee", Scope: dataset.Root}, fault.Invalid},
		"a service as labeler":    {"root", wire.Grant{Role: dataset.Labeler, Person: "bot", Scope: w.scope("acme")}, fault.Invalid},
		"a person as service":     {"root", wire.Grant{Role: dataset.Service, Person: "lee", Scope: w.scope("acme")}, fault.Invalid},
		"a labeler grants":        {"lee", wire.Grant{Role: dataset.Labeler, Person: "stranger", Scope: w.scope("acme/signs")}, fault.Forbidden},
		"a stranger grants":       {"stranger", wire.Grant{Role: dataset.Labeler, Person: "lee", Scope: w.scope("acme")}, fault.NotFound},
		"a stranger, absent":      {"stranger", wire.Grant{Role: dataset.Labeler, Person: "lee", Scope: w.scope("nowhere")}, fault.NotFound},
		"a reason with an escape": {"root", wire.Grant{Role: dataset.Labeler, Person: "lee", Scope: w.scope("acme"), Until: &soon, Reason: "x\x1b[2J"}, fault.Invalid},
		"a reason with C1":        {"root", wire.Grant{Role: dataset.Labeler, Person: "lee", Scope: w.scope("acme"), Until: &soon, Reason: "x\u0085"}, fault.Invalid},
		"a reason turned round":   {"root", wire.Grant{Role: dataset.Labeler, Person: "lee", Scope: w.scope("acme"), Until: &soon, Reason: "x\u202e"}, fault.Invalid},
	} {
		_, err := w.v.Grant(ctx, w.as(c.as), c.g)
		if fault.CodeOf(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	// Roles that exclude each other take data away, and say so.
	w.grant(dataset.Reviewer, "audrey", "acme", nil)
	_, err := w.read("audrey", "acme/signs/batch-1", 0)
	wantCode(t, err, fault.Forbidden)
	// Expiry needs nobody's help.
	w.grant(dataset.Labeler, "stranger", "acme/signs", &soon)
	w.assign("stranger", "1")
	must[[]byte](t)(w.read("stranger", "acme/signs/batch-1", 1))
	w.clock.Add(time.Hour)
	_, err = w.read("stranger", "acme/signs/batch-1", 1)
	wantCode(t, err, fault.NotFound)
}

// TestStrangersCannotProbe: what is hidden and what is absent get the same
// answer, for every operation that names a scope.
func TestStrangersCannotProbe(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	ops := map[string]func(hiddenOrAbsent string) error{
		"read": func(s string) error { _, err := w.read("stranger", s, 0); return err },
		"dataset": func(s string) error {
			_, err := w.v.Dataset(ctx, w.as("stranger"), w.scope(s))
			return err
		},
		"shards": func(s string) error {
			_, err := w.v.Shards(ctx, w.as("stranger"), w.scope(s), -1, 0)
			return err
		},
		"create": func(s string) error { _, err := w.v.CreateDataset(ctx, w.as("stranger"), w.scope(s)); return err },
		"project": func(s string) error {
			_, err := w.v.CreateProject(ctx, w.as("stranger"), wire.NewProject{Scope: w.scope(s).Parent(), Purposes: []string{"labeling"}})
			return err
		},
		"upload": func(s string) error {
			_, err := w.v.StartUpload(ctx, w.as("stranger"), dataset.ShardRef{Dataset: w.scope(s)}, wire.NewUpload{Fingerprint: make([]byte, 32)})
			return err
		},
		"list":   func(s string) error { _, err := w.v.List(ctx, w.as("stranger"), w.scope(s), "", 0); return err },
		"grants": func(s string) error { _, err := w.v.Grants(ctx, w.as("stranger"), w.scope(s), "", 0); return err },
		"assignments": func(s string) error {
			_, err := w.v.Assignments(ctx, w.as("stranger"), w.scope(s), "", "", 0)
			return err
		},
		"log": func(s string) error {
			_, err := w.v.Log(ctx, w.as("stranger"), vault.LogQuery{Under: w.scope(s)})
			return err
		},
		"bundle": func(s string) error {
			_, err := w.v.LogBundle(ctx, w.as("stranger"), vault.BundleQuery{Under: w.scope(s)})
			return err
		},
		"assign": func(s string) error {
			_, err := w.v.Assign(ctx, w.as("stranger"), wire.Assignment{Dataset: w.scope(s), Person: "lee", Shards: dataset.ShardSet{{First: 0, Last: 0}}})
			return err
		},
		"unassign": func(s string) error {
			_, err := w.v.Unassign(ctx, w.as("stranger"), w.scope(s), "lee", nil)
			return err
		},
		"revoke": func(s string) error {
			_, err := w.v.Revoke(ctx, w.as("stranger"), dataset.Labeler, "lee", w.scope(s))
			return err
		},
		"can": func(s string) error {
			_, err := w.v.Can(ctx, w.as("stranger"), "me", rbac.Read, s+"/0", "", "")
			return err
		},
		"can, of others": func(s string) error {
			_, err := w.v.Can(ctx, w.as("stranger"), "lee", rbac.Read, s+"/0", "", "")
			return err
		},
	}
	for name, op := range ops {
		hidden, absent := op("acme/signs/batch-1"), op("acne/sings/batch-2")
		var h, a *fault.Error
		if !errors.As(hidden, &h) || !errors.As(absent, &a) {
			t.Errorf("%s: hidden %v, absent %v", name, hidden, absent)
			continue
		}
		if h.Code != fault.NotFound || h.Code != a.Code || h.Message != a.Message || h.Hint != a.Hint || len(h.Reasons)+len(a.Reasons) > 0 {
			t.Errorf("%s: hidden %v %v, absent %v %v", name, h, h.Reasons, a, a.Reasons)
		}
	}
	// Nor do the names of others leak through operations on people.
	for _, person := range []string{"lee", "nobody"} {
		_, err := w.v.RotateToken(ctx, w.as("stranger"), person)
		wantCode(t, err, fault.NotFound)
		_, err = w.v.Disable(ctx, w.as("stranger"), person)
		wantCode(t, err, fault.NotFound)
	}
}

// TestNoNamesInLeaves: nothing personal and no client word is in the log's
// leaves; it is in the sealed details, for those who may read the log.
func TestNoNamesInLeaves(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0")
	must[[]byte](t)(w.read("lee", "acme/signs/batch-1", 0))
	w.read("stranger", "secret-client/secret-project/x", 0)
	for _, who := range []string{"carol", "lee"} { // a purpose is whatever the caller writes
		w.v.ReadShard(context.Background(), w.as(who), dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1")}, w.ids[who], "Jane Doe jane@x.org")
	}
	page := must[wire.Page[wire.Record]](t)(w.v.Log(context.Background(), w.as("root"), vault.LogQuery{}))
	words := []string{"lee", "acme", "signs", "batch-1", "192.0.2.7", "example.org", "secret-client", "carol", "Jane"}
	personal := 0
	for _, r := range page.Items {
		for _, word := range words {
			if bytes.Contains(r.Leaf, []byte(word)) && !(word == "lee" && bytes.Contains(r.Leaf, []byte("labeler"))) {
				t.Errorf("leaf %d (%s) holds %q", r.Index, r.Kind, word)
			}
		}
		if bytes.Contains(r.Personal, []byte("192.0.2.7")) {
			personal++
		}
	}
	if personal == 0 {
		t.Error("no record has its personal details")
	}
}
