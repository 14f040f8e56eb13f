package vault_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvault/storage/catalog"
	"dsvault/storage/storagetest"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// renew logs somebody in again whose session has ended.
func (w *world) renew(name string) {
	w.t.Helper()
	w.tokens[name] = must[wire.NewToken](w.t)(w.v.RotateToken(context.Background(), w.as("root"), name)).Token
	w.login(name)
}

func (w *world) startReview(who, scope string, days int) wire.AccessReview {
	w.t.Helper()
	return must[wire.AccessReview](w.t)(w.v.StartReview(context.Background(), w.as(who), wire.NewReview{Scope: w.scope(scope), Days: days}))
}

func (w *world) reviewItems(id dataset.ReviewID) []wire.ReviewItem {
	w.t.Helper()
	return must[wire.Page[wire.ReviewItem]](w.t)(w.v.ReviewItems(context.Background(), w.as("root"), id, -1, 0)).Items
}

// item finds an item of a review by person and role; "" is an assignment.
func (w *world) item(id dataset.ReviewID, person string, role dataset.Role) wire.ReviewItem {
	w.t.Helper()
	for _, i := range w.reviewItems(id) {
		if i.Person == person && i.Role == role {
			return i
		}
	}
	w.t.Fatalf("no item %s %s", person, role)
	return wire.ReviewItem{}
}

func (w *world) decide(who string, id dataset.ReviewID, what string, items ...int) error {
	_, err := w.v.DecideItems(context.Background(), w.as(who), id, wire.DecideItems{Items: items, Decide: what})
	return err
}

// TestReviewItems: a review lists who has access, why, since when and the last
// use, and what stands out.
func TestReviewItems(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	must[wire.Agreement](t)(w.v.Publish(ctx, w.as("root"), wire.Publish{Name: "nda", Text: "Tell nobody."}))
	begin := w.clock.Now()
	w.assign("lee", "0")
	w.clock.Add(100 * 24 * time.Hour) // sessions have ended
	w.renew("lee")
	must[[]byte](t)(w.read("lee", workDataset, 0))
	used := w.clock.Now()
	w.renew("rita") // a login is no use of the role
	until := used.AddDate(0, 0, 9)
	must[wire.Grant](t)(w.v.Grant(ctx, w.as("root"), wire.Grant{Role: dataset.Contractor, Person: "conny", Scope: w.scope("acme/signs"), Until: &until, Reason: "contract 17"}))
	w.clock.Add(time.Hour)

	r := w.startReview("root", "acme", 0)
	if r.State != "open" || !r.Deadline.Equal(w.clock.Now().AddDate(0, 0, 30)) {
		t.Errorf("%+v", r)
	}
	var got []string
	for _, i := range w.reviewItems(r.ID) {
		text := fmt.Sprint(i.Kind, " ", i.Person, " ", i.Role, " ", i.Scope, " ", strings.Join(i.Findings, ","))
		got = append(got, text)
		if i.Person == "lee" && (i.LastUse == nil || !i.LastUse.Equal(used)) || i.Person == "rita" && i.LastUse != nil {
			t.Errorf("last use: %+v", i)
		}
		if i.Person == "carol" && !i.Since.Equal(begin) || i.Role == dataset.Contractor && i.Reason != "contract 17" {
			t.Errorf("%+v", i)
		}
	}
	slices.Sort(got)
	want := []string{
		"above audrey auditor / unused,stale",
		"above root admin / ",
		"above second admin / unused,stale",
		"assignment lee  acme/signs/batch-1 ",
		"grant carol client acme unused,stale",
		"grant conny contractor acme/signs stale,unsigned",
		"grant lee labeler acme/signs ",
		"grant rita reviewer acme/signs unused",
	}
	if !slices.Equal(got, want) {
		t.Errorf("items\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r.Findings["unused"] != 4 || r.Findings["unsigned"] != 1 || r.Undecided != 5 || r.Items != 8 {
		t.Errorf("%+v", r)
	}
}

// TestReviewDecides: an admin keeps and revokes, at once and on record, but not
// their own access, and not what lies above.
func TestReviewDecides(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	w.assign("lee", "0")
	r := w.startReview("root", "acme", 10)
	for who, code := range map[string]fault.Code{"carol": fault.Forbidden, "audrey": fault.Forbidden, "lee": fault.NotFound} {
		wantCode(t, w.decide(who, r.ID, "keep", 0), code)
	}
	lee, rita := w.item(r.ID, "lee", dataset.Labeler).Number, w.item(r.ID, "rita", dataset.Reviewer).Number
	if err := w.decide("root", r.ID, "keep", rita); err != nil {
		t.Fatal(err)
	}
	must[[]byte](t)(w.read("lee", workDataset, 0))
	if err := w.decide("second", r.ID, "revoke", lee); err != nil {
		t.Fatal(err)
	}
	_, err := w.read("lee", workDataset, 0)
	wantCode(t, err, fault.NotFound)
	wantCode(t, w.decide("root", r.ID, "keep", lee), fault.Conflict)
	wantCode(t, w.decide("root", r.ID, "keep", w.item(r.ID, "second", dataset.Admin).Number), fault.Conflict)
	wantCode(t, w.decide("root", r.ID, "keep", 99), fault.Invalid)

	all := w.startReview("second", "/", 10)
	self := w.item(all.ID, "root", dataset.Admin).Number
	err = w.decide("root", all.ID, "keep", self)
	wantCode(t, err, fault.Forbidden)
	if !strings.Contains(refusedFor(err), "DNY-74") {
		t.Errorf("%v", err)
	}
	wantCode(t, w.decide("root", all.ID, "revoke", self), fault.Forbidden)
	if err := w.decide("second", all.ID, "keep", self); err != nil {
		t.Error(err)
	}
	_, err = w.v.FinishReview(ctx, w.as("root"), r.ID)
	wantCode(t, err, fault.Conflict)
	var open []int
	for _, i := range w.reviewItems(r.ID) {
		if i.Decision == "" && i.Kind != "above" {
			open = append(open, i.Number)
		}
	}
	if err := w.decide("root", r.ID, "keep", open...); err != nil {
		t.Fatal(err)
	}
	ended := must[wire.AccessReview](t)(w.v.FinishReview(ctx, w.as("root"), r.ID))
	if ended.State != "ended" || ended.Revoked != 1 || ended.Kept != len(open)+1 || len(ended.Digest) != 32 {
		t.Errorf("%+v", ended)
	}
	wantCode(t, w.decide("root", r.ID, "revoke", rita), fault.Conflict)
	revoked := 0
	for _, l := range w.verify() {
		if id, ok := l.Bytes(audit.FieldReviewID); ok && l.Kind == audit.KindRevoke && [16]byte(id) == [16]byte(r.ID) {
			revoked++
		}
		if digest, ok := l.Bytes(audit.FieldDigest); ok && !bytes.Equal(digest, ended.Digest) {
			t.Errorf("the log has the digest %s", hex.EncodeToString(digest))
		}
	}
	if revoked != 1 {
		t.Errorf("%d revocations name the review", revoked)
	}
	var file bytes.Buffer
	result := must[*vault.ReviewResult](t)(w.v.ReviewResult(ctx, w.as("audrey"), r.ID))
	must[[]byte](t)(result.Send(ctx, &file))
	if lines := strings.Count(file.String(), "\n"); lines != ended.Items+1 || strings.Count(file.String(), `"decision":"revoke"`) != 1 {
		t.Errorf("%d lines:\n%s", lines, file.String())
	}
}

// TestReviewExpires: at the deadline, to the second, what nobody has decided on
// ends by itself; the last admin stays.
func TestReviewExpires(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	w.clock.Add(time.Date(2028, 2, 28, 23, 59, 59, 0, time.UTC).Sub(w.clock.Now()))
	w.renew("lee")
	w.assign("lee", "0")
	must[wire.Revoked](t)(w.v.Revoke(ctx, w.as("root"), dataset.Admin, "second", w.scope("/")))
	r := w.startReview("root", "/", 2) // over the leap day
	if err := w.decide("root", r.ID, "keep", w.item(r.ID, "carol", dataset.ClientUser).Number); err != nil {
		t.Fatal(err)
	}
	w.clock.Add(48*time.Hour - time.Second)
	w.v.Chores(ctx)
	must[[]byte](t)(w.read("lee", workDataset, 0))
	w.clock.Add(time.Second)
	w.v.Chores(ctx)
	if want := time.Date(2028, 3, 1, 23, 59, 59, 0, time.UTC); !w.clock.Now().Equal(want) {
		t.Fatalf("it is %v", w.clock.Now())
	}
	_, err := w.read("lee", workDataset, 0)
	wantCode(t, err, fault.NotFound)
	ended := must[wire.AccessReview](t)(w.v.Review(ctx, w.as("root"), r.ID)) // root is an admin still
	if ended.State != "ended" || ended.Undecided != 0 || ended.Kept != 2 || ended.Expired != ended.Items-2 {
		t.Errorf("%+v", ended)
	}
	if i := w.item(r.ID, "root", dataset.Admin); i.Decision != "keep" || i.Reviewer != "" {
		t.Errorf("%+v", i)
	}
	grants := must[wire.Page[wire.Grant]](t)(w.v.Grants(ctx, w.as("root"), w.scope("/"), "", 0))
	if len(grants.Items) != 2 {
		t.Errorf("%+v", grants.Items)
	}
	w.v.Chores(ctx)
	ends := 0
	for _, l := range w.verify() {
		if l.Kind == audit.KindAccessReviewEnd {
			ends++
		}
	}
	if ends != 1 {
		t.Errorf("the review has ended %d times", ends)
	}
}

// TestReviewGoesOnAfterCrash fails every statement of the round that ends a review,
// each in a review of its own, and goes on with a new vault: nothing that is undecided
// is reported as ended, and in the end each access has ended once, on record.
func TestReviewGoesOnAfterCrash(t *testing.T) {
	onFaultyWorlds(t, func(t *testing.T, w *world, faults *storagetest.SQLFaults, kind storagetest.SQLFault) {
		ctx := context.Background()
		w.v.Close()
		w.shared = true
		w.exec(func(ctx context.Context, tx *catalog.Tx) error { // so that only this test does the chores
			held, err := tx.TakeLease(ctx, "chores", "the test", time.Hour)
			if !held {
				t.Error("no lease")
			}
			return err
		})
		w.v = must[*vault.Vault](t)(w.open())
		unfinished := 0
		for n := 1; !t.Failed(); n += 2 {
			if !w.granted("lee") {
				w.grant(dataset.Labeler, "lee", "acme/signs", nil)
			}
			w.assign("lee", "0-1")
			r := w.startReview("root", "acme", 1)
			w.clock.Add(25 * time.Hour)
			faults.Arm(n, kind)
			w.v.Chores(ctx)
			failed := faults.Disarm()
			now := must[wire.AccessReview](t)(w.v.Review(ctx, w.as("root"), r.ID))
			if now.State == "ended" && now.Undecided > 0 {
				t.Errorf("after statement %d (%s) had failed the review has ended with %d items undecided", n, failed, now.Undecided)
			}
			if i := w.item(r.ID, "lee", dataset.Labeler); i.Decision == "expired" && w.granted("lee") {
				t.Errorf("statement %d (%s): an item has expired and its grant holds", n, failed)
			}
			if now.State != "ended" {
				unfinished++
				w.v.Close()
				w.v = must[*vault.Vault](t)(w.open())
				w.v.Chores(ctx)
			}
			w.reviewEnded(r.ID, fmt.Sprintf("after statement %d (%s) had failed", n, failed))
			if failed == "" {
				break
			}
		}
		t.Logf("%d reviews had to go on", unfinished)
		if unfinished < 5 {
			t.Error("hardly any statement that failed was one of a review's end")
		}
		w.sound()
	})
}

// reviewEnded checks that a review has ended at its deadline, once, and each access
// that nobody had decided on with it.
func (w *world) reviewEnded(id dataset.ReviewID, when string) {
	w.t.Helper()
	ends, revoked := 0, 0
	for _, l := range w.sound() {
		if of, ok := l.Bytes(audit.FieldReviewID); ok && [16]byte(of) == [16]byte(id) {
			switch l.Kind {
			case audit.KindAccessReviewEnd:
				ends++
			case audit.KindRevoke, audit.KindUnassign:
				revoked++
			}
		}
	}
	r := must[wire.AccessReview](w.t)(w.v.Review(context.Background(), w.as("root"), id))
	if r.State != "ended" || r.Undecided != 0 || ends != 1 || revoked != r.Expired || r.Expired == 0 || w.granted("lee") || w.assigned("lee") {
		w.t.Errorf("%s: %d ends, %d revocations; %+v", when, ends, revoked, r)
	}
}

// TestQuarterlyReviews: with each quarter, by UTC, one review of each client that
// there was and one of the vault itself, whichever nodes there are.
func TestQuarterlyReviews(t *testing.T) {
	w := newWorld(t)
	w.setUp() // on the last of February 2027
	ctx := context.Background()
	w.v.Close()
	w.shared = true
	w.config = func(cfg *vault.Config) { cfg.Reviews = vault.ReviewConfig{Quarterly: true, Days: 20} }
	w.v = must[*vault.Vault](t)(w.open())
	second := must[*vault.Vault](t)(w.open())
	t.Cleanup(func() { second.Close() })
	count := func() (texts []string) {
		w.v.Chores(ctx)
		second.Chores(ctx)
		w.look(func(ctx context.Context, tx *catalog.Tx) error {
			rows, err := tx.Reviews(ctx, dataset.Root, dataset.ReviewID{}, 0)
			for _, r := range rows {
				texts = append(texts, fmt.Sprint(r.Period, " ", r.Scope, " ", r.State))
			}
			return err
		})
		slices.Sort(texts)
		return texts
	}
	at := func(t time.Time) { w.clock.Add(t.Sub(w.clock.Now())) }
	at(time.Date(2027, 4, 1, 1, 59, 59, 0, time.FixedZone("CEST", 7200)))
	if got := count(); got != nil {
		t.Errorf("before the quarter: %q", got)
	}
	w.clock.Add(time.Second)
	if got, want := count(), []string{"2027-Q2 / open", "2027-Q2 acme open"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	at(time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)) // what nobody decided has ended, carol's and all others' at acme
	want := []string{"2027-Q2 / ended", "2027-Q2 acme ended", "2027-Q3 / open"}
	if got := count(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
