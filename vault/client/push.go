package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/pack"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// Progress hears how far a push or a pull is. It is called from several
// goroutines.
type Progress interface {
	// Expect says how many more bytes there will be; negative for fewer.
	Expect(bytes int64)
	// Done says how many bytes more are through; negative when a shard starts
	// again.
	Done(bytes int64)
}

type noProgress struct{}

func (noProgress) Expect(int64) {}
func (noProgress) Done(int64)   {}

// shardRetries is how often a shard is sent or fetched again.
const shardRetries = 2

// PushOptions says how to push. The zero value is fine.
type PushOptions struct {
	ShardSize   int64    // plaintext bytes of a shard; 0 means pack.DefaultShardSize
	Format      string   // how to cut, a pack.Format; "" means by looking
	Records     int      // samples, records or rows of a shard at most; 0 means no limit
	Field       string   // one shard for each value of this field of JSONL or CSV
	Parallel    int      // shards at a time; 0 means 2
	Recut       bool     // cut a folder anew, not where the newest version was cut
	Direct      bool     // put the sealed bytes straight into the vault's object store
	SkipSpecial bool     // leave out links, devices, sockets and FIFOs
	Progress    Progress // may be nil
	Skipped     func(path, why string)
}

// Pushed says what a push did.
type Pushed struct {
	Dataset wire.Dataset `json:"dataset"`
	Shards  int          `json:"shards"`  // of the dataset
	Files   int          `json:"files"`   // regular files in it
	Changed bool         `json:"changed"` // a version was made
	Sent    int          `json:"sent"`    // shards that were sent now
	Bytes   int64        `json:"bytes"`   // plaintext of these
}

// Push uploads a folder or a file as a dataset, which it creates if need be, or
// as the next version of one. Every byte is sealed to the dataset's key before
// it leaves this machine. Only shards that the dataset does not have are sent,
// whether it is the run after an interruption or another version; unchanged data
// changes nothing. Of two pushes to one dataset the one that began last goes on,
// the other is a Conflict.
func (c *Client) Push(ctx context.Context, path string, scope dataset.Scope, opts PushOptions) (Pushed, error) {
	const op = "client.Push"
	var out Pushed
	if scope.Depth() != 3 {
		return out, notADataset(op, scope)
	}
	plan, err := pack.NewPlan(ctx, path, pack.Options{
		ShardSize: opts.ShardSize, Format: pack.Format(opts.Format), Records: opts.Records, Field: opts.Field,
		SkipSpecial: opts.SkipSpecial, Skipped: opts.Skipped,
	})
	if err != nil {
		return out, err
	}
	if out.Dataset, err = c.CreateDataset(ctx, scope); err != nil {
		return out, err
	}
	p := &pusher{c: c, scope: scope, first: plan, recut: opts.Recut, salt: out.Dataset.Salt, progress: opts.Progress,
		direct: opts.Direct, parts: newPartBuffers(parallel(opts.Parallel))}
	if p.progress == nil {
		p.progress = noProgress{}
	}
	if p.to, err = seal.ParseRecipient(out.Dataset.Recipient); err != nil {
		return out, err
	}
	if out.Dataset.Complete {
		if err := p.look(ctx); err != nil {
			return out, err
		}
		if len(p.missing) == 0 && p.list().Equal(p.newest) {
			out.Shards, out.Files = p.plan.Shards(), p.plan.Files()
			return out, nil
		}
	}
	push, err := c.BeginPush(ctx, scope)
	if err != nil {
		return out, err
	}
	p.push = push.Push
	// From here on nobody else changes what there is; what was seen before may
	// have gone.
	if err := p.look(ctx); err != nil {
		return out, err
	}
	out.Shards, out.Files = p.plan.Shards(), p.plan.Files()
	if err := p.send(ctx, parallel(opts.Parallel)); err != nil {
		return out, err
	}
	for _, n := range p.missing {
		out.Sent++
		out.Bytes += p.plan.Size(n)
	}
	if out.Dataset, err = c.Complete(ctx, scope, wire.Complete{Shards: p.list(), Push: p.push}); err != nil {
		return out, err
	}
	out.Changed = true
	return out, p.verify(ctx)
}

func parallel(n int) int {
	if n <= 0 {
		return 2
	}
	return min(n, 16)
}

func notADataset(op string, scope dataset.Scope) error {
	return fault.New(fault.Invalid, op, scope.String()+" is not a dataset").
		WithHint("name it CLIENT/PROJECT/DATASET, for example acme/signs/batch-1")
}

// shard sends one shard, from its first byte again if the connection fails:
// each try has its own file key.
func (p *pusher) shard(ctx context.Context, n int) error {
	return p.c.retry(ctx, shardRetries, func(ctx context.Context) error { return p.attempt(ctx, n) })
}

func (p *pusher) attempt(ctx context.Context, n int) error {
	fingerprint := p.plan.Fingerprint(n, p.salt)
	var up wire.Upload
	ref := dataset.ShardRef{Dataset: p.scope, Number: p.numbers[n]}
	err := p.c.post(ctx, "client.Push", shardPath(ref)+"/uploads",
		wire.NewUpload{Fingerprint: fingerprint[:], Size: p.plan.Size(n), Push: p.push, Start: p.plan.Start(n, p.salt)}, &up)
	if err != nil {
		return err
	}
	path := datasetPath(p.scope) + "/uploads/" + up.Attempt.String()
	if up.PartSize != 0 && up.PartSize != dataset.PartSize {
		return partsDiffer()
	}
	send := p.sendWhole
	if p.direct {
		send = p.sendParts
	}
	sent, err := send(ctx, path, n, up.PartSize)
	if err == nil {
		err = p.commit(ctx, path, p.plan.Numbered(sent.manifest, p.numbers[n]), sent.members, sent.sum)
	}
	if err == nil {
		p.sums[n] = sent.sum
	}
	if err != nil {
		p.progress.Done(-sent.reported)
	}
	return err
}

// sendWhole seals shard n and sends it to the server, in one request.
func (p *pusher) sendWhole(ctx context.Context, path string, n int, partSize int64) (sentShard, error) {
	body := p.seal(ctx, n, dataset.SealedHash(partSize))
	var stored wire.Stored
	err := p.c.call(ctx, request{op: "client.Push", method: http.MethodPut, path: path,
		body: body, size: seal.SealedSize(p.plan.Size(n))}, &stored)
	sum, sealErr := body.finish()
	switch {
	case sealErr != nil && !errors.Is(sealErr, errStopped): // the cause, not what the connection made of it
		err = sealErr
	case err == nil && sealErr != nil:
		err = fault.New(fault.Unavailable, "client.Push", "the server answered before it had the whole shard")
	case err == nil:
		err = sameSum(stored, sum)
	}
	return sentShard{body.manifest, body.members, sum, body.reported}, err
}

func sameSum(stored wire.Stored, sum []byte) error {
	if bytes.Equal(stored.SHA256, sum) {
		return nil
	}
	return fault.New(fault.Unavailable, "client.Push", "the server has other bytes than were sent").WithHint("try again")
}

// commit sends the shard's index and commits it with its manifest.
func (p *pusher) commit(ctx context.Context, path string, manifest dataset.Manifest, members []dataset.Member, sum []byte) error {
	const op = "client.Push"
	plain, err := manifest.Encode()
	if err != nil {
		return err
	}
	req := wire.Commit{SHA256: sum}
	if req.Manifest, err = seal.SealBytes(plain, p.to); err != nil {
		return err
	}
	if plain, err = pack.EncodeIndex(manifest, members); err != nil {
		return err
	}
	index, err := seal.SealBytes(plain, p.to)
	if err != nil {
		return err
	}
	indexSum := sha256.Sum256(index)
	req.Index = indexSum[:]
	var stored wire.Stored
	err = p.c.call(ctx, request{op: op, method: http.MethodPut, path: path + "/index",
		body: io.NopCloser(bytes.NewReader(index)), size: int64(len(index))}, &stored)
	if err != nil {
		return err
	}
	if !bytes.Equal(stored.SHA256, req.Index) {
		return fault.New(fault.Unavailable, op, "the server has another index than was sent").WithHint("try again")
	}
	var shard wire.Shard
	return p.c.post(ctx, op, path+"/commit", req, &shard)
}

// errStopped ends the sealing of a shard whose request has failed.
var errStopped = errors.New("client: the request ended")

// sealedBody is the body of an upload: one shard, sealed while it is read. One
// goroutine writes into the pipe; finish waits for it.
type sealedBody struct {
	*io.PipeReader
	done chan struct{}
	hash hash.Hash

	// Owned by the writing goroutine until done is closed.
	manifest dataset.Manifest
	members  []dataset.Member
	err      error
	reported int64
}

func (p *pusher) seal(ctx context.Context, n int, sealed hash.Hash) *sealedBody {
	pr, pw := io.Pipe()
	b := &sealedBody{PipeReader: pr, done: make(chan struct{}), hash: sealed}
	go func() {
		defer close(b.done)
		b.err = b.run(ctx, p, n, pw)
		pw.CloseWithError(b.err)
	}()
	return b
}

func (b *sealedBody) run(ctx context.Context, p *pusher, n int, pw *io.PipeWriter) error {
	w, err := seal.Seal(io.MultiWriter(pw, b.hash), p.to)
	if err != nil {
		return err
	}
	if b.manifest, b.members, err = p.plan.Write(ctx, n, countingWriter{w, p.progress, &b.reported}); err != nil {
		return err
	}
	return w.Close()
}

// Close tells the writing goroutine that nobody reads on.
func (b *sealedBody) Close() error { return b.CloseWithError(errStopped) }

// finish ends the sealing, also of a body that was not read to its end.
// Then its fields are the caller's.
func (b *sealedBody) finish() (sum []byte, err error) {
	b.Close()
	<-b.done
	return b.hash.Sum(nil), b.err
}

// countingWriter counts the plaintext for the progress.
type countingWriter struct {
	w        io.Writer
	progress Progress
	reported *int64
}

func (c countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	*c.reported += int64(n)
	c.progress.Done(int64(n))
	return n, err
}
