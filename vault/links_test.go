package vault_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

const linkedShard = "acme/signs/batch-1/0"

// linkUp is setUp with a project that allows opened delivery, and lee assigned.
func (w *world) linkUp() {
	w.t.Helper()
	w.setUp()
	w.assign("lee", "0")
	if err := w.delivery("carol", dataset.Opened); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) link(who string, req wire.NewLink) (wire.Link, error) {
	w.t.Helper()
	if req.Shard == "" {
		req.Shard = linkedShard
	}
	return w.v.CreateLink(context.Background(), w.as(who), req)
}

// use reads the first bytes by a link.
func (w *world) use(secret string) (string, error) {
	w.t.Helper()
	ctx := context.Background()
	actor := ledger.Actor{Request: dataset.NewID[dataset.RequestID](rand.Reader), Address: "198.51.100.9", Agent: "video"}
	l, err := w.v.Linked(ctx, secret, actor)
	if err != nil {
		return "", err
	}
	s, err := w.v.OpenLinked(ctx, l, func(vault.Content) []vault.Span { return []vault.Span{{Start: 0, Length: 6}} })
	if err != nil {
		return "", err
	}
	texts, err := sent(s, 1)
	return texts[0], err
}

// gone asserts that a link looks like one that never was.
func (w *world) gone(what, secret string) {
	w.t.Helper()
	_, err := w.use(secret)
	var got, want *fault.Error
	if !errors.As(err, &got) || !errors.As(ledger.Absent(), &want) || got.Code != want.Code || got.Message != want.Message || got.Hint != want.Hint || len(got.Reasons) > 0 {
		w.t.Errorf("%s: the link gives %v", what, err)
	}
}

func TestLink(t *testing.T) {
	w := newWorld(t)
	w.linkUp()
	l := must[wire.Link](t)(w.link("lee", wire.NewLink{}))
	if l.Shard != linkedShard || l.Purpose != "labeling" || !l.Until.Equal(w.clock.Now().Add(15*time.Minute)) || !strings.HasPrefix(l.Secret, "dsl_") {
		t.Errorf("%+v", l)
	}
	for range 3 { // as often as is asked
		if text := must[string](t)(w.use(l.Secret)); text != "secret" {
			t.Errorf("the link gives %q", text)
		}
	}
	page := must[wire.Page[wire.Link]](t)(w.v.Links(context.Background(), w.as("lee"), dataset.LinkID{}, 0))
	if len(page.Items) != 1 || page.Items[0].ID != l.ID || page.Items[0].Secret != "" || !page.Items[0].Until.Equal(l.Until) {
		t.Errorf("%+v", page)
	}
	if page := must[wire.Page[wire.Link]](t)(w.v.Links(context.Background(), w.as("carol"), dataset.LinkID{}, 0)); len(page.Items) != 0 {
		t.Errorf("carol sees the links of others: %+v", page)
	}
	_, err := w.v.EndLink(context.Background(), w.as("carol"), l.ID)
	wantCode(t, err, fault.NotFound)

	// Each use is a read of lee's in the log, with the link, and from where it came.
	id := fmt.Sprintf("%x", l.ID[:])
	uses, made := 0, 0
	for _, leaf := range w.verify() {
		if leaf.Texts()["link-id"] != id {
			continue
		}
		switch leaf.Kind {
		case audit.KindRead:
			uses++
		case audit.KindLinkCreate:
			made++
			if until := leaf.Texts()["until"]; until != l.Until.Truncate(time.Second).Format(time.RFC3339) || leaf.Texts()["delivery"] != "opened" {
				t.Errorf("%v", leaf.Texts())
			}
		}
	}
	if uses != 3 || made != 1 {
		t.Errorf("the log has %d uses and %d makings", uses, made)
	}
	records, _ := w.pages(vault.LogQuery{Actor: "lee"})
	from := 0
	for _, r := range records {
		if r.Kind == "read" && strings.Contains(string(r.Personal), "198.51.100.9") {
			from++
		}
		if strings.Contains(string(r.Personal), l.Secret) {
			t.Error("the secret is in the log")
		}
	}
	if from != 3 {
		t.Errorf("%d records say where the use came from", from)
	}

	must[wire.Revoked](t)(w.v.EndLink(context.Background(), w.as("lee"), l.ID))
	w.gone("ended", l.Secret)
	_, err = w.v.EndLink(context.Background(), w.as("lee"), l.ID)
	wantCode(t, err, fault.NotFound)
}

// Whatever ends a person's access ends their links.
func TestLinkEnds(t *testing.T) {
	ctx := context.Background()
	for name, end := range map[string]func(w *world){
		"time": func(w *world) { w.clock.Add(15 * time.Minute) },
		"unassigned": func(w *world) {
			must[wire.Revoked](w.t)(w.v.Unassign(ctx, w.as("root"), w.scope("acme/signs/batch-1"), "lee", nil))
		},
		"revoked": func(w *world) {
			must[wire.Revoked](w.t)(w.v.Revoke(ctx, w.as("root"), dataset.Labeler, "lee", w.scope("acme/signs")))
		},
		"disabled": func(w *world) { must[wire.Revoked](w.t)(w.v.Disable(ctx, w.as("root"), "lee")) },
		"rotated":  func(w *world) { must[wire.NewToken](w.t)(w.v.RotateToken(ctx, w.as("lee"), "me")) },
		"rotated by an admin": func(w *world) {
			must[wire.NewToken](w.t)(w.v.RotateToken(ctx, w.as("root"), "lee"))
		},
		"sealed only": func(w *world) {
			if err := w.delivery("carol"); err != nil {
				w.t.Fatal(err)
			}
		},
		"ended": func(w *world) {
			for _, l := range must[wire.Page[wire.Link]](w.t)(w.v.Links(ctx, w.as("lee"), dataset.LinkID{}, 0)).Items {
				must[wire.Revoked](w.t)(w.v.EndLink(ctx, w.as("lee"), l.ID))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.linkUp()
			l := must[wire.Link](t)(w.link("lee", wire.NewLink{}))
			must[string](t)(w.use(l.Secret))
			end(w)
			w.gone(name, l.Secret)
		})
	}
}

// A link opens nothing but what it is of, and is no other credential.
func TestLinkRefused(t *testing.T) {
	w := newWorld(t)
	w.linkUp()
	for name, req := range map[string]wire.NewLink{
		"too long": {Seconds: 24*3600 + 1}, "too short": {Seconds: 1}, "negative": {Seconds: -5}, "no shard": {Shard: "acme/signs"},
		"huge": {Seconds: 1 << 62},
	} {
		_, err := w.link("lee", req)
		wantCode(t, err, fault.Invalid)
		if err == nil {
			t.Error(name)
		}
	}
	_, err := w.link("lee", wire.NewLink{Shard: "acme/signs/batch-1/1"}) // not assigned
	wantCode(t, err, fault.Forbidden)
	_, err = w.link("lee", wire.NewLink{Purpose: "training"})
	wantCode(t, err, fault.Forbidden)
	_, err = w.link("stranger", wire.NewLink{})
	wantCode(t, err, fault.NotFound)
	_, err = w.link("stranger", wire.NewLink{Shard: "acme/none/none/0"})
	wantCode(t, err, fault.NotFound)

	l := must[wire.Link](t)(w.link("lee", wire.NewLink{Seconds: 60}))
	_, err = w.v.Authenticate(context.Background(), l.Secret, true, ledger.Actor{})
	wantCode(t, err, fault.Unauthenticated)
	for _, bad := range []string{"", "x", l.Secret + "a", l.Secret[:len(l.Secret)-2] + "aa", w.tokens["lee"], strings.Replace(w.tokens["lee"], "dsv", "dsl", 1),
		strings.ToUpper(l.Secret), l.ID.String()} {
		w.gone(bad, bad)
	}
	if err := w.delivery("carol"); err != nil {
		t.Fatal(err)
	}
	_, err = w.link("lee", wire.NewLink{})
	wantCode(t, err, fault.Forbidden)
	refused := 0
	for _, leaf := range w.verify() {
		if leaf.Kind == audit.KindRefused && leaf.Texts()["refused-kind"] == "link-create" {
			refused++
		}
	}
	if refused < 4 {
		t.Errorf("the log has %d refusals", refused)
	}
}

// A read that runs on a link ends with it.
func TestLinkEndCuts(t *testing.T) {
	w := newWorld(t)
	w.linkUp()
	ctx := context.Background()
	l := must[wire.Link](t)(w.link("lee", wire.NewLink{}))
	linked := must[vault.Linked](t)(w.v.Linked(ctx, l.Secret, ledger.Actor{}))
	s := must[*vault.OpenedStream](t)(w.v.OpenLinked(ctx, linked, func(c vault.Content) []vault.Span { return []vault.Span{{Start: 0, Length: c.Size}} }))
	own := must[*vault.OpenedStream](t)(w.opened("lee", "", vault.Span{Start: 0, Length: 5}))
	blocked := make(chan struct{})
	err := s.Send(func(int) (io.Writer, error) {
		must[wire.Revoked](t)(w.v.EndLink(ctx, w.as("lee"), l.ID))
		select {
		case <-blocked:
		case <-time.After(time.Minute):
			t.Error("the read goes on")
		}
		return io.Discard, nil
	}, func() { close(blocked) })
	wantCode(t, err, fault.Forbidden)
	if _, err := sent(own, 1); err != nil {
		t.Errorf("the person's own read ended too: %v", err)
	}
}

func TestLinkLimit(t *testing.T) {
	w := newWorld(t)
	w.linkUp()
	var last wire.Link
	for range 100 {
		last = must[wire.Link](t)(w.link("lee", wire.NewLink{Seconds: 60}))
	}
	_, err := w.link("lee", wire.NewLink{})
	wantCode(t, err, fault.Conflict)
	must[wire.Revoked](t)(w.v.EndLink(context.Background(), w.as("lee"), last.ID))
	must[wire.Link](t)(w.link("lee", wire.NewLink{}))
	var ids []dataset.LinkID
	for after := (dataset.LinkID{}); ; {
		page := must[wire.Page[wire.Link]](t)(w.v.Links(context.Background(), w.as("lee"), after, 30))
		for _, l := range page.Items {
			ids = append(ids, l.ID)
		}
		if page.Next == "" {
			break
		}
		after = must[dataset.LinkID](t)(dataset.ParseID[dataset.LinkID](page.Next))
	}
	slices.SortFunc(ids, func(a, b dataset.LinkID) int { return strings.Compare(string(a[:]), string(b[:])) })
	if len(slices.Compact(ids)) != 100 {
		t.Errorf("%d links are listed", len(ids))
	}
	w.clock.Add(time.Hour)
	for range 50 {
		must[wire.Link](t)(w.link("lee", wire.NewLink{Seconds: 60}))
	}
}

// What a link is of cannot be taken from another link, even by who writes to
// the catalog.
func TestLinkItemIsBound(t *testing.T) {
	w := newWorld(t)
	w.linkUp()
	ctx := context.Background()
	l := must[wire.Link](t)(w.link("lee", wire.NewLink{}))
	secret := must[identity.Secret](t)(identity.NewLinkSecret(rand.Reader))
	tx := must[*catalog.Tx](t)(w.db.Begin(ctx))
	defer tx.Rollback()
	row := must[storage.ItemLink](t)(tx.Link(ctx, l.ID, w.as("lee").Principal))
	row.ID, row.Hash = dataset.NewID[dataset.LinkID](rand.Reader), secret.Hash()
	if err := tx.AddLink(ctx, row); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	_, err := w.v.Linked(ctx, secret.Expose(), ledger.Actor{})
	wantCode(t, err, fault.Corrupt)
}
