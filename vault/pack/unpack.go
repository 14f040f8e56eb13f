package pack

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// Limits bound what a shard may make. A zero field means the default.
type Limits struct {
	MaxFiles int   // files and folders of a shard, those above members included
	MaxBytes int64 // plaintext of a shard
	MaxPath  int   // bytes of a member's name
	MaxDepth int   // elements of a member's name
	MaxPAX   int   // bytes of a member's extended header
}

// DefaultLimits are what every shard that NewPlan makes stays within.
func DefaultLimits() Limits {
	return Limits{MaxFiles: 1 << 20, MaxBytes: 8 << 40, MaxPath: 4096, MaxDepth: 64, MaxPAX: 16 << 10}
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	return Limits{
		MaxFiles: cmp.Or(l.MaxFiles, d.MaxFiles),
		MaxBytes: cmp.Or(l.MaxBytes, d.MaxBytes),
		MaxPath:  cmp.Or(l.MaxPath, d.MaxPath),
		MaxDepth: cmp.Or(l.MaxDepth, d.MaxDepth),
		MaxPAX:   cmp.Or(l.MaxPAX, d.MaxPAX),
	}
}

// UnpackOptions says how to unpack.
type UnpackOptions struct {
	Limits Limits
	// Overwrite replaces files that differ; without it they are a Conflict.
	Overwrite bool
	// Apart leaves every slice a file of its own, for somebody who works on
	// some of them. Without it slices join like parts.
	Apart bool
	// NoSync does not wait for the disk. By default the bytes are on disk
	// before they get their final names, so that after a power failure a name
	// never stands for an empty or half file, which a second run would refuse
	// to replace. The names themselves may be lost: then the second run makes
	// them again.
	NoSync bool
	// Assembly is what the calls of one run share; nil: there is just this one.
	Assembly *Assembly
	// Earlier is closed when the calls before this one have ended: what the last
	// part of a file waits for no longer than that. nil: never.
	Earlier <-chan struct{}
}

// UnpackResult says what came out.
type UnpackResult struct {
	Files   int    // regular files in the shard; 1 for a file, a part or a slice
	Same    int    // of these, how many were there already with the same bytes
	Bytes   int64  // content of these files
	Name    string // all but tar: what now lies in the folder
	Missing int    // part, slice: how many the file still lacks; 0 when it is whole
}

// Unpack reads a shard's plaintext from r to its end and puts its files into
// dir, which it makes if need be. Nothing appears under a final name before
// size and hash have been checked against m. A file that is there with the same
// bytes stays. A part becomes NAME.part-0003; when all parts of NAME are there,
// whichever way and in whatever order they came, they are joined and go. So do
// slices, which are NAME-000003.csv until then.
// Several calls may unpack into one folder at once.
//
// Errors: Corrupt when the bytes are not those of m; Invalid for a bad manifest
// or an archive that could not be unpacked safely; TooLarge over a limit;
// Conflict when something else is in the way; Unavailable when r or the disk
// fails; Canceled.
func Unpack(ctx context.Context, dir string, r io.Reader, m dataset.Manifest, opts UnpackOptions) (UnpackResult, error) {
	const op = "pack.Unpack"
	opts.Limits = opts.Limits.orDefault()
	if err := checkManifest(m, opts.Limits); err != nil {
		return UnpackResult{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return UnpackResult{}, localFault(op, "cannot make the folder "+quote(dir), err)
	}
	if a := opts.Assembly; a != nil && m.Packing == dataset.PackPart && !opts.Apart {
		if res, err := a.unpack(ctx, r, m, opts); !errors.Is(err, errNotHere) {
			return res, err
		}
	}
	w, err := openWorkspace(ctx, dir, opts.Assembly)
	if err != nil {
		return UnpackResult{}, err
	}
	defer w.close()
	in := newHashReader(ctx, r, m.Size)
	defer in.close()

	t := &untar{stage: w.stage, names: newNameSet(), limits: opts.Limits, left: m.Size}
	if m.Packing == dataset.PackTar {
		err = t.run(in, m.Files)
	} else {
		err = w.receive(in, m, opts.Apart)
	}
	if code := fault.CodeOf(err); err == nil || code == fault.Invalid || code == fault.TooLarge {
		// Damaged bytes explain a bad archive better than the archive does.
		err = cmp.Or(verify(in, m), err)
	}
	if err != nil {
		return UnpackResult{}, err
	}
	if !opts.NoSync {
		if err := syncTree(w.stage, w.lock); err != nil {
			return UnpackResult{}, localFault(op, "cannot write to the disk", err)
		}
	}
	unlock, err := lockFolder(ctx, w.root)
	if err != nil {
		return UnpackResult{}, err
	}
	defer unlock()
	switch m.Packing {
	case dataset.PackTar:
		return w.placeTar(ctx, t, opts)
	case dataset.PackFile:
		return w.placeFile(ctx, m, m.Name, opts)
	default:
		switch {
		case opts.Apart && m.Packing == dataset.PackOrder:
			return UnpackResult{Bytes: m.Size}, nil // of use only to join
		case opts.Apart && m.Packing == dataset.PackSlice:
			return w.placeFile(ctx, m, SliceName(m.Name, m.Part), opts)
		}
		return w.placePart(ctx, m, opts)
	}
}

func checkManifest(m dataset.Manifest, limits Limits) error {
	const op = "pack.Unpack"
	bad := func(why string) error {
		return fault.New(fault.Invalid, op, fmt.Sprintf("the manifest of shard %d is wrong: %s", m.Number, why))
	}
	switch {
	case m.Version != formatVersion:
		return bad(fmt.Sprintf("its version is %d", m.Version)).(*fault.Error).
			WithHint("a newer dsvault may know it")
	case m.Size < 0 || len(m.SHA256) != sha256.Size:
		return bad("its size or hash cannot be")
	case m.Size > limits.MaxBytes:
		return fault.New(fault.TooLarge, op, fmt.Sprintf("shard %d has %d bytes and the limit is %d", m.Number, m.Size, limits.MaxBytes))
	}
	err := checkElement(m.Name)
	if m.Packing == dataset.PackFile {
		err = checkName(m.Name, limits)
	}
	if err != nil {
		return nameFault(op, m.Name, err)
	}
	switch m.Packing {
	case dataset.PackTar:
		return nil
	case dataset.PackPart, dataset.PackSlice, dataset.PackOrder:
		if m.Parts < 1 || m.Parts > dataset.MaxShards || m.Part < 0 || m.Part >= m.Parts {
			return bad("its part number cannot be")
		}
		if len(m.Name) > maxPartName {
			return bad("its name is too long for a part")
		}
		if err := checkSlice(m); err != nil {
			return bad(err.Error())
		}
	case dataset.PackFile:
	default:
		return bad("its packing " + quote(string(m.Packing)) + " is not known")
	}
	if m.Mode&^0o777 != 0 {
		return bad("its mode has more than permission bits")
	}
	return nil
}

// checkSlice says whether what m says about the whole file can be.
func checkSlice(m dataset.Manifest) error {
	if m.Packing == dataset.PackPart {
		if m.Head != 0 || m.Tail != 0 || m.Whole != nil {
			return errors.New("a part is all of the file")
		}
		return nil
	}
	switch {
	case m.Head < 0 || m.Tail < 0 || m.Head > m.Size || m.Tail > m.Size-m.Head:
		return errors.New("its head or tail cannot be")
	case m.Whole == nil || len(m.Whole.SHA256) != sha256.Size || m.Whole.Size < 0:
		return errors.New("it does not say of which file it is a slice")
	case m.Packing == dataset.PackSlice && m.Whole.Size < m.Size-m.Head-m.Tail:
		return errors.New("it is larger than its file")
	case (m.Packing == dataset.PackOrder) != (m.Field != "" && m.Part == m.Parts-1):
		return errors.New("its file has its order in another part")
	case m.Packing == dataset.PackOrder && (m.Size > maxOrder || m.Head != 0 || m.Tail != 0):
		return errors.New("its size cannot be")
	}
	return nil
}

// verify reads in to its end and compares what came with the manifest.
func verify(in *hashReader, m dataset.Manifest) error {
	const op = "pack.Unpack"
	corrupt := func(why string) error {
		return fault.New(fault.Corrupt, op, fmt.Sprintf("shard %d is not what its manifest says: %s", m.Number, why)).
			WithHint("nothing was unpacked; fetch the shard again, and tell its owner if that does not help")
	}
	if _, err := in.WriteTo(io.Discard); err != nil {
		return sourceFault(err)
	}
	if in.limit > 0 {
		return corrupt("it is shorter")
	}
	// The end must be seen: a sealed stream is authentic only up to there.
	for range 100 {
		n, err := in.r.Read(make([]byte, 1))
		switch {
		case n > 0:
			return corrupt("it is longer")
		case err == io.EOF:
			if !bytes.Equal(in.close(), m.SHA256) {
				return corrupt("its hash differs")
			}
			return nil
		case err != nil:
			return sourceFault(err)
		}
	}
	return sourceFault(io.ErrNoProgress)
}

func sourceFault(err error) error {
	const op = "pack.Unpack"
	var known *fault.Error
	if errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return localFault(op, "", err)
	}
	return fault.Wrap(fault.Unavailable, op, "the shard did not arrive whole", err).
		WithHint("nothing was unpacked; run the command again")
}

// receive writes a file or a part into the stage.
func (w *workspace) receive(in *hashReader, m dataset.Manifest, apart bool) error {
	mode := os.FileMode(m.Mode)
	if m.Packing != dataset.PackFile && !(m.Packing == dataset.PackSlice && apart) {
		mode = 0o600 // it is ours until the file is whole
	}
	f, err := w.stage.OpenFile(stagedFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return localFault("pack.Unpack", "cannot make a file", err)
	}
	_, err = in.WriteTo(f)
	if failed := in.failed(); failed != nil {
		f.Close()
		return sourceFault(failed)
	}
	err = errors.Join(err, f.Chmod(mode), f.Close(),
		w.stage.Chtimes(stagedFile, time.Time{}, time.Unix(0, m.ModTime)))
	if err != nil {
		return localFault("pack.Unpack", "cannot write "+quote(m.Name), err)
	}
	return nil
}
