package identity

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("unexpected error: %v", err)
		}
		return v
	}
}

func TestTokenText(t *testing.T) {
	s := must[Secret](t)(NewSecret(rand.Reader))
	text := s.Expose()
	if len(text) != len("dsv_")+52 || !strings.HasPrefix(text, "dsv_") || text != strings.ToLower(text) {
		t.Errorf("token %q", text)
	}
	again := must[Secret](t)(ParseSecret(text))
	if again.Expose() != text || again.Hash() != s.Hash() || s.Hash() != sha256.Sum256([]byte(text)) {
		t.Error("a token does not survive its text")
	}
	if other := must[Secret](t)(NewSecret(rand.Reader)); other.Hash() == s.Hash() {
		t.Error("the same token twice")
	}
	body := text[4:]
	for _, bad := range []string{
		"", "dsv_", body, "dsv-" + body, "DSV_" + body, strings.ToUpper(text), text + "a", text[:len(text)-1],
		" " + text, text + " ", text + "\n", "Bearer " + text, "dsv_" + body[:51] + "1", "dsv_" + body[:51] + "=",
		"dsv_" + body[:51] + "\n", "dsv_" + body[:50] + "\r\n", "dsv_" + strings.Repeat("\n", 52), "dsv_" + body[:50] + "é",
		strings.Repeat("dsv_"+body, 1<<16),
	} {
		_, err := ParseSecret(bad)
		if !fault.Is(err, fault.Unauthenticated) || fault.HintOf(err) == "" {
			t.Errorf("%.80q: %v", bad, err)
		}
		if len(bad) > 10 && strings.Contains(fmt.Sprint(err), bad) {
			t.Errorf("the error repeats %.80q", bad)
		}
	}
	if (Secret{}).Expose() != "" {
		t.Error("the zero Secret has text")
	}
	if _, err := NewSecret(io.LimitReader(rand.Reader, 31)); !fault.Is(err, fault.Internal) {
		t.Errorf("too little randomness: %v", err)
	}
}

func TestTokenIsNotPrinted(t *testing.T) {
	s := must[Secret](t)(NewSecret(rand.Reader))
	type hidden struct{ s Secret }
	type shown struct{ S Secret }
	for name, v := range map[string]any{
		"token": s, "pointer": &s, "hidden": hidden{s}, "hidden pointer": &hidden{s}, "shown": shown{s},
		"list": []Secret{s}, "map": map[string]Secret{"x": s},
	} {
		var out bytes.Buffer
		for _, verb := range strings.Split("v +v #v s q x X d o b t c U e g p T w", " ") {
			fmt.Fprintf(&out, "%"+verb+"\n", v)
		}
		data, err := json.Marshal(v)
		fmt.Fprintf(&out, "%s %v\n", data, err)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		body := s.Expose()[4:]
		for _, secret := range []string{body, fmt.Sprintf("%x", body), fmt.Sprintf("%X", body), fmt.Sprint([]byte(body))} {
			if bytes.Contains(out.Bytes(), []byte(secret)) {
				t.Errorf("%s: printed as %s", name, out.Bytes())
			}
		}
	}
}

func TestAuthenticate(t *testing.T) {
	ctx := t.Context()
	db := must[*catalog.DB](t)(catalog.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "x.db"), catalog.Options{}))
	defer db.Close()
	now := time.Date(2027, 2, 28, 12, 0, 0, 0, time.UTC)
	tx := must[*catalog.Tx](t)(db.Begin(ctx))
	defer tx.Rollback()
	tokens := map[string]Secret{}
	add := func(name string, disabled time.Time, service bool, token storage.Token) {
		t.Helper()
		p := storage.Principal{ID: dataset.NewID[dataset.PrincipalID](rand.Reader), Handle: name, Service: service, CreatedAt: now}
		if err := tx.AddPrincipal(ctx, p); err != nil {
			t.Fatal(err)
		}
		if !disabled.IsZero() {
			if err := tx.SetDisabled(ctx, p.ID, disabled, 1); err != nil {
				t.Fatal(err)
			}
		}
		tokens[name] = must[Secret](t)(NewSecret(rand.Reader))
		token.ID, token.Hash, token.Principal, token.CreatedAt = dataset.NewID[dataset.TokenID](rand.Reader), tokens[name].Hash(), p.ID, now
		if err := tx.AddToken(ctx, token); err != nil {
			t.Fatal(err)
		}
	}
	session := storage.Token{Kind: storage.SessionToken, Expires: now.Add(time.Hour)}
	add("ann", time.Time{}, false, session)
	add("robot", time.Time{}, true, storage.Token{Kind: storage.AccessToken})
	add("disabled", now.Add(-time.Hour), false, session)
	add("ended", time.Time{}, false, storage.Token{Kind: storage.SessionToken, Expires: now.Add(time.Hour), Ended: now.Add(-time.Second)})
	add("expired", time.Time{}, false, storage.Token{Kind: storage.InviteToken, Expires: now})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	tokens["unknown"] = must[Secret](t)(NewSecret(rand.Reader))
	tokens["none"] = Secret{}
	from := ledger.Actor{Request: dataset.NewID[dataset.RequestID](rand.Reader), Address: "192.0.2.1", Agent: "test"}

	c := must[Caller](t)(Authenticate(ctx, db, tokens["ann"], now, from))
	if c.Handle != "ann" || c.Principal.IsZero() || c.Service || c.Kind != storage.SessionToken || c.Address != from.Address || c.Request != from.Request {
		t.Errorf("caller %+v", c)
	}
	if c := must[Caller](t)(Authenticate(ctx, db, tokens["robot"], now.Add(1000*time.Hour), from)); !c.Service {
		t.Errorf("caller %+v", c)
	}
	must[Caller](t)(Authenticate(ctx, db, tokens["ann"], now.Add(time.Hour-1), from))

	// Whatever the reason, the answer is one.
	refused := map[string]error{}
	for _, name := range []string{"disabled", "ended", "expired", "unknown", "none"} {
		c, err := Authenticate(ctx, db, tokens[name], now, from)
		if c != (Caller{}) {
			t.Errorf("%s: caller %+v", name, c)
		}
		refused[name] = err
	}
	_, refused["run out"] = Authenticate(ctx, db, tokens["ann"], now.Add(time.Hour), from)
	for name, err := range refused {
		var f *fault.Error
		if !errors.As(err, &f) || f.Code != fault.Unauthenticated || f.Hint == "" || err.Error() != refused["unknown"].Error() || f.Hint != fault.HintOf(refused["unknown"]) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// An outage is never a "no".
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Authenticate(gone, db, tokens["unknown"], now, from); !fault.Is(err, fault.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for name, token := range tokens {
		if _, err := Authenticate(ctx, db, token, now, from); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s, while the catalog is down: %v", name, err)
		}
	}
}
