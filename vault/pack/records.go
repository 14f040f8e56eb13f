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
	// where is the number of the line that an error is about, from 1.
	where() int64
}

// record is where a record lies in the file.
type record struct {
	offset, size int64
	line         int64 // its first line, from 1
	blank        bool  // it has nothing but white space
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
			cur.blank = cur.blank && len(bytes.TrimSpace(b[:n])) == 0
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
type lineSplitter struct{ line int64 }

func (s *lineSplitter) take(b []byte) (int, bool, error) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return len(b), false, nil
	}
	s.line++
	return i + 1, true, nil
}

func (s *lineSplitter) end() error   { return nil }
func (s *lineSplitter) where() int64 { return s.line + 1 }

// csvSplitter splits where RFC 4180 says: at newlines that are not inside
// quotes.
type csvSplitter struct {
	comma  byte
	skip   int // bytes at the file's start that are no text
	state  csvState
	line   int64 // newlines so far
	opened int64 // where the last quote was opened
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
	i := min(s.skip, len(b))
	s.skip -= i
	for ; i < len(b); i++ {
		if s.state == csvQuoted { // the only state that may be long
			quote := bytes.IndexByte(b[i:], '"')
			if quote < 0 {
				s.line += int64(bytes.Count(b[i:], newline))
				return len(b), false, nil
			}
			s.line += int64(bytes.Count(b[i:i+quote], newline))
			s.state = csvQuote
			i += quote
			continue
		}
		c := b[i]
		switch {
		case c == '\n':
			s.state = csvStart
			s.line++
			return i + 1, true, nil
		case s.state == csvReturn:
			return 0, false, errAfterQuote
		case c == s.comma:
			s.state = csvStart
		case c == '"' && s.state == csvStart:
			s.state, s.opened = csvQuoted, s.line+1
		case c == '"' && s.state == csvQuote:
			s.state = csvQuoted
		case c == '"':
			return 0, false, errBareQuote
		case s.state == csvQuote && c == '\r':
			s.state = csvReturn
		case s.state == csvQuote:
			return 0, false, errAfterQuote
		default:
			s.state = csvPlain
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
