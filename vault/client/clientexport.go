package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/pack"
	"dsvault/vault/wire"
)

// ClientExportOptions says where the whole of a client's data goes to.
type ClientExportOptions struct {
	Dir      string // made if need be; what is in it of an earlier, broken off export stays
	Parallel int    // shards at a time; 0 means 2
	Progress Progress
	Pin      LogPin // of the log
}

// ClientExport says what an export has brought. It is the export.json of its
// folder, which is written last.
type ClientExport struct {
	Format   string            `json:"format"`
	Version  int               `json:"version"`
	Client   dataset.Scope     `json:"client"`
	Datasets []ExportedDataset `json:"datasets"`
	Refused  []RefusedDataset  `json:"refused"` // what was not given out, and why
	Log      ExportedLog       `json:"log"`
	Fetched  int               `json:"fetched"` // shards and results that this run has read
	Bytes    int64             `json:"bytes"`   // of these, plaintext
}

// ExportedDataset is one dataset in an export: the folder PROJECT/DATASET has
// versions.json and results.json, of each shard NAME.age and NAME.manifest.age,
// and likewise of each piece of returned work, below results.
type ExportedDataset struct {
	wire.DatasetExport
	Folder  string `json:"folder"`
	Shards  int    `json:"shards"`  // of all versions
	Results int    `json:"results"` // pieces of returned work
}

// RefusedDataset is one that was not given out.
type RefusedDataset struct {
	Dataset  dataset.Scope      `json:"dataset"`
	Why      []string           `json:"why"`
	Approval dataset.ApprovalID `json:"approval,omitzero"` // that it waits for
}

// ExportedLog is the client's part of the log, verified.
type ExportedLog struct {
	File    string           `json:"file"`
	Size    uint64           `json:"size"`    // leaves of the whole log
	Root    dataset.HexBytes `json:"root"`    // of its tree
	Records uint64           `json:"records"` // of these, the client's
}

const (
	exportFormat = "dsvault-client-export"
	exportFile   = "export.json"
	bundleFile   = "log.bundle"
)

// ExportClient takes all of a client's data out of the vault: every shard of
// every version of every dataset and all returned work, sealed to this device with
// their manifests, and the client's part of the log, verified. What is there is
// not read again, so that an export that broke off goes on. Each dataset's export and each
// read is in the log before its first byte.
func (c *Client) ExportClient(ctx context.Context, client dataset.Scope, opts ClientExportOptions) (ClientExport, error) {
	const op = "client.ExportClient"
	out := ClientExport{Format: exportFormat, Version: 1, Client: client, Datasets: []ExportedDataset{}, Refused: []RefusedDataset{}}
	if client.Depth() != 1 {
		return out, fault.New(fault.Invalid, op, client.String()+" is not a client").WithHint("name one such as acme")
	}
	if c.device == nil || c.deviceID.IsZero() {
		return out, fault.New(fault.Invalid, op, "this machine has no device key").WithHint("run `dsvault login URL` first")
	}
	if opts.Progress == nil {
		opts.Progress = noProgress{}
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return out, pack.DiskFault(op, "cannot make the folder "+opts.Dir, err)
	}
	for entry, err := range c.List(ctx, client) {
		if err != nil {
			return out, err
		}
		if entry.Kind != "dataset" {
			continue
		}
		if err := c.exportDataset(ctx, entry.Scope, opts, &out); err != nil {
			return out, err
		}
	}
	if err := c.exportLog(ctx, client, opts, &out); err != nil {
		return out, err
	}
	return out, writeWhole(filepath.Join(opts.Dir, exportFile), out)
}

// exportDataset brings one dataset. One that is refused is noted, and does not
// end the export of the others.
func (c *Client) exportDataset(ctx context.Context, scope dataset.Scope, opts ClientExportOptions, out *ClientExport) error {
	const op = "client.ExportClient"
	var admitted wire.DatasetExport
	err := c.post(ctx, op, datasetPath(scope)+"/export", nil, &admitted)
	if fault.Is(err, fault.Forbidden) || fault.Is(err, fault.NotFound) || fault.Is(err, fault.Conflict) {
		out.Refused = append(out.Refused, RefusedDataset{Dataset: scope, Why: whyNot(err)})
		return nil
	}
	if err != nil {
		return err
	}
	if p := admitted.Pending; p != nil {
		out.Refused = append(out.Refused, RefusedDataset{Dataset: scope, Approval: p.ID,
			Why: []string{"it takes two people; asked for: once another person has run `dsvault approve " + p.ID.String() + "`, export again"}})
		return nil
	}
	folder := filepath.Join(scope.Parent().Base(), scope.Base())
	dir := filepath.Join(opts.Dir, folder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return pack.DiskFault(op, "cannot make the folder "+dir, err)
	}
	versions, err := collect(c.Versions(ctx, scope))
	if err != nil {
		return err
	}
	if err := writeWhole(filepath.Join(dir, "versions.json"), versions); err != nil {
		return err
	}
	var shards dataset.ShardSet
	for _, v := range versions {
		shards = shards.Union(v.Shards.Set())
	}
	var items []*puller
	for n := range shards.All() {
		items = append(items, &puller{ref: dataset.ShardRef{Dataset: scope, Number: n}, target: shardName(dir, scope, n), manifestTo: manifestName(dir, scope, n)})
	}
	results, err := collect(c.Results(ctx, scope, ResultFilter{}))
	if err != nil {
		return err
	}
	if len(results) > 0 {
		if err := os.MkdirAll(filepath.Join(dir, "results"), 0o700); err != nil {
			return pack.DiskFault(op, "cannot make the folder "+filepath.Join(dir, "results"), err)
		}
	}
	for _, w := range results {
		name := filepath.Join(dir, "results", w.ID.String())
		items = append(items, &puller{ref: dataset.ShardRef{Dataset: scope, Number: w.Shard}, path: resultPath(scope, w.ID),
			target: name + ".age", manifestTo: name + ".manifest.age"})
	}
	if err := writeWhole(filepath.Join(dir, "results.json"), append([]wire.Work{}, results...)); err != nil {
		return err
	}
	if err := c.exportItems(ctx, dir, items, opts, out); err != nil {
		return err
	}
	out.Datasets = append(out.Datasets, ExportedDataset{DatasetExport: admitted, Folder: filepath.ToSlash(folder), Shards: shards.Len(), Results: len(results)})
	return nil
}

// exportItems brings those of the items that are not there. An earlier run gave
// each its name once it was checked, and after its manifest.
func (c *Client) exportItems(ctx context.Context, dir string, items []*puller, opts ClientExportOptions, out *ClientExport) error {
	items = slices.DeleteFunc(items, func(p *puller) bool {
		_, err := os.Lstat(p.target)
		return err == nil
	})
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallel(opts.Parallel))
	for _, p := range items {
		if groupCtx.Err() != nil {
			break
		}
		p.c, p.opts = c, PullOptions{Dir: dir, Sealed: true, Progress: opts.Progress}
		group.Go(func() error { return c.retry(groupCtx, shardRetries, p.run) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return contextFault(ctx, "client.ExportClient", err)
	}
	for _, p := range items {
		out.Bytes += p.out.Bytes
	}
	out.Fetched += len(items)
	return nil
}

func whyNot(err error) []string {
	var f *fault.Error
	if errors.As(err, &f) && len(f.Reasons) > 0 {
		return f.Reasons
	} else if f != nil {
		return []string{f.Message}
	}
	return nil
}

func shardName(dir string, scope dataset.Scope, n int) string {
	return filepath.Join(dir, fmt.Sprintf("%s-%04d.age", scope.Base(), n))
}

func manifestName(dir string, scope dataset.Scope, n int) string {
	return filepath.Join(dir, fmt.Sprintf("%s-%04d.manifest.age", scope.Base(), n))
}

// exportLog brings the client's part of the log, anew each time.
func (c *Client) exportLog(ctx context.Context, client dataset.Scope, opts ClientExportOptions, out *ClientExport) (err error) {
	const op = "client.ExportClient"
	path := filepath.Join(opts.Dir, bundleFile)
	tmp, err := os.CreateTemp(opts.Dir, ".log-*") // 0600: it names people
	if err != nil {
		return pack.DiskFault(op, "cannot write "+path, err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	v, err := c.VerifyLog(ctx, client, opts.Pin, VerifyOptions{Export: tmp})
	if err != nil {
		return err
	}
	if err := errors.Join(tmp.Sync(), tmp.Close(), os.Rename(tmp.Name(), path)); err != nil {
		return pack.DiskFault(op, "cannot write "+path, err)
	}
	out.Log = ExportedLog{File: bundleFile, Size: v.Size, Root: v.Root, Records: v.Seen}
	return nil
}

// writeWhole writes JSON in place of what is there.
func writeWhole(path string, doc any) (err error) {
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, "client.writeWhole", "cannot encode "+path, err)
	}
	return writeFile(path, append(data, '\n'))
}

func writeFile(path string, data []byte) (err error) {
	defer func() {
		if err != nil {
			err = pack.DiskFault("client.writeFile", "cannot write "+path, err)
		}
	}()
	tmp, err := os.CreateTemp(filepath.Dir(path), ".dsvault-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
