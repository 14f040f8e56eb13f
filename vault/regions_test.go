package vault_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/dir"
	"dsvault/storage/s3"
	"dsvault/storage/storagetest"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// withRegions opens the vault anew on a store without a name and these of regions.
func (w *world) withRegions(names ...string) (map[string]storage.Objects, error) {
	w.t.Helper()
	w.v.Close()
	named := map[string]storage.Objects{}
	home := w.objects
	if r, ok := w.objects.(*storage.Regions); ok {
		home = storage.StoreOf(r, "v1/x")
	}
	folder := filepath.Join(w.regions)
	for _, name := range names {
		named[name] = must[*dir.Store](w.t)(dir.Open(filepath.Join(folder, name)))
	}
	w.objects = home
	if len(names) > 0 {
		w.objects = storage.NewRegions(home, named)
	}
	named[""] = home
	v, err := w.open()
	if err == nil {
		w.v = v
		w.t.Cleanup(func() { v.Close() })
	}
	return named, err
}

func (w *world) region(who, project, region string) error {
	_, err := w.v.UpdateProject(context.Background(), w.as(who), w.scope(project), wire.ProjectUpdate{Region: &region})
	return err
}

// count gives how many objects below v1/ a store has.
func count(t *testing.T, objects storage.Objects) (n int) {
	for _, err := range objects.List(t.Context(), "v1/") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// TestStoredInRegion: what is pushed to a project of a region is in the store of
// that region and nowhere else, and everything works on it as on the rest.
func TestStoredInRegion(t *testing.T) {
	w := newWorld(t)
	w.setUp() // two shards, in the store without a name
	w.regions = t.TempDir()
	stores, err := w.withRegions("eu", "us")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	project := func(name, region string) error {
		_, err := w.v.CreateProject(ctx, w.as("root"), wire.NewProject{Scope: w.scope(name), Purposes: []string{"labeling"}, Region: region})
		return err
	}
	if err := project("acme/faces", "eu"); err != nil {
		t.Fatal(err)
	}
	err = project("acme/asia", "asia")
	wantCode(t, err, fault.Conflict)
	if !strings.Contains(fault.HintOf(err), "eu, us") {
		t.Errorf("hint %q", fault.HintOf(err))
	}
	const ds = "acme/faces/batch-1"
	w.faces(ds, 2)
	must[wire.Dataset](t)(w.v.Complete(ctx, w.as("elsa"), w.scope(ds), wire.Complete{Shards: dataset.FirstShards(2)}))
	if a, b, c := count(t, stores[""]), count(t, stores["eu"]), count(t, stores["us"]); a != 2 || b != 2 || c != 0 {
		t.Errorf("%d objects in the store without a name, %d in eu, %d in us", a, b, c)
	}
	if got := string(must[[]byte](t)(w.read("elsa", ds, 1))); got != "a face" {
		t.Errorf("read %q", got)
	}
	must[[]byte](t)(w.read("carol", batch, 0))

	// The project stays where its data is; one without data may move.
	wantCode(t, w.region("elsa", "acme/faces", "us"), fault.Conflict)
	wantCode(t, w.region("elsa", "acme/faces", ""), fault.Conflict)
	wantCode(t, w.region("elsa", "acme/signs", "eu"), fault.Conflict)
	if err := project("acme/empty", "eu"); err != nil {
		t.Fatal(err)
	}
	if err := w.region("elsa", "acme/empty", "us"); err != nil {
		t.Error(err)
	}

	// A check sees all stores, and each dataset's own.
	for scope, checked := range map[string]int64{"/": 4, "acme/faces": 2, "acme/signs": 2} {
		c := must[wire.Check](t)(w.v.StartCheck(ctx, w.as("root"), wire.NewCheck{Scope: w.scope(scope), Data: true}))
		for c.State == "running" {
			c = must[wire.Check](t)(w.v.Check(ctx, w.as("root"), c.ID))
		}
		if c.State != "finished" || c.Checked != checked || c.Damaged() || c.Extra != 0 {
			t.Errorf("the check of %s: %+v", scope, c)
		}
	}
	// What was begun and left is swept from its own store.
	id := must[wire.Upload](t)(w.v.StartUpload(ctx, w.as("elsa"), dataset.ShardRef{Dataset: w.scope(ds), Number: 9}, wire.NewUpload{Fingerprint: make([]byte, 32), Size: 1}))
	sealed := make([]byte, seal.SealedSize(1))
	must[wire.Stored](t)(w.v.StoreUpload(ctx, w.as("elsa"), w.scope(ds), id.Attempt, strings.NewReader(string(sealed)), int64(len(sealed))))
	if n := count(t, stores["eu"]); n != 3 {
		t.Errorf("%d objects in eu", n)
	}
	must[int](t)(w.v.Sweep(ctx, w.clock.Now().Add(time.Second)))
	if n := count(t, stores["eu"]); n != 2 {
		t.Errorf("%d objects in eu after the sweep", n)
	}

	// A node that does not know a region does not start, nor does one with the
	// stores of two regions changed about.
	if _, err := w.withRegions("us"); !fault.Is(err, fault.Conflict) || !strings.Contains(fault.HintOf(err), "--store eu=") {
		t.Errorf("without the store of eu: %v", err)
	}
	if _, err := w.withRegions(); !fault.Is(err, fault.Conflict) {
		t.Errorf("without regions: %v", err)
	}
	w.objects = storage.NewRegions(stores[""], map[string]storage.Objects{"eu": stores["us"], "us": stores["eu"]})
	if _, err := w.open(); !fault.Is(err, fault.Conflict) {
		t.Errorf("with changed stores: %v", err)
	}
	if _, err := w.withRegions("eu", "us", "asia"); err != nil {
		t.Errorf("with one more: %v", err)
	}
	must[[]byte](t)(w.read("elsa", ds, 0))
}

// TestTransferBasis: from another region only on a basis, which the record of
// each read names; the reference is in the sealed details.
func TestTransferBasis(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0")
	ctx := context.Background()
	us := must[wire.NewToken](t)(w.v.Invite(ctx, w.as("root"), wire.NewPerson{Handle: "uma", Region: "us"}))
	w.tokens["uma"] = us.Token
	w.login("uma")
	w.grant(dataset.Labeler, "uma", "acme/signs", nil)
	w.assign("uma", "0-1")
	must[[]byte](t)(w.read("uma", batch, 0)) // no region asked for
	if err := w.region("carol", "acme/signs", "eu"); err != nil {
		t.Fatal(err)
	}
	w.refused("uma", "DNY-55", "no transfer basis")
	w.refused("lee", "DNY-55", "no transfer basis") // no region declared
	name := func(scope string, list ...dataset.Transfer) {
		t.Helper()
		w.require("root", scope, wire.ConditionsUpdate{Transfers: &list})
	}
	name("acme", dataset.Transfer{Region: "uk", Basis: dataset.BasisAdequacy})
	w.refused("uma", "DNY-55", "no transfer basis")
	name("acme", dataset.Transfer{Region: "us", Basis: dataset.BasisAdequacy})
	must[[]byte](t)(w.read("uma", batch, 0))
	name("acme/signs", dataset.Transfer{Region: "us", Basis: dataset.BasisSCC, Reference: "SCC 17 with Uma"}) // nearer
	must[[]byte](t)(w.read("uma", batch, 0))
	must[[]byte](t)(w.read("uma", batch, 1))
	sent := w.running("uma")
	name("acme/signs")
	name("acme")
	wantCode(t, <-sent, fault.Forbidden)
	w.refused("uma", "DNY-55", "no transfer basis")

	for bad, list := range map[string][]dataset.Transfer{
		"no basis": {{Region: "us"}}, "none needed": {{Region: "us", Basis: dataset.BasisNone}}, "no reference": {{Region: "us", Basis: dataset.BasisSCC}},
		"no region": {{Basis: dataset.BasisAdequacy}}, "twice": {{Region: "us", Basis: dataset.BasisAdequacy}, {Region: "us", Basis: dataset.BasisAdequacy}},
	} {
		_, err := w.v.UpdateConditions(ctx, w.as("root"), w.scope("acme"), wire.ConditionsUpdate{Transfers: &list})
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}

	// Each read's record names regions and basis; the clauses are in its details alone.
	var said []string
	page := must[wire.Page[wire.Record]](t)(w.v.Log(ctx, w.as("carol"), vault.LogQuery{Under: w.scope(batch), Limit: 1000}))
	for _, r := range page.Items {
		if r.Kind != "read" {
			continue
		}
		leaf := must[audit.Leaf](t)(audit.ParseLeaf(r.Leaf))
		var personal struct {
			Note map[string]string `json:"note"`
		}
		if err := json.Unmarshal(r.Personal, &personal); err != nil {
			t.Fatal(err)
		}
		region, _ := leaf.Text(audit.FieldRegion)
		reader, _ := leaf.Text(audit.FieldReaderRegion)
		basis, _ := leaf.Uint64(audit.FieldBasis)
		said = append(said, strings.Join([]string{region, reader, string(dataset.BasisOf(basis)), personal.Note["reader-region"], personal.Note["transfer-reference"]}, ","))
		if strings.Contains(string(r.Leaf), "SCC") {
			t.Error("the leaf holds the reference")
		}
	}
	want := ",,none-needed,us,; eu,us,adequacy,us,; eu,us,scc,us,SCC 17 with Uma; eu,us,scc,us,SCC 17 with Uma; eu,us,scc,us,SCC 17 with Uma"
	if got := strings.Join(said, "; "); got != want {
		t.Errorf("the log says %s, want %s", got, want)
	}

	now := w.clock.Now()
	out := must[wire.Transfers](t)(w.v.Transfers(ctx, w.as("carol"), w.scope("acme"), now.Add(-time.Hour), now.Add(time.Hour)))
	var rows []string
	for _, r := range out.Items {
		if r.Dataset != batch || r.Period != "2027-02" || r.Bytes == 0 {
			t.Errorf("%+v", r)
		}
		rows = append(rows, strings.Join([]string{r.Region, r.Reader, string(r.Basis)}, ",")+" "+strings.Repeat("*", r.Reads))
	}
	if got := strings.Join(rows, "; "); got != ",,none-needed *; eu,us,adequacy *; eu,us,scc ***" {
		t.Errorf("the report says %s", got)
	}
	if out := must[wire.Transfers](t)(w.v.Transfers(ctx, w.as("audrey"), w.scope("/"), now.Add(time.Hour), now.Add(2*time.Hour))); len(out.Items) != 0 {
		t.Errorf("another time: %+v", out)
	}
	_, err := w.v.Transfers(ctx, w.as("uma"), w.scope("acme"), now.Add(-time.Hour), now)
	wantCode(t, err, fault.NotFound)
	_, err = w.v.Transfers(ctx, w.as("audrey"), w.scope("/"), now, now)
	wantCode(t, err, fault.Invalid)
	d := must[wire.Decision](t)(w.v.Can(ctx, w.as("uma"), "me", rbac.Read, batch+"/0", "", ""))
	if d.Allowed || !strings.Contains(strings.Join(d.Reasons, ";"), "DNY-55 denies: abroad, not transfer") {
		t.Errorf("%+v", d)
	}
}

// TestDirectInRegion: presigned URLs lead to the store of the project's region,
// and one region's store may lack what another's can do.
func TestDirectInRegion(t *testing.T) {
	t.Parallel()
	server := storagetest.Versitygw(t)
	w := newWorld(t)
	w.setUp()
	w.v.Close()
	ctx := context.Background()
	eu := must[*s3.Store](t)(s3.Open(ctx, s3.Config{
		Endpoint: strings.TrimPrefix(server.Endpoint, "http://"), Bucket: server.Bucket, Region: server.Region,
		Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""), Patience: patience,
	}))
	home := w.objects
	w.objects = storage.NewRegions(home, map[string]storage.Objects{"eu": eu, "us": must[*dir.Store](t)(dir.Open(t.TempDir()))})
	w.v = must[*vault.Vault](t)(w.open())
	t.Cleanup(func() { w.v.Close() })
	for name, region := range map[string]string{"acme/faces": "eu", "acme/lamps": "us"} {
		must[wire.Entry](t)(w.v.CreateProject(ctx, w.as("root"), wire.NewProject{Scope: w.scope(name), Purposes: []string{"labeling"}, Region: region,
			Delivery: []dataset.Delivery{dataset.Direct}}))
	}
	w.require("root", "acme", wire.ConditionsUpdate{Transfers: &[]dataset.Transfer{{Region: "eu", Basis: dataset.BasisAdequacy}}})
	elsa := must[wire.NewToken](t)(w.v.Invite(ctx, w.as("root"), wire.NewPerson{Handle: "elsa", Region: "eu"}))
	w.tokens["elsa"] = elsa.Token
	w.login("elsa")
	w.grant(dataset.ClientUser, "elsa", "acme", nil)

	const ds = "acme/faces/direct"
	d := w.startDirect("elsa", ds, 0, []byte("a face"))
	d.putAll()
	stored := must[wire.Stored](t)(d.join())
	if err := d.commit(stored.SHA256); err != nil {
		t.Fatal(err)
	}
	must[wire.Dataset](t)(w.v.Complete(ctx, w.as("elsa"), w.scope(ds), wire.Complete{Shards: dataset.FirstShards(1)}))
	if a, b := count(t, home), count(t, eu); a != 2 || b != 1 {
		t.Errorf("%d objects in the store without a name, %d in eu", a, b)
	}
	ref := dataset.ShardRef{Dataset: w.scope(ds)}
	read := must[vault.DirectRead](t)(w.v.ReadDirect(ctx, w.as("elsa"), ref, w.ids["elsa"], ""))
	if status, got := use(t, http.MethodGet, read.Object, nil); status != http.StatusOK || !bytes.Equal(got, d.sealed) {
		t.Errorf("GET: %d, %d bytes", status, len(got))
	}
	if got := string(must[[]byte](t)(w.read("elsa", ds, 0))); got != "a face" {
		t.Errorf("read %q", got)
	}
	// An upload that is given up is ended in that store, too.
	left := w.startDirect("elsa", ds, 1, []byte("another"))
	must[wire.Presigned](t)(left.presign(1, sha256.Sum256(left.sealed)))
	must[int](t)(w.v.Sweep(ctx, w.clock.Now().Add(time.Second)))
	if _, err := left.join(); !fault.Is(err, fault.NotFound) {
		t.Errorf("an upload that was swept: %v", err)
	}

	if err := w.upload("elsa", "acme/lamps/plain", 0, []byte("a lamp")); err != nil {
		t.Fatal(err)
	}
	must[wire.Dataset](t)(w.v.Complete(ctx, w.as("elsa"), w.scope("acme/lamps/plain"), wire.Complete{Shards: dataset.FirstShards(1)}))
	_, err := w.v.ReadDirect(ctx, w.as("elsa"), dataset.ShardRef{Dataset: w.scope("acme/lamps/plain")}, w.ids["elsa"], "")
	wantCode(t, err, fault.Conflict)
	must[[]byte](t)(w.read("elsa", "acme/lamps/plain", 0))
}

// faces has elsa, who works for the client in the EU, upload shards of a dataset
// that may not leave it.
func (w *world) faces(ds string, shards int) {
	w.t.Helper()
	w.require("root", "acme/faces", wire.ConditionsUpdate{Transfers: &[]dataset.Transfer{}})
	elsa := must[wire.NewToken](w.t)(w.v.Invite(context.Background(), w.as("root"), wire.NewPerson{Handle: "elsa", Region: "eu"}))
	w.tokens["elsa"] = elsa.Token
	w.login("elsa")
	w.grant(dataset.ClientUser, "elsa", "acme", nil)
	for n := range shards {
		if err := w.upload("elsa", ds, n, []byte("a face")); err != nil {
			w.t.Fatal(err)
		}
	}
}
