package vault_test

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/wire"
)

// watchedObjects tells of each object that is opened, and counts those that are
// not closed.
type watchedObjects struct {
	storage.Objects
	asked chan string

	mu   sync.Mutex
	open int
}

func (o *watchedObjects) Unwrap() storage.Objects { return o.Objects }

func (o *watchedObjects) Open(ctx context.Context, key string, offset, length int64, etag string) (io.ReadCloser, error) {
	body, err := o.Objects.Open(ctx, key, offset, length, etag)
	if err == nil {
		o.count(+1)
		body = &watchedBody{ReadCloser: body, o: o}
	}
	select {
	case o.asked <- key:
	default:
	}
	return body, err
}

func (o *watchedObjects) count(n int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open += n
	return o.open
}

type watchedBody struct {
	io.ReadCloser
	o    *watchedObjects
	once sync.Once
}

func (b *watchedBody) Close() error {
	b.once.Do(func() { b.o.count(-1) })
	return b.ReadCloser.Close()
}

// TestAhead: storage is asked while the record of the read is committed, by those
// whom the policy allows it and by nobody else; nothing of it is sent before the
// commit, and nothing stays open, whatever becomes of the read.
func TestAhead(t *testing.T) {
	w := newWorld(t)
	objects := &watchedObjects{Objects: w.objects, asked: make(chan string, 1)}
	w.v.Close()
	w.objects = objects
	w.v = must[*vault.Vault](t)(w.open())
	t.Cleanup(func() { w.v.Close() })
	w.setUp()
	ways := []dataset.Delivery{dataset.Opened}
	must[wire.Entry](t)(w.v.UpdateProject(context.Background(), w.as("carol"), w.scope("acme/signs"), wire.ProjectUpdate{Delivery: &ways}))
	const ds = "acme/signs/batch-1"
	ref := dataset.ShardRef{Dataset: w.scope(ds)}
	ctx := context.Background()
	drain := func() {
		select {
		case <-objects.asked:
		default:
		}
	}
	for name, read := range map[string]func(ctx context.Context, c identity.Caller, out io.Writer) error{
		"sealed": func(ctx context.Context, c identity.Caller, out io.Writer) error {
			s, err := w.v.ReadShard(ctx, c, ref, w.ids["carol"], "")
			if err != nil {
				return err
			}
			return s.Send(out, func() {})
		},
		"opened": func(ctx context.Context, c identity.Caller, out io.Writer) error {
			s, err := w.v.Open(ctx, c, vault.Item{Shard: ref}, "", func(c vault.Content) []vault.Span { return []vault.Span{{Start: 0, Length: c.Size}} })
			if err != nil {
				return err
			}
			return s.Send(func(int) (io.Writer, error) { return out, nil }, func() {})
		},
		"closed unsent": func(ctx context.Context, c identity.Caller, out io.Writer) error {
			s, err := w.v.ReadShard(ctx, c, ref, w.ids["carol"], "")
			if err == nil {
				_, err = out.Write([]byte("x"))
				s.Close()
			}
			return err
		},
	} {
		drain()
		carol, stranger := w.as("carol"), w.as("stranger")
		writer := must[*catalog.Tx](t)(w.db.Begin(ctx)) // nothing is recorded meanwhile
		waiting, cancel := context.WithCancel(ctx)
		var got bytes.Buffer
		end := make(chan error, 1)
		go func() { end <- read(waiting, carol, &got) }()
		<-objects.asked
		select {
		case err := <-end:
			t.Errorf("%s: it ended before it was recorded: %v", name, err)
		default:
		}
		writer.Rollback()
		if err := <-end; err != nil || got.Len() == 0 {
			t.Errorf("%s: %d bytes, %v", name, got.Len(), err)
		}
		cancel()
		if n := objects.count(0); n != 0 {
			t.Errorf("%s: %d objects stay open", name, n)
		}

		// One that goes away while it waits.
		drain()
		writer = must[*catalog.Tx](t)(w.db.Begin(ctx))
		waiting, cancel = context.WithCancel(ctx)
		got.Reset()
		go func() { end <- read(waiting, carol, &got) }()
		<-objects.asked
		cancel()
		writer.Rollback()
		if err := <-end; err == nil && name != "closed unsent" {
			t.Errorf("%s: it was sent to nobody", name)
		}
		if n := objects.count(0); n != 0 {
			t.Errorf("%s, gone: %d objects stay open", name, n)
		}

		drain()
		wantCode(t, read(ctx, stranger, io.Discard), fault.NotFound)
		select {
		case key := <-objects.asked:
			t.Errorf("%s: %s was asked for on behalf of a stranger", name, key)
		default:
		}
	}
}
