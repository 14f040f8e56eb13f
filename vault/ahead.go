package vault

import (
	"context"
	"io"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/vault/fault"
	"dsvault/vault/trace"
)

// ahead is a request to the object store that is made while the read is being
// recorded. What it gives is sealed: no key opens it, and nothing of it is sent,
// before the record is durable and there is a permit.
type ahead struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when body and err are there
	body   io.ReadCloser
	err    error
}

// fetchAhead asks for a piece of an object if q is allowed as far as this node
// knows; else it gives nil. The ledger decides again, and records it.
func (v *Vault) fetchAhead(ctx context.Context, q rbac.Query, o storage.Object, from, size int64) *ahead {
	if may, err := v.allowed(ctx, q); err != nil || !may {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.body, a.err = v.openObject(ctx, o, from, size)
	}()
	return a
}

// admitted ties the request to a read: it ends when the read does. Without a read
// it ends now.
func (a *ahead) admitted(r *reading, err error) {
	switch {
	case a == nil:
	case err != nil:
		a.drop()
	default:
		r.ahead = a
	}
}

// drop ends a request that nobody wants any more.
func (a *ahead) drop() {
	if a == nil {
		return
	}
	a.cancel()
	<-a.done // it was canceled: it does not take long
	if a.err == nil {
		a.body.Close()
	}
}

// open gives the piece of the object, from the request that was made ahead if there
// is one. It is called once with what that was for, before any other.
func (r *reading) open(o storage.Object, from, size int64) (io.ReadCloser, error) {
	a := r.ahead
	if a == nil {
		return r.v.openObject(r.ctx, o, from, size)
	}
	r.ahead = nil
	context.AfterFunc(r.ctx, a.cancel) // the read always ends
	select {
	case <-a.done:
	case <-r.ctx.Done():
		a.drop()
		return nil, fault.Wrap(fault.Canceled, "vault.open", "the read has ended", r.ctx.Err())
	}
	return a.body, a.err
}

// openObject asks the object store for a piece of an object.
func (v *Vault) openObject(ctx context.Context, o storage.Object, from, size int64) (io.ReadCloser, error) {
	within, span := trace.Start(ctx, "storage open")
	body, err := v.objects.Open(within, o.Key, from, size, o.ETag)
	span.Set("dsvault.bytes", size)
	span.End(err)
	if err != nil || !trace.On(ctx) {
		return body, err
	}
	return &firstByte{ReadCloser: body, ctx: ctx}, nil
}

// firstByte is a span for the first Read.
type firstByte struct {
	io.ReadCloser
	ctx  context.Context
	seen bool
}

func (f *firstByte) Read(b []byte) (int, error) {
	if f.seen {
		return f.ReadCloser.Read(b)
	}
	f.seen = true
	_, span := trace.Start(f.ctx, "storage first byte")
	n, err := f.ReadCloser.Read(b)
	if err == io.EOF {
		span.End(nil)
	} else {
		span.End(err)
	}
	return n, err
}
