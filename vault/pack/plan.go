package pack

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

const (
	// DefaultShardSize is the shard size that Options leaves unsaid, in bytes.
	DefaultShardSize = 256 << 20
	// MinShardSize is the smallest shard size that a plan accepts, in bytes.
	MinShardSize = 64 << 10

	formatVersion = 1 // of the listing that Fingerprint covers, and of manifests
)

// Options says how to cut.
type Options struct {
	// ShardSize is the most plaintext bytes in a shard; 0 means
	// DefaultShardSize. Only a tar shard of one larger file may exceed it.
	ShardSize int64
	// SkipSpecial leaves out links, devices, sockets and FIFOs. Without it one
	// of them makes NewPlan fail.
	SkipSpecial bool
	// Skipped, when set, hears of every entry that SkipSpecial left out.
	Skipped func(path, why string)
}

// Plan is how one folder or file is cut into shards. It does not change and is
// safe for concurrent use.
type Plan struct {
	path    string // as the caller gave it
	name    string // the manifest's
	packing dataset.Packing
	members []member // in shard order; exactly one for a file
	shards  []shard
	total   int64
	files   int
}

// member is one file or empty folder, as planning saw it.
type member struct {
	name  string // slash-separated, below the root
	dir   bool
	mode  uint32 // permission bits
	size  int64
	mtime int64 // Unix nanoseconds
	id    fileID
}

// shard is a run of members, or a piece of the one file.
type shard struct {
	first, end int   // members[first:end]
	files      int   // regular files among them
	offset     int64 // in the file; 0 for tar
	size       int64 // plaintext, bytes
}

// NewPlan looks at path, a folder or a file, and decides its shards. It reads
// no content.
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
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.NotFound, op, "there is no file or folder "+quote(path), err)
	}
	if err != nil {
		return nil, localFault(op, "cannot look at "+quote(path), err)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, localFault(op, "cannot look at "+quote(path), err)
	}
	p := &Plan{path: path, name: filepath.Base(absolute)}
	if p.name == string(filepath.Separator) {
		p.name = "root"
	}
	if err := checkElement(p.name); err != nil {
		return nil, nameFault(op, p.name, err)
	}
	switch {
	case info.IsDir():
		err = p.cutFolder(ctx, opts)
	case info.Mode().IsRegular():
		err = p.cutFile(info, opts.ShardSize)
	default:
		err = fault.New(fault.Invalid, op, fmt.Sprintf("%s is a %s", quote(path), kindOf(info.Mode()))).
			WithHint("give a folder or a regular file")
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// cutFolder lists the folder and fills tar shards in order.
func (p *Plan) cutFolder(ctx context.Context, opts Options) error {
	p.packing = dataset.PackTar
	if !strings.HasSuffix(p.name, ".tar") {
		p.name += ".tar"
	}
	members, err := list(ctx, p.path, opts)
	if err != nil {
		return err
	}
	if len(members) == 0 {
		return fault.New(fault.Invalid, "pack.NewPlan", "the folder "+quote(p.path)+" is empty").
			WithHint("put the files into it first, or name another folder")
	}
	p.members = members
	var (
		buf   bytes.Buffer
		cur   = shard{size: tarEnd}
		nodes int
		last  string
		most  = DefaultLimits().MaxFiles
	)
	for i := range members {
		m := &members[i]
		size, err := tarSize(&buf, m)
		if err != nil {
			return fault.Wrap(fault.Invalid, "pack.NewPlan", quote(m.name)+" does not fit into a tar archive", err)
		}
		entries := newNodes(last, m.name)
		if cur.end > cur.first && (cur.size+size > opts.ShardSize || nodes+entries > most) {
			p.add(cur)
			cur = shard{first: i, end: i, size: tarEnd}
			nodes, entries = 0, newNodes("", m.name)
		}
		cur.end, cur.size, nodes, last = i+1, cur.size+size, nodes+entries, m.name
		if !m.dir {
			cur.files++
		}
	}
	p.add(cur)
	return p.checkCount()
}

// cutFile makes one shard of a file, or parts of equal size and a rest.
func (p *Plan) cutFile(info fs.FileInfo, shardSize int64) error {
	m := memberOf(p.name, info)
	p.members = []member{m}
	p.packing = dataset.PackFile
	if m.size/shardSize > dataset.MaxShards {
		return tooManyShards()
	}
	if m.size > shardSize {
		p.packing = dataset.PackPart
		if len(p.name) > maxPartName {
			return fault.New(fault.Invalid, "pack.NewPlan", "the name "+quote(p.name)+" is too long for a file in parts").
				WithHint(fmt.Sprintf("rename the file: at most %d bytes", maxPartName))
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
		m.MediaType, m.Files = "application/x-tar", s.files
		return m
	}
	m.Mode, m.ModTime = p.members[0].mode, p.members[0].mtime
	if p.packing == dataset.PackPart {
		m.Part, m.Parts = n, len(p.shards)
	}
	return m
}

// Fingerprint names the content of shard n without reading it: HMAC-SHA256
// under salt over the format version, the packing, the shard's number and place
// in its file, and every member's name, kind, size, mode and time. The same
// input gives the same value on every machine.
func (p *Plan) Fingerprint(n int, salt []byte) [32]byte {
	mac := hmac.New(sha256.New, salt)
	s := p.shards[n]
	// Strings carry their length, so that no two listings have one encoding.
	var line []byte
	number := func(v int64) { line = binary.BigEndian.AppendUint64(line, uint64(v)) }
	text := func(v string) { number(int64(len(v))); line = append(line, v...) }
	text("dsvault pack")
	number(formatVersion)
	text(string(p.packing))
	number(int64(n))
	number(s.offset)
	number(s.size)
	number(int64(s.end - s.first))
	mac.Write(line)
	for _, m := range p.members[s.first:s.end] {
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
