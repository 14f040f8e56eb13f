package pack

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

const (
	parquetMagic    = "PAR1"
	parquetEnd      = 4 + len(parquetMagic) // the footer's length and the magic
	maxFooter       = 64 << 20
	maxRowGroups    = 1_000_000
	maxGroupColumns = 1_000_000
)

// errUncuttable marks a Parquet file that is well but cannot be cut.
var errUncuttable = errors.New("it is encrypted, refers to other files or has its row groups in another order")

// parquetFile is what the footer of a Parquet file says about its row groups,
// checked against the file.
//
// Slice n is a Parquet file of its own: the bytes of the original from its
// first row group up to that of the next slice, the magic before them, and a
// footer for these row groups behind. So all bytes of the original are in
// exactly one slice, its own footer and indexes in the last one.
type parquetFile struct {
	fields []thriftField // of FileMetaData
	groups []rowGroup    // in order of the file
}

type rowGroup struct {
	raw        []byte // RowGroup, encoded
	start, end int64  // in the file
	rows       int64
}

// Fields of parquet.thrift.
const (
	fileRows, fileGroups, fileEncryption, fileSigning                            = 3, 4, 8, 9
	groupColumns, groupRows, groupOffset, groupOrdinal                           = 1, 3, 5, 7
	chunkPath, chunkOffset, chunkMeta, chunkIndexes, chunkIndexesEnd, chunkCrypt = 1, 2, 3, 4, 7, 8
	metaSize, metaData, metaIndex, metaDictionary, metaBloom, metaBloomEnd       = 7, 9, 10, 11, 14, 15
)

// cutParquet cuts a Parquet file between row groups.
func (p *Plan) cutParquet(ctx context.Context, opts Options) error {
	file, err := p.readParquet()
	if errors.Is(err, errUncuttable) && opts.Format == FormatAuto && opts.Records == 0 {
		return p.cutParts(opts.ShardSize)
	}
	var known *fault.Error
	if err != nil && !errors.As(err, &known) {
		return fault.Wrap(fault.Invalid, "pack.NewPlan", fmt.Sprintf("%s cannot be cut as Parquet: %v", quote(p.name), err), err).
			WithHint("check the file with the tool that wrote it, or push it in plain parts with --format file")
	}
	if err != nil {
		return err
	}
	p.sliced = &sliced{mediaType: "application/vnd.apache.parquet", head: []byte(parquetMagic), parquet: file}
	if err := p.cutGroups(file, opts); err != nil || p.packing == dataset.PackFile {
		return err
	}
	p.sliced.sum, err = p.hash(ctx)
	return err
}

// hash reads the plan's file.
func (p *Plan) hash(ctx context.Context) ([]byte, error) {
	f, err := p.openMember(&p.members[0])
	if err != nil {
		return nil, err
	}
	out := newHashWriter(ctx, io.Discard)
	defer out.release()
	if err := copyMember(out, f, &p.members[0], 0, p.members[0].size); err != nil {
		return nil, err
	}
	if err := out.flush(); err != nil {
		return nil, err
	}
	sum := out.sums().sum
	return sum[:], nil
}

// cutGroups fills slices with row groups. A row group's entry does not grow when
// it moves to the front, so that the size of a footer is bounded before it is
// made.
func (p *Plan) cutGroups(file *parquetFile, opts Options) error {
	base := int64(len(file.footer(0, 0, 0))) + 2*binary.MaxVarintLen64 // for the two counts
	cur, footer := shard{end: 1, files: 1}, base
	for i, g := range file.groups {
		footer += int64(len(g.raw))
		full := cur.head+g.end-cur.offset+footer > opts.ShardSize || opts.Records > 0 && cur.records+g.rows > int64(opts.Records)
		if i > cur.group && full {
			p.add(cur)
			cur = shard{end: 1, files: 1, offset: g.start, head: int64(len(parquetMagic)), group: i}
			footer = base + int64(len(g.raw))
		}
		cur.groupEnd, cur.records = i+1, cur.records+g.rows
	}
	p.add(cur)
	size := p.members[0].size
	if len(p.shards) == 1 {
		return p.uncut()
	}
	if base*int64(len(p.shards)) > size+maxFooter {
		return fault.New(fault.Invalid, "pack.NewPlan", quote(p.name)+" has row groups that are smaller than its schema").
			WithHint("choose a larger --shard-size, or push it in plain parts with --format file")
	}
	p.packing, p.total, p.files = dataset.PackSlice, 0, 1
	for i := range p.shards {
		s, end := &p.shards[i], size
		if i+1 < len(p.shards) {
			end = p.shards[i+1].offset
		}
		s.tail = int64(len(file.footer(s.group, s.groupEnd, s.offset-s.head)))
		s.size = s.head + end - s.offset + s.tail
		p.total += s.size
	}
	if err := p.checkPieceName(); err != nil {
		return err
	}
	return p.checkCount()
}

// readParquet reads and checks the footer, in work that its size bounds.
func (p *Plan) readParquet() (*parquetFile, error) {
	f, err := p.openMember(&p.members[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unchanged(f, &p.members[0]); err != nil {
		return nil, err
	}
	size := p.members[0].size
	raw, err := readFooter(f, size)
	if err != nil {
		return nil, err
	}
	fields, rest, err := readStruct(raw, 0)
	if err != nil || len(rest) > 0 {
		return nil, errThrift
	}
	file := &parquetFile{fields: fields}
	total, rows := int64(-1), int64(0)
	data := size - int64(parquetEnd) - int64(len(raw)) // row groups end here
	for _, field := range fields {
		switch {
		case field.id == fileEncryption || field.id == fileSigning:
			return nil, errUncuttable
		case field.id == fileRows:
			if total, err = field.number(); err != nil {
				return nil, err
			}
		case field.id == fileGroups && field.kind == thriftList && file.groups == nil:
			if err := file.readGroups(field.raw, data); err != nil {
				return nil, err
			}
		case field.id == fileGroups:
			return nil, errThrift
		}
	}
	for _, g := range file.groups {
		if rows += g.rows; rows < 0 {
			return nil, errors.New("it counts more rows than there can be")
		}
	}
	if total != rows {
		return nil, fmt.Errorf("its row groups have %d rows and it says %d", rows, total)
	}
	return file, file.checkOrder()
}

func readFooter(f *os.File, size int64) ([]byte, error) {
	if size < int64(len(parquetMagic)+parquetEnd) {
		return nil, errors.New("it is too short")
	}
	var end [parquetEnd]byte
	if _, err := f.ReadAt(end[:], size-int64(parquetEnd)); err != nil {
		return nil, readFault(f.Name(), err)
	}
	length := int64(binary.LittleEndian.Uint32(end[:]))
	switch {
	case string(end[4:]) == "PARE":
		return nil, errUncuttable
	case string(end[4:]) != parquetMagic:
		return nil, errors.New("it does not end as a Parquet file does")
	case length > maxFooter:
		return nil, fmt.Errorf("its footer has more than %d MiB", maxFooter>>20)
	case length > size-int64(len(parquetMagic)+parquetEnd):
		return nil, errors.New("its footer is larger than the file")
	}
	raw := make([]byte, length)
	if _, err := f.ReadAt(raw, size-int64(parquetEnd)-length); err != nil {
		return nil, readFault(f.Name(), err)
	}
	return raw, nil
}

func (file *parquetFile) readGroups(list []byte, data int64) error {
	kind, count, _, err := listHead(list)
	if err != nil || kind != thriftStruct && count > 0 {
		return errThrift
	}
	if count > maxRowGroups {
		return fmt.Errorf("it has more than %d row groups", maxRowGroups)
	}
	file.groups = make([]rowGroup, 0, count)
	_, err = eachItem(list, 0, func(raw []byte) error {
		g, err := readGroup(raw, data)
		if err != nil {
			return fmt.Errorf("row group %d: %w", len(file.groups), err)
		}
		if g.start < 0 { // without data: where the one before it ends
			g.start = int64(len(parquetMagic))
			if n := len(file.groups); n > 0 {
				g.start = file.groups[n-1].end
			}
			g.end = g.start
		}
		file.groups = append(file.groups, g)
		return nil
	})
	return err
}

// span is where a column chunk lies in the file.
type span struct{ start, end int64 }

// readGroup checks that the column chunks of a row group lie in the file's data
// and apart. Its start is -1 if it has none.
func readGroup(raw []byte, data int64) (rowGroup, error) {
	g := rowGroup{raw: raw, start: -1}
	fields, _, err := readStruct(raw, 1)
	if err != nil {
		return g, err
	}
	var spans []span
	for _, f := range fields {
		switch {
		case f.id == groupRows:
			if g.rows, err = f.number(); err == nil && g.rows < 0 {
				err = errors.New("it has fewer than no rows")
			}
		case f.id == groupColumns && f.kind == thriftList:
			_, err = eachItem(f.raw, 1, func(chunk []byte) error {
				s, err := readChunk(chunk, data)
				if s.end > s.start {
					spans = append(spans, s)
				}
				if len(spans) > maxGroupColumns {
					return fmt.Errorf("it has more than %d columns", maxGroupColumns)
				}
				return err
			})
		}
		if err != nil {
			return g, err
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	for i, s := range spans {
		if i > 0 && s.start < spans[i-1].end {
			return g, errors.New("its columns overlap")
		}
	}
	if len(spans) > 0 {
		g.start, g.end = spans[0].start, spans[len(spans)-1].end
	}
	return g, nil
}

// readChunk gives the place of a column chunk.
func readChunk(raw []byte, data int64) (span, error) {
	fields, _, err := readStruct(raw, 2)
	if err != nil {
		return span{}, err
	}
	var meta []thriftField
	for _, f := range fields {
		switch {
		case f.id == chunkPath || f.id >= chunkCrypt:
			return span{}, errUncuttable
		case f.id == chunkMeta && f.kind == thriftStruct:
			if meta, _, err = readStruct(f.raw, 3); err != nil {
				return span{}, err
			}
		}
	}
	var pages, dictionary, size int64 = -1, 0, -1
	for _, f := range meta {
		var to *int64
		switch f.id {
		case metaData:
			to = &pages
		case metaDictionary:
			to = &dictionary
		case metaSize:
			to = &size
		default:
			continue
		}
		if *to, err = f.number(); err != nil {
			return span{}, err
		}
	}
	start := pages
	if dictionary > 0 {
		start = min(start, dictionary)
	}
	switch {
	case size == 0:
		return span{}, nil
	case start < int64(len(parquetMagic)) || size < 0 || start > data || size > data-start:
		return span{}, errors.New("a column lies outside the file's data")
	case max(pages, dictionary) >= start+size:
		return span{}, errors.New("a column's pages lie outside the column")
	}
	return span{start, start + size}, nil
}

func (file *parquetFile) checkOrder() error {
	byStart := slices.Clone(file.groups)
	slices.SortStableFunc(byStart, func(a, b rowGroup) int { return cmp.Compare(a.start, b.start) })
	for i := 1; i < len(byStart); i++ {
		if byStart[i].start < byStart[i-1].end {
			return errors.New("its row groups overlap")
		}
	}
	for i := range byStart {
		if byStart[i].start != file.groups[i].start {
			return errUncuttable
		}
	}
	return nil
}

// footer makes the end of a Parquet file that has the row groups first to end,
// which lie shift bytes further to the front than in the original. The indexes
// and Bloom filters of the original, which may lie elsewhere, are left out.
func (file *parquetFile) footer(first, end int, shift int64) []byte {
	groups, rows := file.groups[first:end], int64(0)
	list := appendListHead(nil, len(groups))
	for i, g := range groups {
		list = append(list, g.moved(shift, i)...)
		rows += g.rows
	}
	fields := slices.Clone(file.fields)
	for i, f := range fields {
		switch f.id {
		case fileRows:
			fields[i] = f.with(rows)
		case fileGroups:
			fields[i].raw = list
		}
	}
	b := appendStruct(nil, fields)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(b)))
	return append(b, parquetMagic...)
}

// moved encodes the row group for another place. What it reads was read before.
func (g rowGroup) moved(shift int64, ordinal int) []byte {
	return edit(g.raw, func(f thriftField) (thriftField, bool) {
		switch {
		case f.id == groupColumns:
			_, count, _, _ := listHead(f.raw)
			f2 := thriftField{f.id, f.kind, appendListHead(nil, count)}
			_, _ = eachItem(f.raw, 1, func(chunk []byte) error {
				f2.raw = append(f2.raw, movedChunk(chunk, shift)...)
				return nil
			})
			return f2, true
		case f.id == groupOffset:
			return f.moved(shift), true
		case f.id == groupOrdinal:
			return f.with(int64(ordinal)), ordinal <= math.MaxInt16
		}
		return f, true
	})
}

func movedChunk(raw []byte, shift int64) []byte {
	return edit(raw, func(f thriftField) (thriftField, bool) {
		switch {
		case f.id == chunkOffset:
			return f.moved(shift), true
		case f.id == chunkMeta:
			f.raw = edit(f.raw, func(f thriftField) (thriftField, bool) {
				switch f.id {
				case metaData, metaIndex, metaDictionary:
					return f.moved(shift), true
				}
				return f, f.id < metaBloom || f.id > metaBloomEnd
			})
			return f, true
		}
		return f, f.id < chunkIndexes || f.id > chunkIndexesEnd
	})
}

// moved shifts an offset. One that was never a place in the data becomes 0.
func (f thriftField) moved(shift int64) thriftField {
	v, err := f.number()
	if err != nil || v <= shift {
		return f.with(0)
	}
	return f.with(v - shift)
}

// edit encodes a struct with each field changed or left out.
func edit(raw []byte, change func(thriftField) (thriftField, bool)) []byte {
	fields, _, _ := readStruct(raw, 0)
	kept := fields[:0]
	for _, f := range fields {
		if f, ok := change(f); ok {
			kept = append(kept, f)
		}
	}
	return appendStruct(nil, kept)
}
