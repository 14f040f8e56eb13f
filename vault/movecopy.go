package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// wanted is an object that the new store has to hold.
type wanted struct {
	storage.StoredObject
	loose bool // what a legal hold keeps of an upload: it has no hash, and may be absent
}

// named calls f with all objects of the region that the catalog names, by pages.
func (m *mover) named(ctx context.Context, f func([]wanted) error) error {
	for _, list := range []func(*catalog.Tx, string) ([]wanted, error){
		func(tx *catalog.Tx, after string) ([]wanted, error) {
			return asWanted(tx.StoredObjects(ctx, after, rowPage))
		},
		func(tx *catalog.Tx, after string) ([]wanted, error) {
			return asWanted(tx.StoredWork(ctx, after, rowPage))
		},
		func(tx *catalog.Tx, after string) ([]wanted, error) {
			return looseObjects(tx.HeldAttempts(ctx, after, rowPage))
		},
	} {
		for after := ""; ; {
			var page, here []wanted
			err := m.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
				page, err = list(tx, after)
				return err
			})
			if err != nil {
				return err
			}
			if len(page) == 0 {
				break
			}
			for _, w := range page {
				if region, _ := storage.SplitRegion(w.Key); region == m.Region {
					here = append(here, w)
				}
				after, _ = storage.ShardKey(w.Key)
			}
			if err := f(here); err != nil {
				return err
			}
		}
	}
	return nil
}

func asWanted(list []storage.StoredObject, err error) ([]wanted, error) {
	out := make([]wanted, len(list))
	for i, o := range list {
		out[i].StoredObject = o
	}
	return out, err
}

func looseObjects(list []storage.Attempt, err error) ([]wanted, error) {
	var out []wanted
	for _, a := range list {
		w := wanted{loose: true}
		w.Key, w.Dataset, w.Number = a.Key, a.Dataset, a.Number
		out = append(out, w)
		if a.Index.Size != 0 {
			w.Key = storage.IndexKey(a.Key)
			out = append(out, w)
		}
	}
	return out, err
}

// copyAll has every named object in the new store, verified and noted, or among
// the damaged.
func (m *mover) copyAll(ctx context.Context) error {
	err := m.named(ctx, func(page []wanted) error {
		var total int64
		for _, w := range page {
			total += w.Size
		}
		m.Expect(total)
		return nil
	})
	if err != nil {
		return err
	}
	return m.named(ctx, func(page []wanted) error {
		for len(page) > 0 {
			n := min(moveBatch, len(page))
			if err := m.copyBatch(ctx, page[:n]); err != nil {
				return err
			}
			page = page[n:]
		}
		return nil
	})
}

// outcome is what became of one object.
type outcome struct {
	object storage.Object // in the new store, by the key that the catalog has
	copied bool
	absent bool   // and may be
	damage string // empty: none
	lost   bool   // the damage is that no store has it
}

func (m *mover) copyBatch(ctx context.Context, batch []wanted) error {
	results := make([]outcome, len(batch))
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(movers)
	for i, w := range batch {
		group.Go(func() (err error) {
			results[i], err = m.move(within, w)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var good []storage.Object
	for i, r := range results {
		w := batch[i]
		switch {
		case r.absent:
		case r.damage != "":
			if err := m.damaged(ctx, w, r); err != nil {
				return err
			}
		default:
			good = append(good, r.object)
			m.done.Objects, m.done.Bytes = m.done.Objects+1, m.done.Bytes+r.object.Size
			if r.copied {
				m.done.Copied++
			}
		}
		m.Progress(w.Size)
	}
	return m.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.StoreMoved(ctx, good...) })
}

func (m *mover) damaged(ctx context.Context, w wanted, r outcome) error {
	m.done.Lost++
	if len(m.done.Damaged) >= maxDamaged {
		return nil
	}
	kind := storage.FoundChanged
	if r.lost {
		kind = storage.FoundMissing
	}
	return m.Catalog.View(ctx, func(tx *catalog.Tx) error {
		d, err := tx.DatasetByID(ctx, w.Dataset)
		m.done.Damaged = append(m.done.Damaged, wire.Finding{Number: len(m.done.Damaged), Kind: string(kind), Key: w.Key,
			Shard: dataset.ShardRef{Dataset: d.Scope, Number: w.Number}.String(), Detail: r.damage})
		return err
	})
}

// move has one object in the new store: the one that an earlier run has put there,
// one with the right bytes, or a copy.
func (m *mover) move(ctx context.Context, w wanted) (outcome, error) {
	_, key := storage.SplitRegion(w.Key)
	if w.loose {
		if there, err := m.lookLoose(ctx, key, &w); err != nil || !there {
			return outcome{absent: true}, err
		}
	}
	o, err := m.To.Stat(ctx, key)
	switch {
	case errors.Is(err, storage.ErrNoObject):
		return m.copy(ctx, key, w)
	case err != nil:
		return outcome{}, err
	case o.Size != w.Size:
		return m.copy(ctx, key, w)
	}
	found := outcome{object: storage.Object{Key: w.Key, ETag: o.ETag, Size: o.Size}}
	noted, err := m.noted(ctx, w.Key)
	if err != nil || noted.ETag == o.ETag && noted.Size == o.Size {
		return found, err
	}
	sum, err := hashObject(ctx, m.To, key, o.ETag, w.PartSize)
	switch {
	case err == nil && bytes.Equal(sum, w.SHA256):
		return found, nil
	case err != nil && fault.Is(err, fault.Canceled), ctx.Err() != nil:
		return outcome{}, err
	}
	return m.copy(ctx, key, w) // if it cannot be read, putting it anew tells more
}

func (m *mover) noted(ctx context.Context, key string) (o storage.Object, err error) {
	err = m.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		o, err = tx.Moved(ctx, key)
		return none(err)
	})
	return o, err
}

// lookLoose makes what the old store has of a loose object what is wanted.
func (m *mover) lookLoose(ctx context.Context, key string, w *wanted) (there bool, err error) {
	o, err := m.From.Stat(ctx, key)
	if errors.Is(err, storage.ErrNoObject) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	w.Size, w.PartSize = o.Size, 0
	w.SHA256, err = hashObject(ctx, m.From, key, o.ETag, 0)
	return err == nil, err
}

// moveTries is how often a copy is begun before it counts as failed.
const moveTries = 3

// copy copies one object and reads it back.
func (m *mover) copy(ctx context.Context, key string, w wanted) (outcome, error) {
	for try := 1; ; try++ {
		source, err := m.From.Stat(ctx, key)
		switch {
		case errors.Is(err, storage.ErrNoObject):
			return outcome{damage: "neither store has it as it was committed", lost: true}, nil
		case err != nil:
			return outcome{}, err
		case source.Size != w.Size:
			return outcome{damage: fmt.Sprintf("it has %d bytes, and should have %d", source.Size, w.Size)}, nil
		}
		o, reader, err := m.put(ctx, key, w)
		if err == nil {
			return m.readBack(ctx, key, w, o)
		}
		if errors.Is(err, errOtherBytes) {
			return outcome{damage: "it has other bytes than were committed"}, nil
		}
		if ctx.Err() != nil || try < moveTries && fault.Is(err, fault.Unavailable) {
			if err := pause(ctx, try); err != nil {
				return outcome{}, err
			}
			continue
		}
		if reader != nil && reader.failed != nil { // the old store answers, but does not give this object
			if _, away := m.From.Stat(ctx, key); away == nil {
				return outcome{damage: "it cannot be read: " + problemOf(reader.failed)}, nil
			}
		}
		return outcome{}, err
	}
}

// put copies one object; the reader is that of the old store.
func (m *mover) put(ctx context.Context, key string, w wanted) (storage.Object, *comparing, error) {
	body, err := m.From.Open(ctx, key, 0, -1, "")
	if err != nil {
		return storage.Object{}, &comparing{failed: err}, err
	}
	defer body.Close()
	r := &comparing{r: body, hash: dataset.SealedHash(w.PartSize), want: w.SHA256, left: w.Size}
	o, err := m.To.Put(ctx, key, r, w.Size)
	return o, r, err
}

func (m *mover) readBack(ctx context.Context, key string, w wanted, o storage.Object) (outcome, error) {
	sum, err := hashObject(ctx, m.To, key, o.ETag, w.PartSize)
	if err != nil {
		return outcome{}, err
	}
	if !bytes.Equal(sum, w.SHA256) {
		return outcome{}, fault.New(fault.Corrupt, "vault.MoveObjects", "the new store gives other bytes back than were put: "+key).
			WithHint("do not use this store")
	}
	return outcome{object: storage.Object{Key: w.Key, ETag: o.ETag, Size: w.Size}, copied: true}, nil
}

// pause waits longer after each try.
func pause(ctx context.Context, try int) error {
	select {
	case <-ctx.Done():
		return contextError(ctx, ctx.Err())
	case <-time.After(time.Duration(try) * 500 * time.Millisecond):
		return nil
	}
}

// errOtherBytes ends the copying of an object that has not the hash it should have.
var errOtherBytes = errors.New("other bytes than were committed")

// comparing hashes what it reads, and fails before its last byte is given if the
// hash is not the one that is wanted: so a damaged object is not copied.
type comparing struct {
	r      io.Reader
	hash   hash.Hash
	want   []byte
	left   int64
	failed error // of r
}

func (c *comparing) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.hash.Write(p[:n])
	c.left -= int64(n)
	if c.left <= 0 && n > 0 && !bytes.Equal(c.hash.Sum(nil), c.want) {
		return 0, errOtherBytes
	}
	if err != nil && err != io.EOF {
		c.failed = err
	}
	return n, err
}

func hashObject(ctx context.Context, objects storage.Objects, key, etag string, partSize int64) ([]byte, error) {
	body, err := objects.Open(ctx, key, 0, -1, etag)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	sum := dataset.SealedHash(partSize)
	if _, err := io.CopyBuffer(sum, body, make([]byte, 256<<10)); err != nil {
		return nil, err
	}
	return sum.Sum(nil), nil
}
