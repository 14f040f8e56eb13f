package client

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/pack"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// Claim takes a shard that nobody works on, under a lease.
func (c *Client) Claim(ctx context.Context, ds dataset.Scope, req wire.NewClaim) (out wire.Claim, err error) {
	err = c.post(ctx, "client.Claim", datasetPath(ds)+"/claims", req, &out)
	return out, err
}

// RenewClaim lets a claim last so many seconds from now.
func (c *Client) RenewClaim(ctx context.Context, ref dataset.ShardRef, seconds int) (out wire.Claim, err error) {
	err = c.call(ctx, request{op: "client.RenewClaim", method: http.MethodPut, path: claimPath(ref), in: wire.Lease{Seconds: seconds}}, &out)
	return out, err
}

// ReleaseClaim gives a claimed shard back.
func (c *Client) ReleaseClaim(ctx context.Context, ref dataset.ShardRef) (out wire.Revoked, err error) {
	err = c.call(ctx, request{op: "client.ReleaseClaim", method: http.MethodDelete, path: claimPath(ref)}, &out)
	return out, err
}

func claimPath(ref dataset.ShardRef) string {
	return datasetPath(ref.Dataset) + "/claims/" + strconv.Itoa(ref.Number)
}

// Work walks through where the work on the shards of a scope stands.
func (c *Client) Work(ctx context.Context, under dataset.Scope) iter.Seq2[wire.ShardWork, error] {
	return pages[wire.ShardWork](ctx, c, "client.Work", "/v1/work", url.Values{"under": {under.String()}})
}

// ResultFilter selects returned work. The zero value is all of it.
type ResultFilter struct {
	Shard  *int   // only of this shard
	State  string // submitted, accepted or sent-back
	Latest bool   // only the newest of each author on each shard
}

// Results walks through the work that was returned on a dataset, by shard, the
// oldest first.
func (c *Client) Results(ctx context.Context, ds dataset.Scope, f ResultFilter) iter.Seq2[wire.Work, error] {
	q := url.Values{}
	if f.Shard != nil {
		q.Set("shard", strconv.Itoa(*f.Shard))
	}
	if f.State != "" {
		q.Set("state", f.State)
	}
	if f.Latest {
		q.Set("latest", "1")
	}
	return pages[wire.Work](ctx, c, "client.Results", datasetPath(ds)+"/results", q)
}

// JudgeWork accepts returned work or sends it back.
func (c *Client) JudgeWork(ctx context.Context, ds dataset.Scope, id dataset.WorkID, req wire.Judgement) (out wire.Work, err error) {
	err = c.post(ctx, "client.JudgeWork", datasetPath(ds)+"/results/"+id.String()+"/review", req, &out)
	return out, err
}

// Submit returns files as the work on a shard. They are sealed to the dataset's
// key here, before anything leaves this machine.
func (c *Client) Submit(ctx context.Context, ref dataset.ShardRef, paths []string, progress Progress) (wire.Work, error) {
	const op = "client.Submit"
	if progress == nil {
		progress = noProgress{}
	}
	plan, err := pack.NewFilesPlan(ctx, fmt.Sprintf("%s-%04d", ref.Dataset.Base(), ref.Number), paths, pack.Options{ShardSize: wire.MaxWork})
	if err != nil {
		return wire.Work{}, err
	}
	if plan.Files() > wire.MaxWorkFiles {
		return wire.Work{}, fault.New(fault.TooLarge, op, fmt.Sprintf("%d files are more than the %d of one return", plan.Files(), wire.MaxWorkFiles)).
			WithHint("put them into an archive")
	}
	ds, err := c.Dataset(ctx, ref.Dataset)
	if err != nil {
		return wire.Work{}, err
	}
	p := &pusher{c: c, scope: ref.Dataset, plan: plan, progress: progress}
	if p.to, err = seal.ParseRecipient(ds.Recipient); err != nil {
		return wire.Work{}, err
	}
	progress.Expect(plan.Size(0))
	var out wire.Work
	err = c.retry(ctx, shardRetries, func(ctx context.Context) error {
		var err error
		out, err = p.work(ctx, ref)
		return err
	})
	return out, err
}

// work returns the plan's one shard as work.
func (p *pusher) work(ctx context.Context, ref dataset.ShardRef) (out wire.Work, err error) {
	const op = "client.Submit"
	var up wire.Upload
	if err := p.c.post(ctx, op, shardPath(ref)+"/work", wire.NewWork{Size: p.plan.Size(0)}, &up); err != nil {
		return out, err
	}
	if up.PartSize != 0 && up.PartSize != dataset.PartSize {
		return out, partsDiffer()
	}
	path := datasetPath(ref.Dataset) + "/work/" + up.Attempt.String()
	sent, err := p.sendWhole(ctx, path, 0, up.PartSize)
	if err != nil {
		p.progress.Done(-sent.reported)
		return out, err
	}
	plain, err := p.plan.Numbered(sent.manifest, ref.Number).Encode()
	if err != nil {
		return out, err
	}
	req := wire.Commit{SHA256: sent.sum}
	if req.Manifest, err = seal.SealBytes(plain, p.to); err != nil {
		return out, err
	}
	// The same commit again gives the same work.
	err = p.c.retry(ctx, maxRetries, func(ctx context.Context) error { return p.c.post(ctx, op, path+"/commit", req, &out) })
	if err == nil && (!bytes.Equal(out.SHA256, sent.sum) || out.Shard != ref.Number || out.Dataset != ref.Dataset) {
		err = fault.New(fault.Corrupt, op, "the server says that it has other work than was sent").WithHint("tell the operator")
	}
	return out, err
}

// PullResultsOptions says which work to pull and where to.
type PullResultsOptions struct {
	Filter    ResultFilter
	Dir       string // made if need be; "" means the working folder
	Purpose   string
	Overwrite bool
	Progress  Progress // may be nil
	Receipts  string   // as PullOptions has it
	Pin       LogPin
}

// PulledResults says what a pull of returned work brought.
type PulledResults struct {
	Dataset dataset.Scope  `json:"dataset"`
	Dir     string         `json:"dir"`
	Results []PulledResult `json:"results"`
	Files   int            `json:"files"`
	Bytes   int64          `json:"bytes"` // plaintext
}

// PulledResult is one return.
type PulledResult struct {
	wire.Work
	Folder  string `json:"folder"` // where its files are, below Dir
	Files   int    `json:"files"`
	Leaf    string `json:"leaf,omitempty"`    // INDEX:HASH of this read in the log
	Receipt string `json:"receipt,omitempty"` // file with the log's receipt for it
}

// PullResults fetches returned work, sealed to this device, opens it here and
// checks it against its sealed manifest. Of each shard there is a folder, such as
// 0003; where several people returned work on a shard, 0003-PERSON. Each is a
// read of its own in the log.
func (c *Client) PullResults(ctx context.Context, ds dataset.Scope, opts PullResultsOptions) (PulledResults, error) {
	const op = "client.PullResults"
	opts.Dir = cmp.Or(opts.Dir, ".")
	if opts.Progress == nil {
		opts.Progress = noProgress{}
	}
	out := PulledResults{Dataset: ds, Dir: opts.Dir, Results: []PulledResult{}}
	if c.device == nil || c.deviceID.IsZero() {
		return out, fault.New(fault.Invalid, op, "this machine has no device key").WithHint("run `dsvault login URL` first")
	}
	opts.Filter.Latest = true
	list, err := collect(c.Results(ctx, ds, opts.Filter))
	if err != nil {
		return out, err
	}
	if len(list) == 0 {
		return out, fault.New(fault.NotFound, op, "there are no such results").WithHint("`dsvault results ls " + ds.String() + "` shows what there is; --state chooses another state")
	}
	each := map[int]int{}
	for _, w := range list {
		each[w.Shard]++
	}
	if err := os.MkdirAll(opts.Dir, 0o777); err != nil {
		return out, pack.DiskFault(op, "cannot make the folder "+opts.Dir, err)
	}
	receipts, err := receiptFolder(opts.Dir, opts.Receipts)
	if err != nil {
		return out, fault.Wrap(fault.Invalid, op, "cannot make the folder for the receipts", err).
			WithHint("--receipts names another folder, --receipts none goes without")
	}
	for _, w := range list {
		folder := fmt.Sprintf("%04d", w.Shard)
		if each[w.Shard] > 1 {
			author, err := dataset.ParseName(w.Author)
			if err != nil { // of somebody who was anonymised
				author = w.ID.String()
			}
			folder += "-" + author
		}
		p := puller{c: c, ref: dataset.ShardRef{Dataset: ds, Number: w.Shard}, path: resultPath(ds, w.ID),
			opts:  PullOptions{Dir: filepath.Join(opts.Dir, folder), Purpose: opts.Purpose, Overwrite: opts.Overwrite, Progress: opts.Progress},
			apart: true, receipts: receipts, pin: opts.Pin}
		if err := c.retry(ctx, shardRetries, p.run); err != nil {
			return out, err
		}
		out.Results = append(out.Results, PulledResult{Work: w, Folder: folder, Files: p.out.Files, Leaf: p.out.Leaf, Receipt: p.out.Receipt})
		out.Files, out.Bytes = out.Files+p.out.Files, out.Bytes+p.out.Bytes
	}
	return out, nil
}

func resultPath(ds dataset.Scope, id dataset.WorkID) string {
	return datasetPath(ds) + "/results/" + id.String() + "/sealed"
}
