package client

import (
	"context"
	"crypto/sha256"
	"net/http"

	"golang.org/x/sync/errgroup"

	"dsvault/vault/dataset"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// partBuffers is all the memory for parts that a push has: whoever seals waits
// for one, and the part's sender gives it back.
type partBuffers chan []byte

// newPartBuffers has one for each shard that is sealed at the same time, and
// some on their way. They are made when they are first needed.
func newPartBuffers(parallel int) partBuffers {
	b := make(partBuffers, 2*parallel+2)
	for range cap(b) {
		b <- nil
	}
	return b
}

func (b partBuffers) get(ctx context.Context) ([]byte, error) {
	select {
	case buf := <-b:
		if buf == nil {
			buf = make([]byte, 0, dataset.PartSize)
		}
		return buf[:0], nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (b partBuffers) put(buf []byte) { b <- buf }

// sentShard is what an attempt has sent.
type sentShard struct {
	manifest dataset.Manifest
	members  []dataset.Member
	sum      []byte // as the server records it
	reported int64  // bytes, to the progress
}

// sendParts seals shard n and puts it into the object store, part by part.
func (p *pusher) sendParts(ctx context.Context, path string, n int, _ int64) (sentShard, error) {
	const op = "client.Push"
	var out sentShard
	var up wire.DirectUpload
	err := p.c.call(ctx, request{op: op, method: http.MethodPost, path: path + "/direct"}, &up)
	if err == nil {
		err = checkUpload(up, seal.SealedSize(p.plan.Size(n)))
	}
	if err != nil {
		return out, err
	}
	sending, stop := context.WithCancel(ctx)
	defer stop()
	group, groupCtx := errgroup.WithContext(sending)
	parts := &partWriter{p: p, ctx: groupCtx, path: path, group: group, sums: make([][sha256.Size]byte, up.Parts)}
	w, err := seal.Seal(parts, p.to)
	if err == nil {
		out.manifest, out.members, err = p.plan.Write(groupCtx, n, countingWriter{w, p.progress, &out.reported})
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = parts.flush()
	}
	because := groupCtx.Err() != nil // a part could not be sent, which ended the sealing
	if err != nil {
		stop()
	}
	if failed := group.Wait(); failed != nil && (err == nil || because) {
		err = failed
	}
	parts.release()
	if err != nil {
		return out, err
	}
	sum := dataset.PartsSum(parts.sums)
	out.sum = sum[:]
	var stored wire.Stored
	err = p.c.call(ctx, request{op: op, method: http.MethodPost, path: path + "/joined"}, &stored)
	if err == nil {
		err = sameSum(stored, out.sum)
	}
	return out, err
}

// partWriter cuts what is written to it into parts, and has each sent while the
// next one fills.
type partWriter struct {
	p     *pusher
	ctx   context.Context
	path  string
	group *errgroup.Group
	buf   []byte // nil: none yet
	n     int    // parts that are on their way, or there
	sums  [][sha256.Size]byte
}

func (w *partWriter) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		if w.buf == nil {
			var err error
			if w.buf, err = w.p.parts.get(w.ctx); err != nil {
				return len(b) - len(rest), err
			}
		}
		room := min(len(rest), cap(w.buf)-len(w.buf))
		w.buf, rest = append(w.buf, rest[:room]...), rest[room:]
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return len(b) - len(rest), err
			}
		}
	}
	return len(b), nil
}

// flush sends the part that is in the buffer, if there is one.
func (w *partWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if w.n == len(w.sums) {
		return errParts // the plan's size is not what was written; Write says so
	}
	buf, i := w.buf, w.n
	w.buf, w.n = nil, w.n+1
	w.group.Go(func() error {
		defer w.p.parts.put(buf)
		w.sums[i] = sha256.Sum256(buf)
		return w.p.putPart(w.ctx, w.path, i+1, buf, w.sums[i])
	})
	return nil
}

// release gives a buffer back that was not sent.
func (w *partWriter) release() {
	if w.buf != nil {
		w.p.parts.put(w.buf)
		w.buf = nil
	}
}
