package vault_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
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
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

const keptDataset = "acme/signs/batch-1"

func (w *world) keep(scope, what, period string) {
	w.t.Helper()
	must[wire.Retention](w.t)(w.v.SetRetention(context.Background(), w.as("root"), wire.NewRetention{Scope: w.scope(scope), What: what, Period: period, Basis: "contract 17"}))
}

func (w *world) hold(who, scope string) (wire.Hold, error) {
	w.t.Helper()
	return w.v.PlaceHold(context.Background(), w.as(who), wire.NewHold{Scope: w.scope(scope), Reason: "case 17"})
}

// entry is what ls shows of a scope.
func (w *world) entry(who, scope string) wire.Entry {
	w.t.Helper()
	for _, e := range must[wire.Page[wire.Entry]](w.t)(w.v.List(context.Background(), w.as(who), w.scope(scope), "", 0)).Items {
		if e.Scope == w.scope(scope) {
			return e
		}
	}
	w.t.Fatalf("%s does not see %s", who, scope)
	return wire.Entry{}
}

// erasures are those of a scope, as its client sees them.
func (w *world) erasures(scope string) []wire.Erasure {
	w.t.Helper()
	return must[wire.Page[wire.Erasure]](w.t)(w.v.Erasures(context.Background(), w.as("carol"), w.scope(scope), dataset.ErasureID{}, 0)).Items
}

func recordsOf(leaves []audit.Leaf, kind audit.Kind) (n int) {
	for _, l := range leaves {
		if l.Kind == kind && l.Decision == audit.Allowed {
			n++
		}
	}
	return n
}

// TestExpiry: a dataset is read until the last moment of its retention and not
// at its end; a warning comes before, and then it is erased by itself, with a
// certificate that holds.
func TestExpiry(t *testing.T) {
	w, _, _, _ := newNoticeWorld(t)
	ctx := context.Background()
	w.assign("lee", "0-1")
	w.keep("/", storage.KeepData, "10y")
	w.keep("acme", storage.KeepData, "1y")
	w.keep("acme/signs", storage.KeepData, "60d")
	w.keep("acme/signs", storage.KeepData, "") // taken back: the client's holds
	d := must[wire.Dataset](t)(w.v.Dataset(ctx, w.as("carol"), w.scope(keptDataset)))
	due := dataset.Period{Years: 1}.After(w.completed(d))
	if e := w.entry("carol", keptDataset); e.Expires == nil || !e.Expires.Equal(due) || e.Held {
		t.Fatalf("ls shows %+v, want it to expire at %s", e, due)
	}

	w.clock.Add(due.Sub(w.clock.Now()) - 15*24*time.Hour)
	w.v.Chores(ctx)
	if n := recordsOf(w.verify(), audit.KindExpiryWarn); n != 0 {
		t.Errorf("%d warnings 15 days before", n)
	}
	w.relogin("carol", "lee", "root", "stranger")
	w.clock.Add(24*time.Hour + time.Second)
	w.v.Chores(ctx)
	w.v.Chores(ctx)
	if n := recordsOf(w.verify(), audit.KindExpiryWarn); n != 1 {
		t.Errorf("%d warnings 14 days before, want one", n)
	}

	w.clock.Add(due.Sub(w.clock.Now()) - time.Microsecond)
	must[[]byte](t)(w.read("lee", keptDataset, 0))
	running := must[*vault.ShardStream](t)(w.v.ReadShard(ctx, w.as("carol"), dataset.ShardRef{Dataset: w.scope(keptDataset)}, w.ids["carol"], ""))
	w.clock.Add(time.Microsecond)
	_, err := w.read("carol", keptDataset, 0) // before anything was erased
	wantCode(t, err, fault.Forbidden)
	if !strings.Contains(fault.HintOf(err), "retention has ended") {
		t.Errorf("hint: %s", fault.HintOf(err))
	}

	w.v.Chores(ctx)
	if err := running.Send(&bytes.Buffer{}, func() {}); err == nil {
		t.Error("a read that ran was not cut")
	}
	_, err = w.read("carol", keptDataset, 0)
	wantCode(t, err, fault.Gone)
	_, err = w.read("stranger", keptDataset, 0)
	wantCode(t, err, fault.NotFound)
	list := w.erasures(keptDataset)
	if len(list) != 1 || list[0].State != "complete" || list[0].Cause != "retention" || list[0].Objects != 2 || list[0].Basis != "1y at acme, by contract 17" ||
		list[0].Final.Sub(list[0].Started) != w.backupWindow {
		t.Fatalf("%+v", list)
	}
	w.nothingLeft()
	if e := w.entry("carol", keptDataset); e.State != dataset.Erased || e.Expires != nil || e.Shards != 0 {
		t.Errorf("ls shows %+v", e)
	}
	w.certificate(list[0])
	w.verify()
	w.hears(wire.NoticeErasure, wire.NoticeDeadline)
}

// hears checks of which events about keeping data the client acme was told.
func (w *world) hears(events ...string) {
	w.t.Helper()
	told := map[string]bool{}
	for _, m := range must[wire.Page[wire.Message]](w.t)(w.v.Messages(context.Background(), w.as("root"), "acme", dataset.MessageID{}, 0)).Items {
		told[m.Event] = true
	}
	for _, event := range []string{wire.NoticeHold, wire.NoticeErasure, wire.NoticeDeadline} {
		if told[event] != slices.Contains(events, event) {
			w.t.Errorf("the client was told of %v, want %v", told, events)
		}
	}
}

// completed is when the dataset's newest version was.
func (w *world) completed(d wire.Dataset) time.Time {
	w.t.Helper()
	v := must[wire.Version](w.t)(w.v.Version(context.Background(), w.as("carol"), d.Scope, 0))
	return v.Completed
}

// relogin gives people tokens without an end.
func (w *world) relogin(names ...string) {
	w.t.Helper()
	ctx := context.Background()
	err := w.db.Update(ctx, func(tx *catalog.Tx) error {
		for _, name := range names {
			p, err := tx.PrincipalByHandle(ctx, name)
			if err != nil {
				return err
			}
			secret := must[identity.Secret](w.t)(identity.NewSecret(rand.Reader))
			w.tokens[name] = secret.Expose()
			err = tx.AddToken(ctx, storage.Token{ID: dataset.NewID[dataset.TokenID](rand.Reader), Hash: secret.Hash(), Principal: p.ID,
				Kind: storage.AccessToken, CreatedAt: w.clock.Now()})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// nothingLeft checks that storage has nothing of any dataset.
func (w *world) nothingLeft() {
	w.t.Helper()
	for o, err := range w.objects.List(context.Background(), "v1/") {
		w.t.Errorf("left: %s %v", o.Key, err)
	}
}

// certificate fetches and checks the certificate of an erasure.
func (w *world) certificate(e wire.Erasure) audit.CertificateReport {
	w.t.Helper()
	data := must[json.RawMessage](w.t)(w.v.Certificate(context.Background(), w.as("carol"), e.ID))
	c := must[audit.Certificate](w.t)(audit.ParseCertificate(data))
	r := must[audit.CertificateReport](w.t)(c.Verify(audit.BundleOptions{}))
	if r.Erasure.Scope != e.Scope.String() || r.Erasure.Objects != e.Objects || !r.Erasure.Final.Equal(*e.Final) {
		w.t.Errorf("the certificate says %+v, the erasure is %+v", r.Erasure, e)
	}
	return r
}

// TestHold: a hold stops every deletion, whoever asks, and says so; two holds are
// two; when the last one is gone, what was due happens.
func TestHold(t *testing.T) {
	w, _, _, _ := newNoticeWorld(t)
	ctx := context.Background()
	w.assign("lee", "0-1")
	w.keep("acme/signs", storage.KeepData, "1d")
	// What an upload has left that was given up, and another that is not complete.
	d, to := w.openDataset(keptDataset)
	push := must[wire.Push](t)(w.v.BeginPush(ctx, w.as("carol"), d.Scope))
	finish := must[func() error](t)(w.startUpload(push.Push, "carol", keptDataset, 2, []byte("abandoned"), must[[]byte](t)(seal.SealBytes([]byte("abandoned"), to)), to))

	if err := finish(); err != nil { // a shard that no version has
		t.Fatal(err)
	}
	must[func() error](t)(w.startUpload(push.Push, "carol", keptDataset, 4, []byte("begun"), nil, to))

	_, err := w.hold("carol", "beta")
	wantCode(t, err, fault.NotFound)
	_, err = w.hold("lee", keptDataset)
	wantCode(t, err, fault.Forbidden)
	_, err = w.v.PlaceHold(ctx, w.as("root"), wire.NewHold{Scope: w.scope("acme")})
	wantCode(t, err, fault.Invalid) // no reason
	first := must[wire.Hold](t)(w.hold("root", "/"))
	w.clock.Add(time.Second)
	second := must[wire.Hold](t)(w.hold("carol", keptDataset))

	refused := func(what string, err error) {
		t.Helper()
		if code := fault.CodeOf(err); code != fault.Forbidden && code != fault.Conflict || !strings.Contains(fault.HintOf(err), "hold") {
			t.Errorf("%s under a hold: %v (hint %q)", what, err, fault.HintOf(err))
		}
	}
	refused("an upload", w.upload("carol", keptDataset, 3, []byte("more")))
	_, err = w.v.Complete(ctx, w.as("carol"), d.Scope, wire.Complete{Shards: dataset.FirstShards(1), Push: push.Push})
	refused("a version", err)
	for _, who := range []string{"root", "carol"} {
		_, err = w.v.Erase(ctx, w.as(who), wire.NewErasure{Scope: w.scope("acme")})
		refused("erasing as "+who, err)
	}
	_, err = w.v.Anonymize(ctx, w.as("root"), "conny")
	refused("anonymising", err)
	_, err = w.read("lee", keptDataset, 0)
	wantCode(t, err, fault.Forbidden)
	must[[]byte](t)(w.read("carol", keptDataset, 0))

	// The clock, the sweep and a repair delete nothing.
	before := w.stored()
	w.clock.Add(30 * time.Hour)
	w.v.Chores(ctx)
	must[int](t)(w.v.Sweep(ctx, w.clock.Now()))
	w.check(wire.NewCheck{Scope: dataset.Root, Repair: true})
	if after := w.stored(); after != before {
		t.Errorf("stored before %s, after %s", before, after)
	}
	if e := w.entry("carol", keptDataset); !e.Held || e.Expires == nil || e.State == dataset.Erased {
		t.Errorf("ls shows %+v", e)
	}
	must[[]byte](t)(w.read("carol", keptDataset, 0)) // past its retention, but kept

	// Who sees what of them.
	seen := must[wire.Page[wire.Hold]](t)(w.v.Holds(ctx, w.as("carol"), w.scope("acme"), false, dataset.HoldID{}, 0))
	if len(seen.Items) != 2 || seen.Items[0].ID != first.ID || seen.Items[0].Reason != "" || seen.Items[1].Reason != "case 17" || seen.Items[1].By != "carol" {
		t.Errorf("carol sees %+v", seen.Items)
	}
	_, err = w.v.Holds(ctx, w.as("stranger"), w.scope("acme"), false, dataset.HoldID{}, 0)
	wantCode(t, err, fault.NotFound)

	// One person does not release a hold.
	_, err = w.v.ReleaseHold(ctx, w.as("carol"), second.ID, "")
	wantCode(t, err, fault.Forbidden)
	asked := must[wire.Hold](t)(w.v.ReleaseHold(ctx, w.as("root"), first.ID, "closed"))
	if asked.Pending == nil || asked.Released != nil || asked.Pending.Terms["hold"] != first.ID.String() {
		t.Errorf("%+v", asked)
	}
	must[wire.Approval](t)(w.v.Approve(ctx, w.as("second"), asked.Pending.ID))
	w.v.Chores(ctx)
	if after := w.stored(); after != before {
		t.Errorf("with one hold left: stored before %s, after %s", before, after)
	}
	asked = must[wire.Hold](t)(w.v.ReleaseHold(ctx, w.as("second"), second.ID, ""))
	must[wire.Approval](t)(w.v.Approve(ctx, w.as("root"), asked.Pending.ID))
	_, err = w.v.ReleaseHold(ctx, w.as("second"), second.ID, "")
	wantCode(t, err, fault.Conflict)
	w.v.Chores(ctx)
	if list := w.erasures(keptDataset); len(list) != 1 || list[0].State != "complete" {
		t.Errorf("after the last hold: %+v", list)
	}
	w.nothingLeft()
	late := must[wire.Hold](t)(w.hold("root", "acme"))
	if late.Erased != 1 {
		t.Errorf("a hold that comes too late: %+v", late)
	}
	w.hears(wire.NoticeHold, wire.NoticeErasure, wire.NoticeDeadline)
	w.verify()
}

// release ends a hold at once.
func (w *world) release(id dataset.HoldID) {
	w.t.Helper()
	ctx := context.Background()
	err := w.db.Update(ctx, func(tx *catalog.Tx) error {
		head, err := tx.LockHead(ctx)
		if err != nil {
			return err
		}
		head.Revision++
		if err := tx.ReleaseHold(ctx, id, dataset.PrincipalID{}, w.clock.Now(), head.Revision); err != nil {
			return err
		}
		return tx.SetHead(ctx, head)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// stored names all objects of datasets and counts the uploads on their way.
func (w *world) stored() string {
	w.t.Helper()
	var keys []string
	for o, err := range w.objects.List(context.Background(), "v1/") {
		if err != nil {
			w.t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	err := w.db.View(context.Background(), func(tx *catalog.Tx) error {
		list, err := tx.AttemptsAfter(context.Background(), "", 0)
		for _, a := range list {
			keys = append(keys, "upload "+a.Key)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(keys, "\n")
}

// TestExpireResults: returned work goes when its period is over, to the second,
// and not under a hold; data and records stay.
func TestExpireResults(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	w.assign("lee", "0")
	work := must[wire.Work](t)(w.submit("lee", 0, []byte("labels")))
	must[wire.Retention](t)(w.v.SetRetention(ctx, w.as("carol"), wire.NewRetention{Scope: w.scope("acme"), What: storage.KeepResults, Period: "30d"}))
	objects := func() (n int) {
		for _, err := range w.objects.List(ctx, "v1/") {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	before := objects()

	w.clock.Add(30*24*time.Hour - time.Second)
	w.v.Chores(ctx)
	must[[]byte](t)(w.result("carol", work.ID))
	hold := must[wire.Hold](t)(w.hold("root", keptDataset))
	w.clock.Add(time.Second)
	w.v.Chores(ctx)
	if objects() != before {
		t.Error("something was dropped under a hold")
	}
	w.release(hold.ID)
	_, err := w.result("carol", work.ID)
	wantCode(t, err, fault.Gone)
	w.v.Chores(ctx)
	_, err = w.result("carol", work.ID)
	wantCode(t, err, fault.NotFound)
	if objects() != before-1 {
		t.Errorf("%d objects are left of %d", objects(), before)
	}
	must[[]byte](t)(w.read("carol", keptDataset, 0))
	if n := recordsOf(w.verify(), audit.KindResultExpire); n != 1 {
		t.Errorf("%d records", n)
	}
	c, got := w.check(wire.NewCheck{Scope: w.scope("/")})
	w.wants(c, got)
}
