package storage

import "context"

// Stored counts all that a store keeps below a prefix.
type Stored struct {
	Objects  int64 // that List shows
	Versions int64 // of objects, the present ones included
	Markers  int64 // delete markers
	Uploads  int64 // unfinished uploads
	Bytes    int64 // of all versions
}

// Empty reports whether nothing is stored.
func (s Stored) Empty() bool { return s == Stored{} }

// Add gives the sum.
func (s Stored) Add(t Stored) Stored {
	return Stored{s.Objects + t.Objects, s.Versions + t.Versions, s.Markers + t.Markers, s.Uploads + t.Uploads, s.Bytes + t.Bytes}
}

// Purger is an optional power of an object store that keeps more than List shows:
// older versions, delete markers, unfinished uploads.
type Purger interface {
	// Remains counts what is stored under keys that begin with prefix.
	Remains(ctx context.Context, prefix string) (Stored, error)

	// Purge removes all of it. What the server does not let go, such as a
	// version under a lock, is fault.Unavailable.
	Purge(ctx context.Context, prefix string) error
}

// Remains counts all that objects keeps under keys that begin with prefix, which
// names at least the region of the store.
func Remains(ctx context.Context, objects Objects, prefix string) (Stored, error) {
	store, at, err := storeAt("storage.Remains", objects, prefix)
	if err != nil {
		return Stored{}, err
	}
	if p, ok := Power[Purger](store); ok {
		return p.Remains(ctx, at)
	}
	var s Stored
	for o, err := range store.List(ctx, at) {
		if err != nil {
			return s, err
		}
		s.Objects, s.Versions, s.Bytes = s.Objects+1, s.Versions+1, s.Bytes+o.Size
	}
	return s, nil
}

// Purge removes all that Remains counts.
func Purge(ctx context.Context, objects Objects, prefix string) error {
	store, at, err := storeAt("storage.Purge", objects, prefix)
	if err != nil {
		return err
	}
	if p, ok := Power[Purger](store); ok {
		return p.Purge(ctx, at)
	}
	for o, err := range store.List(ctx, at) {
		if err != nil {
			return err
		}
		if err := store.Delete(ctx, o.Key); err != nil {
			return err
		}
	}
	return nil
}

// storeAt finds the store of a key, and the key in it.
func storeAt(op string, objects Objects, key string) (Objects, string, error) {
	if r, ok := Power[*Regions](objects); ok {
		return r.at(op, key)
	}
	return objects, key, nil
}
