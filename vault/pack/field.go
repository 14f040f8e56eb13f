package pack

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

const (
	// MaxValues is the most values that a field may have to shard by it.
	MaxValues = 2_000
	// maxValue is the most bytes of such a value, and of a field's name.
	maxValue = 1 << 10
	// maxOrder is the most bytes of the record of where slices lie in a file.
	maxOrder = 64 << 20
)

// cutByField makes a slice of the records of each value of a field, in order of
// its first record, and one shard more that says where they lie in the file.
func (p *Plan) cutByField(ctx context.Context, opts Options, format Format, start []byte) error {
	if len(opts.Field) > maxValue {
		return fault.New(fault.Invalid, "pack.NewPlan", fmt.Sprintf("the field's name has more than %d bytes", maxValue)).WithHint("name one field")
	}
	g := &grouper{plan: p, field: opts.Field, byValue: map[string]*group{}}
	var err error
	if format == FormatCSV {
		p.sliced = &sliced{mediaType: "text/csv", field: opts.Field}
		s := newCSVSplitter(start)
		header := cutter{plan: p, header: true}
		p.sliced.sum, err = p.scan(ctx, s, func(r record) error {
			if header.isHeader(r) {
				if err := header.takeHeader(r); err != nil || r.blank {
					return err
				}
				return p.findColumn(s, header.headerSize, opts.Field)
			}
			return g.add(r, s)
		})
		if err == nil {
			err = p.readHead(header.headerSize)
		}
	} else {
		p.sliced = &sliced{mediaType: "application/jsonl", field: opts.Field}
		s := &lineSplitter{field: opts.Field}
		p.sliced.sum, err = p.scan(ctx, s, func(r record) error { return g.add(r, s) })
	}
	if err != nil {
		return err
	}
	return g.finish()
}

// findColumn reads the header and tells s which column the field is.
func (p *Plan) findColumn(s *csvSplitter, size int64, field string) error {
	if err := p.readHead(size); err != nil {
		return err
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(p.sliced.head, []byte(byteOrderMark))))
	r.Comma = rune(s.comma)
	names, err := r.Read()
	if s.wanted = slices.Index(names, field); err == nil && s.wanted >= 0 {
		return nil
	}
	return noField(p.name, field, "its header names: "+quote(strings.Join(names, ", ")))
}

func noField(name, field, hint string) error {
	return fault.New(fault.Invalid, "pack.NewPlan", quote(name)+" has no field "+quote(field)).WithHint(hint)
}

// valuer is a splitter that knows the field of the record that just ended.
type valuer interface {
	// value gives it in a form that tells all values apart, and as text. Found
	// is false when the record has no such field.
	value() (key, text string, found bool, err error)
}

// value reads the field of a line; absent and null are the same.
func (s *lineSplitter) value() (key, text string, found bool, err error) {
	line := bytes.TrimPrefix(s.text, []byte(byteOrderMark))
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return "", "", false, errors.New("it is not a JSON object")
	}
	raw, found := fields[s.field]
	if !found || string(raw) == "null" {
		return "", "", found, nil
	}
	switch raw[0] {
	case '{', '[':
		return "", "", true, errors.New("its field is not a single value")
	case '"':
		err = json.Unmarshal(raw, &text)
		return `"` + text, text, true, err
	}
	return string(raw), string(raw), true, nil
}

func (s *csvSplitter) value() (key, text string, found bool, err error) {
	text = string(s.text)
	if !s.quoted {
		text = strings.TrimSuffix(text, "\r")
	}
	return text, text, true, nil
}

// group is the records of one value.
type group struct {
	value   string
	runs    []byte // where they lie: the gap before each run, and its size
	end     int64  // of the runs, in the file
	start   int64  // of the open run
	next    int64  // its end so far
	size    int64
	records int64
}

// put adds the bytes of a record.
func (g *group) put(offset, size int64) {
	if offset != g.next {
		g.flush()
		g.start = offset
	}
	g.next = offset + size
	g.size += size
}

func (g *group) flush() {
	if g.next > g.start {
		g.runs = binary.AppendUvarint(g.runs, uint64(g.start-g.end))
		g.runs = binary.AppendUvarint(g.runs, uint64(g.next-g.start))
		g.end = g.next
	}
}

// grouper fills slices by value.
type grouper struct {
	plan    *Plan
	field   string
	byValue map[string]*group
	groups  []*group // in order of their first records
	last    *group   // of the record before
	runs    int64    // bytes of all runs
	found   bool     // some record has the field
}

func (g *grouper) add(r record, from valuer) error {
	const op = "pack.NewPlan"
	key, text, found, err := "", "", false, error(nil)
	if !r.blank {
		key, text, found, err = from.value()
	}
	if err == nil && len(text) > maxValue {
		err = fmt.Errorf("its field has more than %d bytes", maxValue)
	}
	if err != nil {
		return fault.New(fault.Invalid, op, fmt.Sprintf("line %d of %s: %v", r.line, quote(g.plan.name), err)).
			WithHint("repair it, or choose a field of which every record has a single short value")
	}
	to := g.byValue[key]
	switch {
	case r.blank && g.last == nil:
		return nil // the first record takes what is before it
	case r.blank:
		to = g.last // it belongs to the record before
	case to == nil:
		if len(g.groups) == MaxValues {
			return fault.New(fault.TooLarge, op, fmt.Sprintf("the field %s has more than %d values", quote(g.field), MaxValues)).
				WithHint("choose a field with fewer values, or cut with --records")
		}
		to = &group{value: text}
		g.byValue[key] = to
		g.groups = append(g.groups, to)
	}
	before := len(to.runs)
	if g.last == nil {
		r.offset, r.size = 0, r.offset+r.size
	}
	to.put(r.offset, r.size)
	if !r.blank {
		to.records++
	}
	g.last, g.found = to, g.found || found
	if g.runs += int64(len(to.runs) - before); g.runs > maxOrder-MaxValues*4*binary.MaxVarintLen64 {
		return fault.New(fault.TooLarge, op, "the records of "+quote(g.plan.name)+" change their "+quote(g.field)+" too often").
			WithHint("sort the file by the field, or cut it with --records")
	}
	return nil
}

func (g *grouper) finish() error {
	p := g.plan
	if !g.found && len(g.groups) > 0 {
		return noField(p.name, g.field, "every line is an object; name one of its fields")
	}
	if len(g.groups) < 2 {
		return p.uncut()
	}
	order := append([]byte(orderMagic), binary.AppendUvarint(nil, uint64(len(g.groups)))...)
	for i, group := range g.groups {
		group.flush()
		order = append(binary.AppendUvarint(order, uint64(len(group.runs))), group.runs...)
		s := shard{end: 1, files: 1, size: group.size, records: group.records, runs: group.runs, value: group.value}
		if i > 0 { // the first has the header itself
			s.head = int64(len(p.sliced.head))
			s.size += s.head
		}
		p.add(s)
	}
	p.sliced.order = order
	p.add(shard{end: 1, size: int64(len(order))})
	p.packing, p.files = dataset.PackSlice, 1
	if err := p.checkCount(); err != nil {
		return err
	}
	return p.checkPieceName()
}

// isOrder reports whether shard n only says where the slices lie.
func (p *Plan) isOrder(n int) bool {
	return p.packing == dataset.PackSlice && p.sliced.order != nil && n == len(p.shards)-1
}
