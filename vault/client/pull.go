package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/pack"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// PullOptions says what to pull and where to.
type PullOptions struct {
	Dir       string   // made if need be; "" means the working folder
	Shard     *int     // only this shard; nil means all that one may read
	Version   int      // of the dataset; 0 means the newest, or what is assigned
	Sealed    bool     // keep the shards sealed, as DATASET-0003.age
	Purpose   string   // what the data is for; "" leaves it to the project
	Overwrite bool     // replace files that differ
	Parallel  int      // shards at a time; 0 means 2
	Direct    bool     // fetch the sealed bytes straight from the vault's object store
	Progress  Progress // may be nil

	// Receipts is the folder that the log's receipt for each read is kept in, as
	// DATASET-0003.INDEX.json; NoReceipts keeps none. "" is the folder beside
	// Dir whose name is Dir's with ".receipts", so that Dir holds the data only.
	Receipts string
	Pin      LogPin // of the log, to check the receipts with
}

// Pulled says what a pull brought.
type Pulled struct {
	Dataset dataset.Scope `json:"dataset"`
	Dir     string        `json:"dir"`
	Shards  []PulledShard `json:"shards"` // by number
	Files   int           `json:"files"`
	Bytes   int64         `json:"bytes"`             // plaintext
	Missing int           `json:"missing,omitempty"` // parts that the file in Dir still lacks
}

// PulledShard is one shard of it.
type PulledShard struct {
	Number  int             `json:"number"`
	Packing dataset.Packing `json:"packing"`
	Name    string          `json:"name,omitempty"` // what now lies in the folder, unless it was a tar
	Files   int             `json:"files"`
	Same    int             `json:"same,omitempty"` // of these, there already
	Bytes   int64           `json:"bytes"`
	Missing int             `json:"missing,omitempty"` // parts that the file still lacks
	Leaf    string          `json:"leaf,omitempty"`    // INDEX:HASH of this read in the log
	Receipt string          `json:"receipt,omitempty"` // file with the log's receipt for it
}

// Pull fetches shards sealed to this device, opens them here and checks them
// against their sealed manifests. Nothing appears under its final name before
// that. Each shard is a read of its own in the log.
//
// Without Shard it fetches what the caller may read: for labelers and
// contractors what is assigned to them, of whichever version, otherwise the
// newest version.
func (c *Client) Pull(ctx context.Context, scope dataset.Scope, opts PullOptions) (Pulled, error) {
	const op = "client.Pull"
	if opts.Dir == "" {
		opts.Dir = "."
	}
	if opts.Progress == nil {
		opts.Progress = noProgress{}
	}
	out := Pulled{Dataset: scope, Dir: opts.Dir, Shards: []PulledShard{}}
	if scope.Depth() != 3 {
		return out, notADataset(op, scope)
	}
	if c.device == nil || c.deviceID.IsZero() {
		return out, fault.New(fault.Invalid, op, "this machine has no device key").WithHint("run `dsvault login URL` first")
	}
	numbers, apart, total, err := c.readable(ctx, scope, opts)
	if err != nil {
		return out, err
	}
	opts.Progress.Expect(total)
	if err := os.MkdirAll(opts.Dir, 0o777); err != nil {
		return out, pack.DiskFault(op, "cannot make the folder "+opts.Dir, err)
	}
	receipts, err := receiptFolder(opts.Dir, opts.Receipts)
	if err != nil {
		return out, fault.Wrap(fault.Invalid, op, "cannot make the folder for the receipts", err).
			WithHint("--receipts names another folder, --receipts none goes without")
	}
	out.Shards = make([]PulledShard, len(numbers))
	var assembly *pack.Assembly // of all that comes now
	if opts.Shard == nil && !opts.Sealed {
		assembly = pack.NewAssembly(opts.Dir)
	}
	turns := newTurns()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallel(opts.Parallel))
	for i, n := range numbers {
		if groupCtx.Err() != nil {
			break
		}
		earlier, end := turns.next()
		group.Go(func() error {
			defer end()
			p := puller{c: c, ref: dataset.ShardRef{Dataset: scope, Number: n}, opts: opts, apart: apart, receipts: receipts, pin: opts.Pin, assembly: assembly, earlier: earlier, planned: total > 0}
			err := c.retry(groupCtx, shardRetries, p.run)
			out.Shards[i] = p.out
			return err
		})
	}
	err = group.Wait()
	if assembly != nil {
		err = cmp.Or(err, assembly.Close(ctx))
	}
	if err != nil {
		return out, err
	}
	if err := ctx.Err(); err != nil {
		return out, contextFault(ctx, op, err)
	}
	out.count()
	return out, nil
}

// count sums up the shards. Parts are a file once all of them are there.
func (p *Pulled) count() {
	whole := make(map[string]bool)
	for _, s := range p.Shards {
		p.Bytes += s.Bytes
		switch {
		case s.Packing == dataset.PackTar || s.Packing == dataset.PackFile:
			p.Files += s.Files
		case s.Missing == 0 && s.Name != "" && !whole[s.Name]:
			whole[s.Name] = true
			p.Files++
		}
	}
	for _, s := range p.Shards {
		if s.Missing > 0 && len(whole) == 0 && (p.Missing == 0 || s.Missing < p.Missing) {
			p.Missing = s.Missing
		}
	}
}

// readable gives the numbers of the shards that the caller is to read, and
// whether slices of a file are wanted apart: by somebody who works on some of
// them. Others get the whole file back. total is how many sealed bytes that will
// be; 0: that is not known beforehand.
func (c *Client) readable(ctx context.Context, scope dataset.Scope, opts PullOptions) (numbers []int, apart bool, total int64, err error) {
	if opts.Shard != nil {
		return []int{*opts.Shard}, true, 0, nil
	}
	me, err := c.Whoami(ctx)
	if err != nil {
		return nil, false, 0, err
	}
	annotates := slices.ContainsFunc(me.Grants, func(g wire.Grant) bool {
		return (g.Role == dataset.Labeler || g.Role == dataset.Contractor) && g.Scope.Contains(scope)
	})
	if annotates && opts.Version == 0 {
		var set dataset.ShardSet
		for a, err := range c.Assignments(ctx, scope, "me") {
			if err != nil {
				return nil, false, 0, err
			}
			set = set.Union(a.Shards)
		}
		if len(set) > 0 {
			return slices.Collect(set.All()), true, 0, nil
		}
	}
	version, err := c.Version(ctx, scope, opts.Version)
	switch {
	case err == nil:
		numbers, total = slices.Collect(version.Shards.All()), version.Sealed
	case !fault.Is(err, fault.NotFound) || opts.Version > 0:
		return nil, false, 0, err
	default: // there is none yet: then what has arrived
		for s, err := range c.Shards(ctx, scope) {
			if err != nil {
				return nil, false, 0, err
			}
			numbers, total = append(numbers, s.Number), total+s.Sealed
		}
	}
	if len(numbers) == 0 {
		return nil, false, 0, fault.New(fault.NotFound, "client.Pull", scope.String()+" has no shards yet")
	}
	return numbers, annotates, total, nil
}

// puller fetches one shard.
type puller struct {
	c        *Client
	ref      dataset.ShardRef
	path     string // of the request; "" is the shard's
	opts     PullOptions
	apart    bool // slices stay files of their own
	assembly *pack.Assembly
	earlier  <-chan struct{} // closed when the shards before this one are done

	receipts   string // folder; "": none are kept
	target     string // file for what is kept sealed; "": by the shard's name
	manifestTo string // file that a sealed shard's manifest is kept in; "": none
	pin        LogPin

	out PulledShard

	planned        bool  // the progress knows already how much comes
	expected, done int64 // as reported to the progress
}

// count counts sealed bytes for the progress.
func (p *puller) count(r io.Reader) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		n, err := r.Read(b)
		p.done += int64(n)
		p.opts.Progress.Done(int64(n))
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func (p *puller) run(ctx context.Context) (err error) {
	const op = "client.Pull"
	defer func() {
		if err != nil {
			p.opts.Progress.Done(-p.done)
			p.opts.Progress.Expect(-p.expected)
			p.done, p.expected = 0, 0
		}
	}()
	target := cmp.Or(p.target, filepath.Join(p.opts.Dir, fmt.Sprintf("%s-%04d.age", p.ref.Dataset.Base(), p.ref.Number)))
	if p.opts.Sealed && !p.opts.Overwrite {
		// Before the request: a read that cannot be kept should not be made.
		if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.Conflict, op, target+" is there already", err).
				WithHint("remove it, choose another folder with -o, or say --overwrite")
		}
	}
	header := http.Header{wire.HeaderDevice: {p.c.deviceID.String()}}
	if p.opts.Purpose != "" {
		header.Set(wire.HeaderPurpose, p.opts.Purpose)
	}
	open := p.openSealed
	if p.opts.Direct {
		open = p.openDirect
	}
	shard, err := open(ctx, header)
	if err != nil {
		return err
	}
	defer shard.Close()
	manifest, err := p.manifest(shard)
	if err != nil {
		return err
	}
	if !p.planned {
		p.expected = shard.size
		p.opts.Progress.Expect(p.expected)
	}
	p.out = PulledShard{Number: p.ref.Number, Packing: manifest.Packing, Leaf: shard.leaf, Receipt: shard.receipt}
	if p.opts.Sealed {
		if p.manifestTo != "" { // before the shard, whose name says that both are there
			if err := writeFile(p.manifestTo, shard.manifest); err != nil {
				return err
			}
		}
		return p.keep(ctx, p.count(shard), shard.size, manifest, target)
	}
	plain, err := seal.OpenSized(p.count(shard), shard.size, p.c.device)
	if err != nil {
		return err
	}
	result, err := pack.Unpack(ctx, p.opts.Dir, plain, manifest, pack.UnpackOptions{Overwrite: p.opts.Overwrite, Apart: p.apart, Assembly: p.assembly, Earlier: p.earlier})
	p.out.Files, p.out.Same, p.out.Bytes = result.Files, result.Same, result.Bytes
	p.out.Name, p.out.Missing = result.Name, result.Missing
	return err
}

// fetched is a shard on its way: an age file, sealed to this device.
type fetched struct {
	io.Reader
	io.Closer
	size     int64  // bytes of it
	manifest []byte // sealed likewise
	leaf     string
	receipt  string // where it is kept
}

// openSealed asks for a shard through the vault.
func (p *puller) openSealed(ctx context.Context, header http.Header) (*fetched, error) {
	const op = "client.Pull"
	resp, err := p.c.send(ctx, request{op: op, method: http.MethodGet, path: cmp.Or(p.path, shardPath(p.ref)+"/sealed"), header: header})
	if err != nil {
		return nil, err
	}
	f := &fetched{Reader: resp.Body, Closer: resp.Body, size: resp.ContentLength, leaf: resp.Header.Get(wire.HeaderLeaf)}
	f.receipt, err = p.keepReceipt(resp) // of the read, whatever becomes of the data
	if err == nil {
		if f.manifest, err = base64.StdEncoding.DecodeString(resp.Header.Get(wire.HeaderManifest)); err != nil {
			err = p.bad("the manifest is not base64", err)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (p *puller) bad(why string, err error) error {
	return fault.Wrap(fault.Corrupt, "client.Pull", fmt.Sprintf("shard %s: %s", p.ref, why), err).
		WithHint("tell the operator; nothing was written")
}

// manifest opens the manifest that came with a shard and checks that it is of
// the shard that was asked for.
func (p *puller) manifest(shard *fetched) (dataset.Manifest, error) {
	var m dataset.Manifest
	plain, err := seal.OpenBytes(shard.manifest, p.c.device, dataset.MaxManifest)
	if err != nil {
		return m, p.bad("the manifest does not open with this device's key", err)
	}
	if m, err = dataset.ParseManifest(plain); err != nil {
		return m, err
	}
	switch {
	case m.Number != p.ref.Number:
		return m, p.bad(fmt.Sprintf("the server gave shard %d instead", m.Number), nil)
	case shard.size != seal.SealedSize(m.Size):
		return m, p.bad("its size is not the one in the manifest", nil)
	}
	return m, nil
}

// keep stores the sealed shard as it came, after checking all of it.
func (p *puller) keep(ctx context.Context, sealed io.Reader, size int64, m dataset.Manifest, target string) error {
	const op = "client.Pull"
	scratch, done, err := pack.Scratch(ctx, p.opts.Dir)
	if err != nil {
		return err
	}
	defer done()
	tmp, err := os.Create(filepath.Join(scratch, "sealed"))
	if err != nil {
		return pack.DiskFault(op, "cannot write to "+p.opts.Dir, err)
	}
	defer tmp.Close()
	disk := &diskWriter{w: tmp}
	plain, err := seal.OpenSized(io.TeeReader(sealed, disk), size, p.c.device)
	if err != nil {
		return disk.or(err)
	}
	hash := sha256.New()
	n, err := io.Copy(hash, plain)
	if err != nil {
		return disk.or(err)
	}
	if n != m.Size || !bytes.Equal(hash.Sum(nil), m.SHA256) {
		return fault.New(fault.Corrupt, op, fmt.Sprintf("shard %s: the data is not that of its manifest", p.ref)).
			WithHint("tell the operator; nothing was written")
	}
	if err := ctx.Err(); err != nil {
		return contextFault(ctx, op, err)
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return pack.DiskFault(op, "cannot write "+target, err)
	}
	if err := p.place(tmp.Name(), target); err != nil {
		return err
	}
	p.out.Name, p.out.Bytes, p.out.Files = filepath.Base(target), m.Size, 1
	return nil
}

// place gives the file its name; without Overwrite never that of another.
func (p *puller) place(tmp, target string) error {
	const op = "client.Pull"
	err := error(nil)
	if p.opts.Overwrite {
		err = os.Rename(tmp, target)
	} else if err = os.Link(tmp, target); err != nil && !errors.Is(err, fs.ErrExist) {
		err = os.Rename(tmp, target) // a file system without hard links
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return fault.Wrap(fault.Conflict, op, target+" is there already", err).WithHint("say --overwrite to replace it")
	case err != nil:
		return pack.DiskFault(op, "cannot write "+target, err)
	}
	return nil
}

// diskWriter remembers that the disk failed, so that this is not taken for a
// failure of the connection or of the data.
type diskWriter struct {
	w   io.Writer
	err error
}

func (d *diskWriter) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	if err != nil {
		d.err = err
	}
	return n, err
}

func (d *diskWriter) or(err error) error {
	if d.err != nil {
		return pack.DiskFault("client.Pull", "cannot write to the folder", d.err)
	}
	return err
}
