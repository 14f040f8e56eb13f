package storage

import (
	"context"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"dsvault/vault/fault"
)

// RegionKeys begins the keys of objects in the store of a region that has a
// name: in/REGION/KEY. In that store the object's key is KEY.
const RegionKeys = "in/"

// RegionKey is a key in the store of a region; the empty region is the store
// without a name.
func RegionKey(region, key string) string {
	if region == "" {
		return key
	}
	return RegionKeys + region + "/" + key
}

// SplitRegion is the reverse of RegionKey.
func SplitRegion(key string) (region, rest string) {
	inside, ok := strings.CutPrefix(key, RegionKeys)
	if !ok {
		return "", key
	}
	region, rest, ok = strings.Cut(inside, "/")
	if !ok {
		return "", key
	}
	return region, rest
}

// Regions is several object stores as one: a store without a name, and one for
// each region that has one. The key says in which store an object is.
type Regions struct {
	home  Objects
	named map[string]Objects
}

// NewRegions joins stores.
func NewRegions(home Objects, named map[string]Objects) *Regions {
	return &Regions{home: home, named: maps.Clone(named)}
}

// Names lists the regions that have a store of their own, sorted.
func (r *Regions) Names() []string { return slices.Sorted(maps.Keys(r.named)) }

// at finds the store of a key, and the key in it. An unknown region has none: its
// objects are never looked for, or put, anywhere else.
func (r *Regions) at(op, key string) (Objects, string, error) {
	region, rest := SplitRegion(key)
	if region == "" {
		return r.home, key, nil
	}
	if store, ok := r.named[region]; ok {
		return store, rest, nil
	}
	return nil, "", fault.New(fault.Unavailable, op, "there is no object store for the region "+region).
		WithHint("the operator has to name it: serve --store " + region + "=…")
}

// Put implements Objects.
func (r *Regions) Put(ctx context.Context, key string, body io.Reader, size int64) (Object, error) {
	store, at, err := r.at("storage.Put", key)
	if err != nil {
		return Object{}, err
	}
	o, err := store.Put(ctx, at, body, size)
	o.Key = key
	return o, err
}

func (r *Regions) putHashed(ctx context.Context, key string, body io.Reader, size int64) (Object, [32]byte, error) {
	store, at, err := r.at("storage.PutHashed", key)
	if err != nil {
		return Object{}, [32]byte{}, err
	}
	o, sum, err := PutHashed(ctx, store, at, body, size)
	o.Key = key
	return o, sum, err
}

// Open implements Objects.
func (r *Regions) Open(ctx context.Context, key string, offset, length int64, etag string) (io.ReadCloser, error) {
	store, at, err := r.at("storage.Open", key)
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, at, offset, length, etag)
}

// Stat implements Objects.
func (r *Regions) Stat(ctx context.Context, key string) (Object, error) {
	store, at, err := r.at("storage.Stat", key)
	if err != nil {
		return Object{}, err
	}
	o, err := store.Stat(ctx, at)
	o.Key = key
	return o, err
}

// Delete implements Objects.
func (r *Regions) Delete(ctx context.Context, key string) error {
	store, at, err := r.at("storage.Delete", key)
	if err != nil {
		return err
	}
	return store.Delete(ctx, at)
}

// List implements Objects.
func (r *Regions) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return r.ListAfter(ctx, prefix, "")
}

// ListAfter implements Pager: the lists of all stores that may have such keys, in
// one order.
func (r *Regions) ListAfter(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		lists := []*ahead{newAhead(ListAfter(ctx, r.home, prefix, after), "")}
		for _, name := range r.Names() {
			of := RegionKey(name, "")
			within, begins := strings.CutPrefix(prefix, of)
			if !begins && !strings.HasPrefix(of, prefix) {
				continue
			}
			if !begins {
				within = "" // all of its keys begin so
			}
			from, reached := strings.CutPrefix(after, of)
			switch {
			case !reached && after > of:
				continue // all of its keys come before that
			case !reached:
				from = ""
			}
			lists = append(lists, newAhead(ListAfter(ctx, r.named[name], within, from), of))
		}
		defer func() {
			for _, l := range lists {
				l.stop()
			}
		}()
		for {
			var first *ahead
			for _, l := range lists {
				if err := l.fill(); err != nil {
					yield(Object{}, err)
					return
				}
				if l.has && (first == nil || l.object.Key < first.object.Key) {
					first = l
				}
			}
			if first == nil || !yield(first.object, nil) {
				return
			}
			first.has = false
		}
	}
}

// ahead looks one object ahead in the list of one store.
type ahead struct {
	next   func() (Object, error, bool)
	stop   func()
	of     string // what the keys of this store begin with
	object Object
	has    bool
	ended  bool
}

func newAhead(list iter.Seq2[Object, error], of string) *ahead {
	a := &ahead{of: of}
	a.next, a.stop = iter.Pull2(list)
	return a
}

func (a *ahead) fill() error {
	if a.has || a.ended {
		return nil
	}
	for {
		o, err, ok := a.next()
		if err != nil {
			return err
		}
		a.object, a.has, a.ended = o, ok, !ok
		if region, _ := SplitRegion(o.Key); ok && a.of == "" && region != "" {
			continue // such a key means another store
		}
		a.object.Key = a.of + o.Key
		return nil
	}
}

// Sweep implements Sweeper, for the stores that have something to sweep.
func (r *Regions) Sweep(ctx context.Context, cutoff time.Time) (int, error) {
	total := 0
	for _, store := range append([]Objects{r.home}, slices.Collect(maps.Values(r.named))...) {
		s, ok := Power[Sweeper](store)
		if !ok {
			continue
		}
		n, err := s.Sweep(ctx, cutoff)
		if total += n; err != nil {
			return total, err
		}
	}
	return total, nil
}

// RegionsOf lists the regions that have a store of their own in objects.
func RegionsOf(objects Objects) []string {
	if r, ok := Power[*Regions](objects); ok {
		return r.Names()
	}
	return nil
}

// StoreOf is the store that a key is in, to ask for its powers; it knows the key
// by the name that it has there.
func StoreOf(objects Objects, key string) Objects {
	if r, ok := Power[*Regions](objects); ok {
		if store, _, err := r.at("storage.StoreOf", key); err == nil {
			return store
		}
	}
	return objects
}

// DirectAt finds the optional power Direct of the store that a key is in.
func DirectAt(objects Objects, key string) (Direct, bool) {
	r, ok := Power[*Regions](objects)
	if !ok {
		return Power[Direct](objects)
	}
	store, at, err := r.at("storage.DirectAt", key)
	if err != nil {
		return nil, false
	}
	d, ok := Power[Direct](store)
	if !ok || at == key {
		return d, ok
	}
	return regionDirect{d}, true
}

// AnyDirect reports whether some store of objects has the optional power Direct.
func AnyDirect(objects Objects) bool {
	for _, region := range append([]string{""}, RegionsOf(objects)...) {
		if _, ok := DirectAt(objects, RegionKey(region, "any")); ok {
			return true
		}
	}
	return false
}

// regionDirect is the Direct of a region's store, by keys with their region.
type regionDirect struct{ direct Direct }

func inside(key string) string {
	_, rest := SplitRegion(key)
	return rest
}

func (d regionDirect) StartParts(ctx context.Context, key string) (string, error) {
	return d.direct.StartParts(ctx, inside(key))
}

func (d regionDirect) PresignPart(ctx context.Context, key, upload string, n int, sum [32]byte) (Presigned, error) {
	return d.direct.PresignPart(ctx, inside(key), upload, n, sum)
}

func (d regionDirect) FinishParts(ctx context.Context, key, upload string, parts []Part) (Object, error) {
	o, err := d.direct.FinishParts(ctx, inside(key), upload, parts)
	o.Key = key
	return o, err
}

func (d regionDirect) AbortParts(ctx context.Context, key, upload string) error {
	return d.direct.AbortParts(ctx, inside(key), upload)
}

func (d regionDirect) PresignObject(ctx context.Context, key string) (Presigned, error) {
	return d.direct.PresignObject(ctx, inside(key))
}
