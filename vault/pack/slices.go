package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// sliced is what a plan knows about a file that is cut into slices.
type sliced struct {
	mediaType string
	sum       []byte // SHA-256 of the file
	head      []byte // what each slice but the first repeats
	parquet   *parquetFile
	field     string // slices are by its values
	order     []byte // then: where they lie in the file
}

// SliceName is the name of a slice that is a file of its own: NAME-000003.csv
// for slice 3 of NAME.csv.
func SliceName(name string, part int) string {
	ext := path.Ext(name)
	return fmt.Sprintf("%s-%06d%s", strings.TrimSuffix(name, ext), part, ext)
}

// peek gives the first bytes of the plan's file.
func (p *Plan) peek() ([]byte, error) {
	f, err := p.openMember(&p.members[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	start := make([]byte, 4096)
	n, err := io.ReadFull(f, start)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, localFault("pack.NewPlan", "cannot read "+quote(p.name), err)
	}
	return start[:n], nil
}

const byteOrderMark = "\ufeff"

// formatOf looks at a file's name and first bytes.
func formatOf(name string, start []byte) Format {
	switch strings.ToLower(path.Ext(name)) {
	case ".jsonl", ".ndjson":
		text := bytes.TrimSpace(bytes.TrimPrefix(start, []byte(byteOrderMark)))
		if len(text) > 0 && (text[0] == '{' || text[0] == '[') {
			return FormatJSONL
		}
	case ".parquet":
		if bytes.HasPrefix(start, []byte(parquetMagic)) {
			return FormatParquet
		}
	case ".csv":
		if len(start) > 0 && bytes.IndexByte(start, 0) < 0 {
			return FormatCSV
		}
	}
	return FormatFile
}

// cutLines cuts JSONL at line ends.
func (p *Plan) cutLines(ctx context.Context, opts Options) error {
	p.sliced = &sliced{mediaType: "application/jsonl"}
	c := cutter{plan: p, opts: opts}
	var err error
	if p.sliced.sum, err = p.scan(ctx, &lineSplitter{}, c.add); err != nil {
		return err
	}
	return c.finish()
}

// cutCSV cuts CSV at record ends. The first record is the header.
func (p *Plan) cutCSV(ctx context.Context, opts Options, start []byte) error {
	p.sliced = &sliced{mediaType: "text/csv"}
	c := cutter{plan: p, opts: opts, header: true}
	var err error
	if p.sliced.sum, err = p.scan(ctx, newCSVSplitter(start), c.add); err != nil {
		return err
	}
	if err := p.readHead(c.headerSize); err != nil {
		return err
	}
	return c.finish()
}

// readHead reads the first size bytes of the file: its header.
func (p *Plan) readHead(size int64) error {
	f, err := p.openMember(&p.members[0])
	if err != nil {
		return err
	}
	defer f.Close()
	p.sliced.head = make([]byte, size)
	if _, err := io.ReadFull(f, p.sliced.head); err != nil {
		return readFault(p.name, err)
	}
	return unchanged(f, &p.members[0])
}

// cutter fills slices with records.
type cutter struct {
	plan       *Plan
	opts       Options
	header     bool  // the first record is one
	headerSize int64 // of a file with a header, once it was read
	cur        shard
	units      int // records in cur, blank ones included
}

func (c *cutter) add(r record) error {
	if c.isHeader(r) {
		return c.takeHeader(r)
	}
	full := c.cur.size+r.size > c.opts.ShardSize || c.opts.Records > 0 && !r.blank && c.cur.records == int64(c.opts.Records)
	if c.units > 0 && full {
		c.plan.add(c.cur)
		if len(c.plan.shards) >= dataset.MaxShards {
			return tooManyShards()
		}
		c.cur = shard{end: 1, files: 1, offset: r.offset, size: c.headerSize, head: c.headerSize}
		c.units = 0
	}
	c.cur.size += r.size
	c.units++
	if !r.blank {
		c.cur.records++
	}
	return nil
}

// isHeader reports whether r is the header, or a blank line around it.
func (c *cutter) isHeader(r record) bool {
	return c.header && (c.headerSize == 0 || c.headerSize == r.offset && r.blank)
}

// takeHeader adds the header, and the blank lines around it, to slice 0.
func (c *cutter) takeHeader(r record) error {
	c.cur.size += r.size
	if c.cur.size > maxHeader {
		return fault.New(fault.Invalid, "pack.NewPlan", fmt.Sprintf("the header of %s has more than %d KiB", quote(c.plan.name), maxHeader>>10)).
			WithHint("its first record should name the fields; --format file pushes it without looking")
	}
	if !r.blank || c.headerSize > 0 {
		c.headerSize = c.cur.size
	}
	return nil
}

// finish adds the last slice. A file of one slice is not cut.
func (c *cutter) finish() error {
	p := c.plan
	c.cur.end, c.cur.files = 1, 1
	p.add(c.cur)
	if len(p.shards) == 1 {
		return p.uncut()
	}
	p.shards[0].end, p.shards[0].files = 1, 1
	p.packing, p.files = dataset.PackSlice, 1
	return p.checkPieceName()
}

// uncut makes the file one shard, as it is.
func (p *Plan) uncut() error {
	p.shards, p.total, p.files = nil, 0, 0
	p.packing = dataset.PackFile
	p.add(shard{end: 1, files: 1, size: p.members[0].size})
	return nil
}

// writeSlice writes what the slice repeats, its piece of the file, and what
// makes it a file of its own.
func (p *Plan) writeSlice(out *hashWriter, s shard) error {
	if _, err := out.Write(p.sliced.head[:s.head]); err != nil {
		return err
	}
	f, err := p.openMember(&p.members[0])
	if err != nil {
		return err
	}
	if s.runs != nil {
		return p.writeRuns(out, f, s)
	}
	if err := copyMember(out, f, &p.members[0], s.offset, s.size-s.head-s.tail); err != nil {
		return err
	}
	if s.tail > 0 {
		_, err = out.Write(p.sliced.parquet.footer(s.group, s.groupEnd, s.offset-s.head))
	}
	return err
}
