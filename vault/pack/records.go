package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"dsvault/vault/fault"
)

const (
	// MaxRecord is the most bytes of a line of JSONL or a record of CSV.
	MaxRecord = 64 << 20
	// maxHeader is the most bytes of the header of a CSV file: every slice
	// repeats it.
	maxHeader = 1 << 20
)

// splitter finds the ends of records in a stream that comes in chunks.
type splitter interface {
	// take reads on in b. It gives the number of bytes up to the end of the
	// record, or all of b when that is not in b.
	take(b []byte) (n int, done bool, err error)
	// end is called when the file ends inside a record.
	end() error
	// blank reports whether a piece of a record could be of a blank line.
	blank(piece []byte) bool
	// where is the number of the line that an error is about, from 1.
	where() int64
}

// record is where a record lies in the file.
type record struct {
	offset, size int64
	line         int64 // its first line, from 1
	blank        bool  // it is a blank line, of which no reader makes a record
}

// scan reads the plan's file once, in bounded memory, and calls each for every
// record in turn. It gives the file's hash.
func (p *Plan) scan(ctx context.Context, s splitter, each func(record) error) ([]byte, error) {
	const op = "pack.NewPlan"
	f, err := p.openMember(&p.members[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unchanged(f, &p.members[0]); err != nil {
		return nil, err
	}
	in := newHashReader(ctx, f, p.members[0].size)
	defer in.close()
	bad := func(line int64, why error) error {
		return fault.New(fault.Invalid, op, fmt.Sprintf("line %d of %s: %v", line, quote(p.name), why)).
			WithHint("repair the file, or push it uncut or in plain parts with --format file")
	}
	cur := record{line: 1, blank: true}
	finish := func() error {
		err := each(cur)
		cur = record{offset: cur.offset + cur.size, line: s.where(), blank: true}
		return err
	}
	for {
		if err := in.next(); err == io.EOF {
			break
		} else if err != nil {
			return nil, localFault(op, "cannot read "+quote(p.name), err)
		}
		for b := in.rest; len(b) > 0; {
			n, done, err := s.take(b)
			if err != nil {
				return nil, bad(s.where(), err)
			}
			if cur.size += int64(n); cur.size > MaxRecord {
				return nil, bad(cur.line, fmt.Errorf("it has more than %d MiB", MaxRecord>>20))
			}
			cur.blank = cur.blank && s.blank(b[:n])
			b = b[n:]
			if done {
				if err := finish(); err != nil {
					return nil, err
				}
			}
		}
		in.rest = nil
	}
	if cur.size > 0 {
		if err := s.end(); err != nil {
			return nil, bad(s.where(), err)
		}
		if err := finish(); err != nil {
			return nil, err
		}
	}
	if in.limit > 0 {
		return nil, changed(op, p.name, nil)
	}
	return in.close(), unchanged(f, &p.members[0])
}

// lineSplitter splits at newlines.
type lineSplitter struct {
	line  int64
	field string // whose values are wanted
	text  []byte // of the line so far, then
	ended bool   // the line just did
}

func (s *lineSplitter) take(b []byte) (int, bool, error) {
	if s.ended {
		s.text = s.text[:0]
	}
	i := bytes.IndexByte(b, '\n')
	n := i + 1
	s.ended = i >= 0
	if i < 0 {
		n = len(b)
	} else {
		s.line++
	}
	if s.field != "" {
		s.text = append(s.text, b[:n]...)
	}
	return n, i >= 0, nil
}

func (s *lineSplitter) end() error { return nil }

func (s *lineSplitter) blank(piece []byte) bool { return len(bytes.TrimSpace(piece)) == 0 }

func (s *lineSplitter) where() int64 { return s.line + 1 }

// csvSplitter splits where RFC 4180 says: at newlines that are not inside
// quotes.
type csvSplitter struct {
	comma  byte
	skip   int // bytes at the file's start that are no text
	state  csvState
	line   int64 // newlines so far
	opened int64 // where the last quote was opened

	wanted int    // the column whose values are wanted; -1 for none
	column int    // the current one
	ended  bool   // a record just did
	quoted bool   // the wanted column is
	text   []byte // of the wanted column, as far as it matters
}

func newCSVSplitter(start []byte) *csvSplitter {
	s := &csvSplitter{comma: commaOf(start), wanted: -1}
	if bytes.HasPrefix(start, []byte(byteOrderMark+`"`)) {
		s.skip = len(byteOrderMark)
	}
	return s
}

// keep adds to the text of the wanted column.
func (s *csvSplitter) keep(b ...byte) {
	if s.column == s.wanted && len(s.text) <= maxValue {
		s.text = append(s.text, b[:min(len(b), maxValue+1)]...)
	}
}

type csvState int

const (
	csvStart  csvState = iota // of a field
	csvPlain                  // in a field without quotes
	csvQuoted                 // in a field with quotes
	csvQuote                  // behind a quote in such a field
	csvReturn                 // behind a carriage return behind the closing quote
)

var (
	errBareQuote   = errors.New(`there is a " inside a field that does not start with one`)
	errAfterQuote  = errors.New(`something follows the " that closes a field`)
	errOpenedQuote = errors.New(`the " that opens a field is never closed`)
)

func (s *csvSplitter) take(b []byte) (int, bool, error) {
	if s.ended {
		s.ended, s.column, s.text, s.quoted = false, 0, s.text[:0], false
	}
	i := min(s.skip, len(b))
	s.skip -= i
	for ; i < len(b); i++ {
		if s.state == csvQuoted { // the only state that may be long
			quote := bytes.IndexByte(b[i:], '"')
			if quote < 0 {
				s.line += int64(bytes.Count(b[i:], newline))
				s.keep(b[i:]...)
				return len(b), false, nil
			}
			s.line += int64(bytes.Count(b[i:i+quote], newline))
			s.keep(b[i : i+quote]...)
			s.state = csvQuote
			i += quote
			continue
		}
		c := b[i]
		switch {
		case c == '\n':
			s.state, s.ended = csvStart, true
			s.line++
			return i + 1, true, nil
		case s.state == csvReturn:
			return 0, false, errAfterQuote
		case c == s.comma:
			s.state = csvStart
			s.column++
		case c == '"' && s.state == csvStart:
			s.state, s.opened = csvQuoted, s.line+1
			s.quoted = s.quoted || s.column == s.wanted
		case c == '"' && s.state == csvQuote:
			s.state = csvQuoted
			s.keep(c)
		case c == '"':
			return 0, false, errBareQuote
		case s.state == csvQuote && c == '\r':
			s.state = csvReturn
		case s.state == csvQuote:
			return 0, false, errAfterQuote
		default:
			s.state = csvPlain
			if s.column == s.wanted {
				s.keep(c)
			}
		}
	}
	return len(b), false, nil
}

var newline = []byte{'\n'}

func (s *csvSplitter) end() error {
	if s.state == csvQuoted {
		s.line = s.opened - 1
		return errOpenedQuote
	}
	return nil
}

// blank: white space is a record of one field.
func (s *csvSplitter) blank(piece []byte) bool { return len(bytes.Trim(piece, "\r\n")) == 0 }

func (s *csvSplitter) where() int64 { return s.line + 1 }

// commaOf guesses what separates the fields of a CSV file: of the usual ones
// that which is most frequent in its first line, outside quotes.
func commaOf(start []byte) byte {
	counts, quoted := [256]int{}, false
	for _, c := range start {
		if c == '"' {
			quoted = !quoted
		} else if c == '\n' && !quoted {
			break
		} else if !quoted {
			counts[c]++
		}
	}
	best := byte(',')
	for _, c := range []byte(";\t|") {
		if counts[c] > counts[best] {
			best = c
		}
	}
	return best
}
