package notary

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"dsvault/storage"
	"dsvault/storage/s3"
	"dsvault/storage/storagetest"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// anchorBucket is a bucket with object lock on a real server, as the notary
// sees it and as somebody with its keys does.
func anchorBucket(t *testing.T) (*s3.Store, *minio.Client) {
	t.Helper()
	server := storagetest.Versitygw(t)
	creds := credentials.NewStaticV4(server.AccessKey, server.SecretKey, "")
	host := strings.TrimPrefix(server.Endpoint, "http://")
	raw, err := minio.New(host, &minio.Options{Creds: creds, Region: server.Region})
	check(t, err)
	check(t, raw.MakeBucket(t.Context(), "anchors", minio.MakeBucketOptions{Region: server.Region, ObjectLocking: true}))
	store, err := s3.Open(t.Context(), s3.Config{Endpoint: host, Bucket: "anchors", Prefix: "vault-1", Region: server.Region, Creds: creds})
	check(t, err)
	check(t, store.Retained(t.Context()))
	return store, raw
}

// TestAnchor: the checkpoint is left in the bucket, and a catalog that is behind
// it, or is another log, is refused, though nothing else remembers: whatever is
// done to the bucket with its own keys.
func TestAnchor(t *testing.T) {
	ctx := t.Context()
	store, raw := anchorBucket(t)
	key := newKey(t)
	db := openCatalog(t, engines[0].url(t))
	cfg := testConfig(t, db, key)
	cfg.Anchor, cfg.AnchorKeep = store, 24*time.Hour
	var n *Notary
	var continued []uint64
	cfg.Bundle = func(ctx context.Context, size, known uint64) (signed, bundle []byte, err error) {
		continued = append(continued, known)
		cp, err := n.Await(ctx, size)
		return cp.Note, []byte("bundle"), err
	}
	n, err := Open(ctx, cfg)
	check(t, err)
	for _, size := range []uint64{9, 600} { // 9 would come after 600 in the order of digits
		grow(t, db, size)
		check(t, n.sign(ctx))
		covered, err := n.anchor(ctx, size)
		if check(t, err); covered != size {
			t.Errorf("anchored %d leaves of %d", covered, size)
		}
	}
	if !slices.Equal(continued, []uint64{0, 9}) {
		t.Errorf("the bundles continue logs of %d leaves", continued)
	}
	// Somebody deletes what is there, puts other things over it, and adds some.
	for object := range raw.ListObjectsIter(ctx, "anchors", minio.ListObjectsOptions{Recursive: true}) {
		check(t, object.Err)
		put(t, raw, object.Key, "nothing")
		check(t, raw.RemoveObject(ctx, "anchors", object.Key, minio.RemoveObjectOptions{}))
	}
	prefix := "vault-1/" + anchorPrefix(n.Origin())
	put(t, raw, prefix+"0000000000000000000-00.checkpoint", "nothing")
	foreign := newKey(t)
	forged, err := audit.SignCheckpoint(n.Origin(), 1<<40, audit.EmptyRoot(), foreign.Signer)
	check(t, err)
	put(t, raw, prefix+"0000000000000000001-00.checkpoint", string(forged))

	for _, c := range []struct {
		name, says  string
		begin, size uint64
	}{
		{"the same", "", 600, 600},
		{"longer", "", 900, 900},
		{"rolled back", "it has 400 leaves, but 600 were signed", 400, 400},
		{"empty", "it has 0 leaves, but 600 were signed", 0, 0},
		{"forked", "its first 600 leaves are not those that were signed", 599, 700},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := cfg
			cfg.Catalog, cfg.State = openCatalog(t, engines[0].url(t)), t.TempDir()+"/state"
			grow(t, cfg.Catalog, c.begin)
			growOther(t, cfg.Catalog, c.size)
			check(t, InitState(cfg.State, key))
			_, err := Open(ctx, cfg)
			if (err == nil) != (c.says == "") || c.says != "" && (!fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("got %v", err)
			}
			if c.says == "" {
				return
			}
			loss, err := Assess(ctx, cfg)
			if check(t, err); loss.Lost.Size != 600 || loss.Head.Size != c.size || loss.Epoch != 1 {
				t.Errorf("the loss is said to be %+v", loss)
			}
		})
	}
}

func put(t *testing.T, raw *minio.Client, key, text string) {
	t.Helper()
	_, err := raw.PutObject(t.Context(), "anchors", key, strings.NewReader(text), int64(len(text)), minio.PutObjectOptions{})
	check(t, err)
}

// brokenAnchor fails, or floods.
type brokenAnchor struct {
	Anchor
	err   error
	flood int
}

func (b brokenAnchor) Versions(context.Context, string) iter.Seq2[storage.ObjectVersion, error] {
	return func(yield func(storage.ObjectVersion, error) bool) {
		for range b.flood {
			if !yield(storage.ObjectVersion{Object: storage.Object{Key: "log/x"}}, nil) {
				return
			}
		}
		if b.err != nil {
			yield(storage.ObjectVersion{}, b.err)
		}
	}
}

func (b brokenAnchor) OpenVersion(context.Context, storage.ObjectVersion) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("nothing")), nil
}

func (b brokenAnchor) PutRetained(context.Context, string, []byte, time.Time) error { return b.err }

// TestAnchorFaults: an anchor that does not answer is an outage, not a "no"; and
// one that is full of rubbish is not searched for ever.
func TestAnchorFaults(t *testing.T) {
	ctx := t.Context()
	db := openCatalog(t, engines[0].url(t))
	grow(t, db, 10)
	cfg := testConfig(t, db, newKey(t))
	down := fault.New(fault.Unavailable, "s3.Versions", "no answer")
	for _, c := range []struct {
		anchor Anchor
		code   fault.Code
	}{
		{brokenAnchor{err: down}, fault.Unavailable},
		{brokenAnchor{err: errors.New("odd")}, fault.Unavailable},
		{brokenAnchor{flood: 3, err: down}, fault.Unavailable},
		{brokenAnchor{flood: 1 << 30}, fault.Unavailable},
		{brokenAnchor{flood: 3}, ""},
	} {
		cfg.Anchor = c.anchor
		if _, err := Open(ctx, cfg); fault.CodeOf(err) != c.code {
			t.Errorf("%+v: %v", c.anchor, err)
		}
	}
	// While it runs, an anchor that fails does no harm and is tried again.
	cfg.Anchor = nil
	n, err := Open(ctx, cfg)
	check(t, err)
	check(t, n.sign(ctx))
	n.cfg.Anchor = brokenAnchor{err: down}
	n.cfg.Bundle = func(ctx context.Context, size, _ uint64) (signed, bundle []byte, err error) {
		cp, err := n.Await(ctx, size)
		return cp.Note, nil, err
	}
	if _, err := n.anchor(ctx, 10); !errors.Is(err, down) {
		t.Errorf("got %v", err)
	}
}
