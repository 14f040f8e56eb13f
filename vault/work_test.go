package vault_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

const workDataset = "acme/signs/batch-1"

// claimable opens the world's project to claims, and gives it annotators besides
// lee.
func (w *world) claimable(more ...string) {
	w.t.Helper()
	open := true
	must[wire.Entry](w.t)(w.v.UpdateProject(context.Background(), w.as("carol"), w.scope("acme/signs"), wire.ProjectUpdate{Claims: &open}))
	for _, name := range more {
		w.invite(name)
		w.grant(dataset.Labeler, name, "acme/signs", nil)
	}
}

func (w *world) claim(name string) (wire.Claim, error) {
	return w.v.Claim(context.Background(), w.as(name), w.scope(workDataset), wire.NewClaim{Seconds: 3600})
}

// refusedFor gives the reasons of a refusal.
func refusedFor(err error) string {
	var e *fault.Error
	if !errors.As(err, &e) {
		return ""
	}
	return strings.Join(e.Reasons, "; ")
}

func workRef(w *world, n int) dataset.ShardRef {
	return dataset.ShardRef{Dataset: w.scope(workDataset), Number: n}
}

// submit returns plain as the work of somebody on a shard.
func (w *world) submit(name string, n int, plain []byte) (wire.Work, error) {
	w.t.Helper()
	to := must[seal.Recipient](w.t)(seal.ParseRecipient(must[wire.Dataset](w.t)(w.v.Dataset(context.Background(), w.as("carol"), w.scope(workDataset))).Recipient))
	return w.submitSealed(name, n, n, plain, must[[]byte](w.t)(seal.SealBytes(plain, to)), to)
}

func (w *world) submitSealed(name string, n, manifestNumber int, plain, sealed []byte, to seal.Recipient) (wire.Work, error) {
	w.t.Helper()
	finish, err := w.startSubmit(name, n, manifestNumber, plain, sealed, to)
	if err != nil {
		return wire.Work{}, err
	}
	return finish()
}

func (w *world) startSubmit(name string, n, manifestNumber int, plain, sealed []byte, to seal.Recipient) (func() (wire.Work, error), error) {
	w.t.Helper()
	ctx, scope := context.Background(), w.scope(workDataset)
	up, err := w.v.StartWork(ctx, w.as(name), workRef(w, n), wire.NewWork{Size: int64(len(plain))})
	if err != nil {
		return nil, err
	}
	if _, err := w.v.StoreWork(ctx, w.as(name), scope, up.Attempt, bytes.NewReader(sealed), int64(len(sealed))); err != nil {
		return nil, err
	}
	sum, sealedHash := sha256.Sum256(plain), dataset.SealedHash(up.PartSize)
	sealedHash.Write(sealed)
	m := must[[]byte](w.t)(json.Marshal(dataset.Manifest{Version: 1, Number: manifestNumber, Packing: dataset.PackFile, Name: "labels", Size: int64(len(plain)), SHA256: sum[:]}))
	req := wire.Commit{SHA256: sealedHash.Sum(nil), Manifest: must[[]byte](w.t)(seal.SealBytes(m, to))}
	return func() (wire.Work, error) { return w.v.CommitWork(ctx, w.as(name), scope, up.Attempt, req) }, nil
}

// result reads returned work as somebody.
func (w *world) result(name string, id dataset.WorkID) ([]byte, error) {
	w.t.Helper()
	s, err := w.v.ReadResult(context.Background(), w.as(name), w.scope(workDataset), id, w.ids[name], "")
	if err != nil {
		return nil, err
	}
	var sealed bytes.Buffer
	if err := s.Send(&sealed, func() {}); err != nil {
		return nil, err
	}
	plain := must[io.Reader](w.t)(seal.Open(&sealed, w.devices[name]))
	return io.ReadAll(plain)
}

func (w *world) states(who, under string) []string {
	w.t.Helper()
	var list []string
	for after := ""; ; {
		page := must[wire.Page[wire.ShardWork]](w.t)(w.v.Work(context.Background(), w.as(who), w.scope(under), after, 2))
		for _, s := range page.Items {
			list = append(list, strings.TrimSpace(fmt.Sprintf("%d %s %s", s.Shard, s.State, s.Person)))
		}
		if after = page.Next; after == "" {
			return list
		}
	}
}

// TestClaimsAreExclusive: whoever claims at the same time, nobody gets what
// somebody else has, and an assigned shard is nobody's to claim.
func TestClaimsAreExclusive(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	const shards = 12
	for n := 2; n < shards; n++ {
		if err := w.upload("carol", "acme/signs/many", n-2, fmt.Append(nil, "shard ", n)); err != nil {
			t.Fatal(err)
		}
	}
	many := w.scope("acme/signs/many")
	must[wire.Dataset](t)(w.v.Complete(ctx, w.as("carol"), many, wire.Complete{Shards: dataset.FirstShards(shards - 2)}))
	w.claimable("lia", "leo")
	must[wire.Assignment](t)(w.v.Assign(ctx, w.as("root"), wire.Assignment{Dataset: many, Person: "leo", Shards: dataset.ShardSet{{First: 3, Last: 3}}}))
	var mu sync.Mutex
	got := map[int]string{}
	var group sync.WaitGroup
	for i := range shards {
		name := []string{"lee", "lia"}[i%2]
		c := w.as(name)
		group.Go(func() {
			claim, err := w.v.Claim(ctx, c, many, wire.NewClaim{})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil && !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.Busy):
				t.Errorf("%v", err)
			case err == nil && got[claim.Shard] != "":
				t.Errorf("shard %d was given to %s and to %s", claim.Shard, got[claim.Shard], name)
			case err == nil:
				got[claim.Shard] = name
			}
		})
	}
	group.Wait()
	for {
		claim, err := w.v.Claim(ctx, w.as("lia"), many, wire.NewClaim{})
		if err != nil {
			wantCode(t, err, fault.Conflict)
			break
		}
		if got[claim.Shard] != "" {
			t.Errorf("shard %d was given twice", claim.Shard)
		}
		got[claim.Shard] = "lia"
	}
	if len(got) != shards-3 || got[3] != "" {
		t.Errorf("claimed %v of %d shards, of which 3 is assigned", got, shards-2)
	}
}

// TestClaimLapses: a claim is an assignment for as long as its lease, to the
// second, and then somebody else's to take.
func TestClaimLapses(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	_, err := w.claim("lee")
	wantCode(t, err, fault.NotFound) // a labeler does not see what is not open to claims
	w.claimable("lia")
	_, err = w.claim("rita") // a reviewer takes no work
	wantCode(t, err, fault.Forbidden)
	_, err = w.claim("stranger")
	wantCode(t, err, fault.NotFound)

	// Over the end of February and a change of clocks: a lease is a number of seconds.
	w.clock.Add(time.Date(2027, 3, 28, 0, 30, 0, 0, time.UTC).Sub(w.clock.Now()))
	c := must[wire.Claim](t)(w.claim("lee"))
	other := must[wire.Claim](t)(w.claim("lia"))
	if c.Shard == other.Shard || !c.Until.Equal(w.clock.Now().Add(time.Hour)) {
		t.Fatalf("%+v, %+v", c, other)
	}
	w.clock.Add(time.Hour - time.Second)
	must[[]byte](t)(w.read("lee", workDataset, c.Shard))
	renewed := must[wire.Claim](t)(w.v.RenewClaim(ctx, w.as("lee"), workRef(w, c.Shard), 7200))
	if !renewed.Until.Equal(w.clock.Now().Add(2 * time.Hour)) {
		t.Errorf("renewed until %v", renewed.Until)
	}
	w.clock.Add(time.Second)
	_, err = w.read("lia", workDataset, other.Shard)
	wantCode(t, err, fault.Forbidden)
	_, err = w.v.RenewClaim(ctx, w.as("lia"), workRef(w, other.Shard), 3600)
	wantCode(t, err, fault.Conflict)
	must[[]byte](t)(w.read("lee", workDataset, c.Shard))
	if again := must[wire.Claim](t)(w.claim("lee")); again.Shard != other.Shard {
		t.Errorf("got shard %d, and %d is free", again.Shard, other.Shard)
	}
	w.clock.Add(2*time.Hour - 2*time.Second)
	must[[]byte](t)(w.read("lee", workDataset, c.Shard))
	w.clock.Add(time.Second)
	_, err = w.read("lee", workDataset, c.Shard)
	wantCode(t, err, fault.Forbidden)
	// The project closes: nobody renews, what was claimed stays until its end.
	must[wire.Claim](t)(w.claim("lia"))
	closed := false
	must[wire.Entry](t)(w.v.UpdateProject(ctx, w.as("carol"), w.scope("acme/signs"), wire.ProjectUpdate{Claims: &closed}))
	must[[]byte](t)(w.read("lia", workDataset, 0))
	_, err = w.v.RenewClaim(ctx, w.as("lia"), workRef(w, 0), 3600)
	wantCode(t, err, fault.Forbidden)
	must[wire.Revoked](t)(w.v.ReleaseClaim(ctx, w.as("lia"), workRef(w, 0)))
	_, err = w.read("lia", workDataset, 0)
	wantCode(t, err, fault.NotFound)
	w.verify()
}

// TestWork: work is returned, sent back, returned again and accepted; each state
// is seen with its time, and what was accepted ends the claim.
func TestWork(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	w.claimable("lia")
	c := must[wire.Claim](t)(w.claim("lee"))
	_, err := w.submit("lia", c.Shard, []byte("not mine"))
	wantCode(t, err, fault.Forbidden)
	first := must[wire.Work](t)(w.submit("lee", c.Shard, []byte("first")))
	judge := func(who string, id dataset.WorkID, accept bool) error {
		_, err := w.v.JudgeWork(ctx, w.as(who), w.scope(workDataset), id, wire.Judgement{Accept: accept, Reason: "look again"})
		return err
	}
	wantCode(t, judge("lia", first.ID, true), fault.Forbidden)
	// A labeler who is a reviewer as well does not judge their own work.
	w.grant(dataset.Reviewer, "lee", "acme/signs", nil)
	err = judge("lee", first.ID, true)
	wantCode(t, err, fault.Forbidden)
	if !strings.Contains(refusedFor(err), "DNY-14") || !strings.Contains(fault.HintOf(err), "own work") {
		t.Errorf("%v (hint: %s)", err, fault.HintOf(err))
	}
	must[wire.Revoked](t)(w.v.Revoke(ctx, w.as("root"), dataset.Reviewer, "lee", w.scope("acme/signs")))
	w.clock.Add(time.Minute)
	if err := judge("rita", first.ID, false); err != nil {
		t.Fatal(err)
	}
	wantCode(t, judge("rita", first.ID, true), fault.Conflict)
	if got := w.states("root", "acme"); !slices.Equal(got, []string{"0 sent-back lee", "1 free"}) {
		t.Errorf("%q", got)
	}
	second := must[wire.Work](t)(w.submit("lee", c.Shard, []byte("second")))
	w.clock.Add(time.Second)
	third := must[wire.Work](t)(w.submit("lee", c.Shard, []byte("third")))
	wantCode(t, judge("rita", second.ID, true), fault.Conflict) // not what is there now
	w.clock.Add(time.Minute)
	if err := judge("rita", third.ID, true); err != nil {
		t.Fatal(err)
	}
	_, err = w.read("lee", workDataset, c.Shard)
	wantCode(t, err, fault.Forbidden)
	if again := must[wire.Claim](t)(w.claim("lia")); again.Shard == c.Shard {
		t.Error("accepted work can be claimed again")
	}
	if got := w.states("carol", "acme/signs"); !slices.Equal(got, []string{"0 accepted lee", "1 claimed lia"}) {
		t.Errorf("%q", got)
	}
	if got := w.states("lia", "acme/signs"); !slices.Equal(got, []string{"1 claimed lia"}) {
		t.Errorf("an annotator sees %q", got)
	}
	list := must[wire.Page[wire.Work]](t)(w.v.Results(ctx, w.as("lee"), w.scope(workDataset), vault.ResultQuery{Shard: -1}))
	if len(list.Items) != 3 || list.Items[0].Reason != "look again" || list.Items[0].Latest || !list.Items[2].Decided.Equal(w.clock.Now()) {
		t.Errorf("%+v", list.Items)
	}
	for _, who := range []string{"carol", "rita", "lee"} {
		if got := must[[]byte](t)(w.result(who, third.ID)); string(got) != "third" {
			t.Errorf("%s reads %q", who, got)
		}
	}
	for who, code := range map[string]fault.Code{"lia": fault.Forbidden, "root": fault.Forbidden, "audrey": fault.Forbidden, "stranger": fault.NotFound} {
		_, err := w.result(who, third.ID)
		wantCode(t, err, code)
	}
	reads := 0
	for _, l := range w.verify() {
		if id, ok := l.Bytes(audit.FieldWorkID); ok && l.Kind == audit.KindRead && [16]byte(id) == [16]byte(third.ID) {
			reads++
		}
	}
	if reads != 3 {
		t.Errorf("%d reads of the result in the log, want 3", reads)
	}
}

// TestResultIsRecordedFirst: by the time that the first byte is fetched from
// storage, the read of a result is in the log; one that is not recorded yields
// nothing.
func TestResultIsRecordedFirst(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0")
	work := must[wire.Work](t)(w.submit("lee", 0, []byte("labels")))
	s := must[*vault.ShardStream](t)(w.v.ReadResult(context.Background(), w.as("carol"), w.scope(workDataset), work.ID, w.ids["carol"], ""))
	defer s.Close()
	found := false
	w.look(func(ctx context.Context, tx *catalog.Tx) error {
		return tx.LeafData(ctx, s.Index, s.Index+1, func(_, _ uint64, data []byte) error {
			l, err := audit.ParseLeaf(data)
			content, _ := l.Text(audit.FieldContent)
			found = err == nil && l.Kind == audit.KindRead && content == "result"
			return err
		})
	})
	if !found {
		t.Error("no record of the read, and bytes could go out")
	}
	// The client's role ends while the read is open: not a byte more.
	must[wire.Revoked](t)(w.v.Revoke(context.Background(), w.as("root"), dataset.ClientUser, "carol", w.scope("acme")))
	_, err := w.result("carol", work.ID)
	wantCode(t, err, fault.NotFound)
}

// TestWorkIsNoWayIn: returned work cannot be used to open what somebody else has
// sealed, nor become a shard; what is not sealed to the dataset is refused.
func TestWorkIsNoWayIn(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	w.assign("lee", "0")
	d := must[wire.Dataset](t)(w.v.Dataset(ctx, w.as("carol"), w.scope(workDataset)))
	to := must[seal.Recipient](t)(seal.ParseRecipient(d.Recipient))
	plain := []byte(strings.Repeat("secret ", 50_000))
	stolen := w.contents(w.objectKey(workDataset, 1)) // the ciphertext of a shard that is not lee's
	_, err := w.submitSealed("lee", 0, 0, plain, stolen, to)
	wantCode(t, err, fault.Conflict)
	if !strings.Contains(fmt.Sprint(err), "uploaded before") {
		t.Errorf("%v", err)
	}
	other := must[*seal.Identity](t)(seal.GenerateIdentity()).Recipient()
	_, err = w.submitSealed("lee", 0, 0, []byte("x"), must[[]byte](t)(seal.SealBytes([]byte("x"), other)), to)
	wantCode(t, err, fault.Invalid)
	_, err = w.submitSealed("lee", 0, 1, []byte("x"), must[[]byte](t)(seal.SealBytes([]byte("x"), to)), to) // the manifest is of another shard
	wantCode(t, err, fault.Invalid)
	_, err = w.v.StartWork(ctx, w.as("lee"), workRef(w, 0), wire.NewWork{Size: wire.MaxWork + 1})
	wantCode(t, err, fault.TooLarge)

	// The same commit again gives the same work; without an assignment, none.
	sealed := must[[]byte](t)(seal.SealBytes([]byte("x"), to))
	finish := must[func() (wire.Work, error)](t)(w.startSubmit("lee", 0, 0, []byte("x"), sealed, to))
	made := must[wire.Work](t)(finish())
	if again := must[wire.Work](t)(finish()); again.ID != made.ID {
		t.Error("a repeated commit made other work")
	}
	sealed = must[[]byte](t)(seal.SealBytes([]byte("y"), to))
	finish = must[func() (wire.Work, error)](t)(w.startSubmit("lee", 0, 0, []byte("y"), sealed, to))
	must[wire.Revoked](t)(w.v.Unassign(ctx, w.as("root"), w.scope(workDataset), "lee", nil))
	_, err = finish()
	wantCode(t, err, fault.Forbidden)
	must[int](t)(w.v.Sweep(ctx, w.clock.Now().Add(time.Hour))) // and its bytes go
	c, got := w.check(wire.NewCheck{Scope: w.scope("acme"), Data: true})
	w.wants(c, got)

	// A check looks at work as at shards.
	key := ""
	w.look(func(ctx context.Context, tx *catalog.Tx) error {
		row, err := tx.Work(ctx, made.ID)
		key = row.Key
		return err
	})
	data := w.contents(key)
	data[len(data)-1] ^= 1
	w.rot(key, data)
	c, _ = w.check(wire.NewCheck{Scope: w.scope("acme"), Data: true})
	if c.Changed != 1 || c.Missing != 0 || c.Extra != 0 {
		t.Errorf("%+v", c)
	}
	if err := w.objects.Delete(ctx, key); err != nil {
		t.Fatal(err)
	}
	c, _ = w.check(wire.NewCheck{Scope: w.scope("/")})
	if c.Missing != 1 || c.Extra != 0 {
		t.Errorf("%+v", c)
	}
	_, err = w.result("carol", made.ID)
	wantCode(t, err, fault.Corrupt)
}

// TestErasureTakesWorkAlong: what was made of erased data goes with it, rows and
// objects, and nobody reads it any more.
func TestErasureTakesWorkAlong(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	w.assign("lee", "0")
	work := must[wire.Work](t)(w.submit("lee", 0, []byte("labels")))
	asked := must[wire.Erasure](t)(w.v.Erase(ctx, w.as("root"), wire.NewErasure{Scope: w.scope(workDataset), Reason: "end of contract"}))
	must[wire.Approval](t)(w.v.Approve(ctx, w.as("second"), asked.Pending.ID))
	w.v.Chores(ctx)
	if list := w.erasures(workDataset); len(list) != 1 || list[0].State != "complete" {
		t.Fatalf("%+v", list)
	}
	w.nothingLeft()
	if _, err := w.result("carol", work.ID); err == nil {
		t.Error("a result of erased data was read")
	}
	c, got := w.check(wire.NewCheck{Scope: w.scope("/")})
	w.wants(c, got)
}
