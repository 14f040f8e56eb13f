package pack

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

const (
	// DefaultShardSize is the shard size that Options leaves unsaid, in bytes.
	DefaultShardSize = 256 << 20
	// MinShardSize is the smallest shard size that a plan accepts, in bytes.
	MinShardSize = 64 << 10

	formatVersion = 1 // of manifests
	printVersion  = 2 // of the listing that Fingerprint covers
)

// Options says how to cut.
type Options struct {
	// ShardSize is the most plaintext bytes in a shard; 0 means
	// DefaultShardSize. Only what is never cut may exceed it: a sample, a
	// record, a row group, a shard taken as it is.
	ShardSize int64
	// Format says how to cut; FormatAuto looks.
	Format Format
	// Records is the most samples, records or rows in a shard; 0 means no limit.
	Records int
	// Field makes one slice of a JSONL or CSV file for each value of this field.
	Field string
	// SkipSpecial leaves out links, devices, sockets and FIFOs. Without it one
	// of them makes NewPlan fail.
	SkipSpecial bool
	// Skipped, when set, hears of every entry that SkipSpecial left out.
	Skipped func(path, why string)
}

// Plan is how one folder or file is cut into shards. It does not change and is
// safe for concurrent use.
type Plan struct {
	path    string            // as the caller gave it
	parents map[string]string // of NewFilesPlan: the folder that members with this first element lie below
	name    string            // its base name
	folder  bool              // members lie below path; else path is the one member
	packing dataset.Packing
	members []member          // in shard order; exactly one for a file
	folders map[string]member // those that hold members, by name
	sliced  *sliced           // of a file that is cut into slices
	opts    Options
	shards  []shard
	total   int64
	files   int
}

// member is one file or empty folder, as planning saw it.
type member struct {
	name  string // slash-separated, below the root
	key   int    // bytes of name that its sample shares
	dir   bool
	mode  uint32 // permission bits
	size  int64
	mtime int64 // Unix nanoseconds
	id    fileID
}

// shard is a run of members, or a piece of the one file.
type shard struct {
	first, end int    // members[first:end]
	files      int    // regular files among them
	offset     int64  // in the file; 0 for tar
	size       int64  // plaintext, bytes
	head       int64  // slice: bytes of sliced.head that it starts with
	tail       int64  // slice: bytes of the footer that it ends with
	records    int64  // slice: lines, records or rows
	group      int    // Parquet: its first row group
	groupEnd   int    // Parquet: behind its last one
	runs       []byte // by value: where its bytes lie in the file
	value      string // by value: which
}

// NewPlan looks at path, a folder or a file, and decides its shards. It reads
// the content of a file that is cut by format, once, and otherwise the first
// bytes of what may be such a file or an existing shard.
//
// Errors: NotFound when path is absent; Invalid for an empty folder, an entry
// that is neither file nor folder, or a name that could not be unpacked safely
// on another system; Canceled.
func NewPlan(ctx context.Context, path string, opts Options) (*Plan, error) {
	const op = "pack.NewPlan"
	if opts.ShardSize == 0 {
		opts.ShardSize = DefaultShardSize
	}
	if opts.ShardSize < MinShardSize {
		return nil, fault.New(fault.Invalid, op, fmt.Sprintf("a shard size of %d bytes is too small", opts.ShardSize)).
			WithHint("the smallest shard size is 64 KiB")
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fault.Wrap(fault.NotFound, op, "there is no file or folder "+quote(path), err).
			WithHint("check the path; it is on this machine")
	}
	if err != nil {
		return nil, localFault(op, "cannot look at "+quote(path), err)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, localFault(op, "cannot look at "+quote(path), err)
	}
	p := &Plan{path: path, name: filepath.Base(absolute), opts: opts}
	if p.name == string(filepath.Separator) {
		p.name = "root"
	}
	if err := checkElement(p.name); err != nil {
		return nil, nameFault(op, p.name, err)
	}
	switch {
	case !opts.Format.known():
		err = unknownFormat(opts.Format)
	case opts.Records < 0:
		err = fault.New(fault.Invalid, op, "a shard cannot have fewer than no records").WithHint("leave the number out, or say 1 or more")
	case opts.Field != "" && opts.Records > 0:
		err = fault.New(fault.Invalid, op, "records can be cut by number or by field, not by both").WithHint("leave one of the two out")
	case opts.Field != "" && info.IsDir():
		err = noRecords(path)
	case info.IsDir():
		p.folder = true
		err = p.cutFolder(ctx, opts)
	case info.Mode().IsRegular():
		err = p.cutFile(ctx, info, opts)
	default:
		err = fault.New(fault.Invalid, op, fmt.Sprintf("%s is a %s", quote(path), kindOf(info.Mode()))).
			WithHint("give a folder or a regular file")
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// cutFile decides how a file is cut.
func (p *Plan) cutFile(ctx context.Context, info fs.FileInfo, opts Options) error {
	p.members = []member{memberOf(p.name, info)}
	byRecords := opts.Records > 0 || opts.Field != ""
	if !byRecords && (opts.Format == FormatFile || opts.Format == FormatAuto && info.Size() <= opts.ShardSize) {
		return p.cutParts(opts.ShardSize)
	}
	start, err := p.peek()
	if err != nil {
		return err
	}
	format := opts.Format
	if format == FormatAuto {
		format = formatOf(p.name, start)
	}
	switch {
	case opts.Field != "" && (format == FormatJSONL || format == FormatCSV):
		return p.cutByField(ctx, opts, format, start)
	case opts.Field != "" && format.known():
		return noRecords(p.path)
	case format == FormatJSONL:
		return p.cutLines(ctx, opts)
	case format == FormatCSV:
		return p.cutCSV(ctx, opts, start)
	case format == FormatParquet:
		return p.cutParquet(ctx, opts)
	case format == FormatFile && !byRecords:
		return p.cutParts(opts.ShardSize)
	case format == FormatFile:
		return noRecords(p.path)
	default:
		return wrongFormat(p.path, format)
	}
}

// cutParts makes one shard of the file, or parts of equal size and a rest.
func (p *Plan) cutParts(shardSize int64) error {
	m := p.members[0]
	p.packing = dataset.PackFile
	if m.size/shardSize > dataset.MaxShards {
		return tooManyShards()
	}
	if m.size > shardSize {
		p.packing = dataset.PackPart
		if err := p.checkPieceName(); err != nil {
			return err
		}
	}
	for offset := int64(0); ; offset += shardSize {
		p.add(shard{end: 1, files: 1, offset: offset, size: min(shardSize, m.size-offset)})
		if m.size-offset <= shardSize {
			break
		}
	}
	p.files = 1
	return p.checkCount()
}

func (p *Plan) checkPieceName() error {
	if len(p.name) <= maxPartName {
		return nil
	}
	return fault.New(fault.Invalid, "pack.NewPlan", "the name "+quote(p.name)+" is too long for a file in parts").
		WithHint(fmt.Sprintf("rename the file: at most %d bytes", maxPartName))
}

func (p *Plan) checkCount() error {
	if len(p.shards) > dataset.MaxShards {
		return tooManyShards()
	}
	return nil
}

func tooManyShards() error {
	return fault.New(fault.TooLarge, "pack.NewPlan", fmt.Sprintf("that makes more than %d shards", dataset.MaxShards)).
		WithHint("choose a larger shard size")
}

func (p *Plan) add(s shard) {
	p.shards = append(p.shards, s)
	p.total += s.size
	p.files += s.files
}

// Shards is the number of shards, at least 1.
func (p *Plan) Shards() int { return len(p.shards) }

// TotalSize is the exact number of plaintext bytes of all shards.
func (p *Plan) TotalSize() int64 { return p.total }

// Files is the number of regular files.
func (p *Plan) Files() int { return p.files }

// Packing is how every shard of the plan is to be read.
func (p *Plan) Packing() dataset.Packing { return p.packing }

// Size is the exact number of plaintext bytes of shard n.
func (p *Plan) Size(n int) int64 { return p.shards[n].size }

// Manifest describes shard n, all but its hash, which only Write knows.
func (p *Plan) Manifest(n int) dataset.Manifest {
	s := p.shards[n]
	m := dataset.Manifest{
		Version: formatVersion,
		Number:  n,
		Packing: p.packing,
		Name:    p.name,
		Size:    s.size,
	}
	if p.packing == dataset.PackTar {
		m.Name = tarName(p.name, n)
		m.MediaType, m.Files = "application/x-tar", s.files
		return m
	}
	file := p.members[s.first]
	m.Name, m.Mode, m.ModTime, m.MediaType = file.name, file.mode, file.mtime, mediaTypeOf(file.name)
	if p.packing == dataset.PackPart || p.packing == dataset.PackSlice {
		m.Part, m.Parts = n, len(p.shards)
	}
	if p.packing == dataset.PackSlice {
		m.MediaType, m.Records = p.sliced.mediaType, s.records
		m.Head, m.Tail = s.head, s.tail
		m.Whole = &dataset.Whole{Size: file.size, SHA256: p.sliced.sum}
		m.Field, m.Value = p.sliced.field, s.value
	}
	if p.isOrder(n) {
		m.Packing, m.MediaType = dataset.PackOrder, "application/octet-stream"
	}
	return m
}

// Fingerprint names the content of shard n without reading it: HMAC-SHA256
// under salt over the format version, the packing, the shard's place in its
// file, and the name, kind, size, mode and time of every entry of its archive;
// for a slice also the file's hash. The same
// input gives the same value on every machine, wherever in the plan it lies.
func (p *Plan) Fingerprint(n int, salt []byte) [32]byte {
	mac := hmac.New(sha256.New, salt)
	s := p.shards[n]
	// Strings carry their length, so that no two listings have one encoding.
	var line []byte
	number := func(v int64) { line = binary.BigEndian.AppendUint64(line, uint64(v)) }
	text := func(v string) { number(int64(len(v))); line = append(line, v...) }
	text("dsvault pack")
	number(printVersion)
	text(string(p.packing))
	if p.packing == dataset.PackPart || p.packing == dataset.PackSlice {
		number(int64(n))
	}
	number(s.offset)
	number(s.size)
	number(int64(s.end - s.first))
	if p.packing == dataset.PackSlice { // what it repeats follows from the file's content
		number(s.head)
		number(s.tail)
		text(string(p.sliced.sum))
		text(p.sliced.field)
		text(s.value)
	}
	mac.Write(line)
	for m := range p.entries(s) {
		line = line[:0]
		text(m.name)
		if m.dir {
			number(1)
		} else {
			number(0)
		}
		number(m.size)
		number(int64(m.mode))
		number(m.mtime)
		mac.Write(line)
	}
	return [32]byte(mac.Sum(nil))
}
