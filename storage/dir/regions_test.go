package dir

import (
	"context"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"

	"dsvault/storage"
	"dsvault/storage/storagetest"
	"dsvault/vault/fault"
)

// inRegion is the part of a store of several that is in one region, by its own keys.
type inRegion struct {
	*storage.Regions
	region string
}

func (s inRegion) own(o storage.Object) storage.Object {
	_, o.Key = storage.SplitRegion(o.Key)
	return o
}

func (s inRegion) Put(ctx context.Context, key string, r io.Reader, size int64) (storage.Object, error) {
	o, err := s.Regions.Put(ctx, storage.RegionKey(s.region, key), r, size)
	return s.own(o), err
}

func (s inRegion) Open(ctx context.Context, key string, offset, length int64, etag string) (io.ReadCloser, error) {
	return s.Regions.Open(ctx, storage.RegionKey(s.region, key), offset, length, etag)
}

func (s inRegion) Stat(ctx context.Context, key string) (storage.Object, error) {
	o, err := s.Regions.Stat(ctx, storage.RegionKey(s.region, key))
	return s.own(o), err
}

func (s inRegion) Delete(ctx context.Context, key string) error {
	return s.Regions.Delete(ctx, storage.RegionKey(s.region, key))
}

func (s inRegion) List(ctx context.Context, prefix string) iter.Seq2[storage.Object, error] {
	return s.ListAfter(ctx, prefix, "")
}

func (s inRegion) ListAfter(ctx context.Context, prefix, after string) iter.Seq2[storage.Object, error] {
	if after != "" {
		after = storage.RegionKey(s.region, after)
	}
	return func(yield func(storage.Object, error) bool) {
		for o, err := range s.Regions.ListAfter(ctx, storage.RegionKey(s.region, prefix), after) {
			if !yield(s.own(o), err) {
				return
			}
		}
	}
}

func TestRegionsConformance(t *testing.T) {
	open := func(t *testing.T) *storage.Regions {
		return storage.NewRegions(mustOpen(t, t.TempDir()), map[string]storage.Objects{"eu": mustOpen(t, t.TempDir()), "us": mustOpen(t, t.TempDir())})
	}
	t.Run("home", func(t *testing.T) {
		storagetest.Objects(t, func(t *testing.T) storage.Objects { return open(t) })
	})
	t.Run("eu", func(t *testing.T) {
		storagetest.Objects(t, func(t *testing.T) storage.Objects { return inRegion{open(t), "eu"} })
	})
}

// What belongs to a region is in its store and in no other, and lists show the
// objects of all stores in one order.
func TestRegions(t *testing.T) {
	home, eu, us := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	all := storage.NewRegions(home, map[string]storage.Objects{"eu": eu, "us": us})
	keys := []string{"in/eu/v1/a/1", "in/eu/v1/b/1", "in/us/v1/c/1", "v1/d/1", "vault"}
	for _, key := range keys {
		if o := mustPut(t, all, key, "bytes of "+key); o.Key != key {
			t.Errorf("put as %s", o.Key)
		}
	}
	mustPut(t, home, "in/eu/v1/a/1", "astray") // means the other store
	for store, want := range map[*Store]string{home: "in/eu/v1/a/1 v1/d/1 vault", eu: "v1/a/1 v1/b/1", us: "v1/c/1"} {
		if got := strings.Join(list(t, store), " "); got != want {
			t.Errorf("a store has %s, not %s", got, want)
		}
	}
	for _, c := range []struct{ prefix, after, want string }{
		{"", "", strings.Join(keys, " ")}, {"v1/", "", "v1/d/1"}, {"in/", "", "in/eu/v1/a/1 in/eu/v1/b/1 in/us/v1/c/1"},
		{"in/eu/v1/b", "", "in/eu/v1/b/1"}, {"in/e", "", "in/eu/v1/a/1 in/eu/v1/b/1"},
		{"", "in/eu/v1/a/1", "in/eu/v1/b/1 in/us/v1/c/1 v1/d/1 vault"}, {"", "in/eu/v1/zz", "in/us/v1/c/1 v1/d/1 vault"},
		{"", "in/v", "v1/d/1 vault"}, {"", "a", strings.Join(keys, " ")}, {"", "v2", "vault"}, {"none", "", ""},
	} {
		var got []string
		for o, err := range all.ListAfter(t.Context(), c.prefix, c.after) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, o.Key)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("prefix %q, after %q: %q, want %q", c.prefix, c.after, got, c.want)
		}
	}
	for _, key := range keys {
		if got := contentOf(t, all, key); got != "bytes of "+key {
			t.Errorf("%s: %q", key, got)
		}
	}
	if err := all.Delete(t.Context(), "in/eu/v1/a/1"); err != nil || slices.Contains(list(t, eu), "v1/a/1") {
		t.Errorf("not deleted: %v", err)
	}
	// A region without a store is an outage, whatever else there is.
	for name, err := range map[string]error{
		"put":    second(all.Put(t.Context(), "in/asia/v1/a", strings.NewReader("x"), 1)),
		"open":   second(all.Open(t.Context(), "in/asia/v1/a", 0, -1, "")),
		"stat":   second(all.Stat(t.Context(), "in/asia/v1/a")),
		"delete": all.Delete(t.Context(), "in/asia/v1/a"),
	} {
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.HintOf(err), "--store asia=") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := storage.RegionsOf(all); !slices.Equal(got, []string{"eu", "us"}) || storage.RegionsOf(home) != nil {
		t.Errorf("regions %q", got)
	}
}

func second[T any](_ T, err error) error { return err }

func TestRegionKeys(t *testing.T) {
	for key, want := range map[string][2]string{"v1/a": {"", "v1/a"}, "in/eu/v1/a": {"eu", "v1/a"}, "in/eu": {"", "in/eu"}, "inner/a": {"", "inner/a"}} {
		region, rest := storage.SplitRegion(key)
		if [2]string{region, rest} != want || storage.RegionKey(region, rest) != key {
			t.Errorf("%s: %q in %q", key, rest, region)
		}
	}
}
