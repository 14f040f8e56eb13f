package dataset

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"strings"
	"unicode"

	"dsvault/vault/fault"
)

// IndexVersion is the version of indexes that this program writes and reads.
const IndexVersion = 1

// What an index may have at the most.
const (
	MaxIndex      = 64 << 20 // bytes
	MaxMembers    = 1 << 20
	MaxMemberName = 4096 // bytes
	maxMemberType = 100  // bytes
	maxIndexLine  = 32 << 10
)

// Member is a file inside a shard.
type Member struct {
	Name   string   `json:"name"`           // its path, with slashes
	Offset int64    `json:"offset"`         // of its first byte in the shard's plaintext
	Size   int64    `json:"size"`           // bytes
	Type   string   `json:"type,omitempty"` // media type, by its name
	SHA256 HexBytes `json:"sha256"`
}

// Index lists the members of one shard, in the order in which they lie in it.
// Like a manifest it travels sealed, since names of files are client data; it is
// an object of its own beside the shard's.
//
// Its form is JSON lines: an IndexHead, then the members. There is exactly one
// encoding of each index.
type Index struct {
	Number  int // of the shard
	Size    int64
	Members []Member
}

// IndexHead is the first line of an index.
type IndexHead struct {
	Version int   `json:"version"` // IndexVersion
	Number  int   `json:"number"`  // of the shard in its dataset
	Size    int64 `json:"size"`    // of the shard's plaintext, bytes
	Members int   `json:"members"` // how many lines follow
}

// Encode writes the index. One that is too large is TooLarge; one that ScanIndex
// would not take is Invalid.
func (x Index) Encode() ([]byte, error) {
	const op = "dataset.Encode"
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	check := newIndexCheck(IndexHead{IndexVersion, x.Number, x.Size, len(x.Members)})
	if err := check.head.check(); err != nil {
		return nil, err
	}
	if err := enc.Encode(check.head); err != nil {
		return nil, fault.Wrap(fault.Internal, op, "cannot encode an index", err)
	}
	for i := range x.Members {
		if err := check.next(&x.Members[i]); err != nil {
			return nil, err
		}
		if err := enc.Encode(&x.Members[i]); err != nil {
			return nil, fault.Wrap(fault.Internal, op, "cannot encode an index", err)
		}
		if out.Len() > MaxIndex {
			return nil, indexTooLarge()
		}
	}
	return out.Bytes(), nil
}

// ParseIndex reads what Encode wrote, with the errors of ScanIndex.
func ParseIndex(data []byte) (Index, error) {
	var x Index
	head, err := ScanIndex(bytes.NewReader(data), func(_ IndexHead, m Member) error {
		x.Members = append(x.Members, m)
		return nil
	})
	if err != nil {
		return Index{}, err
	}
	x.Number, x.Size = head.Number, head.Size
	return x, nil
}

// ScanIndex reads an index to its end and calls each with every member. Nothing
// but the one encoding is taken: known fields, once each; names that are paths
// below a folder, no two the same; members that lie inside the shard, one behind
// the other. Anything else is Invalid, more than the limits TooLarge; an error of
// r keeps its code, one of each is returned as it is. What each has heard is only
// good if no error follows.
func ScanIndex(r io.Reader, each func(IndexHead, Member) error) (IndexHead, error) {
	limited := &io.LimitedReader{R: r, N: MaxIndex + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 0, 4096), maxIndexLine)
	lines.Split(wholeLines)
	next := func() ([]byte, error) {
		if !lines.Scan() {
			if limited.N == 0 {
				return nil, indexTooLarge()
			}
			return nil, lines.Err()
		}
		return lines.Bytes(), nil
	}
	line, err := next()
	if err != nil {
		return IndexHead{}, indexFault(err)
	}
	var head IndexHead
	if err := parseLine(line, &head); err != nil {
		return IndexHead{}, err
	}
	if err := head.check(); err != nil {
		return IndexHead{}, err
	}
	check := newIndexCheck(head)
	for range head.Members {
		if line, err = next(); err != nil {
			return head, indexFault(err)
		}
		var m Member
		if err := parseLine(line, &m); err != nil {
			return head, err
		}
		if err := check.next(&m); err != nil {
			return head, err
		}
		if err := each(head, m); err != nil {
			return head, err
		}
	}
	if line, err = next(); err != nil {
		return head, indexFault(err)
	}
	if line != nil {
		return head, badIndex("it has more members than it says")
	}
	return head, nil
}

var errCutLine = errors.New("a line without an end")

// wholeLines is bufio.ScanLines for lines that all end in one newline.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, errCutLine
	}
	return 0, nil, nil
}

// parseLine reads one line into v and takes it only if v would be written so.
func parseLine(line []byte, v any) error {
	if err := json.Unmarshal(line, v); err != nil {
		return fault.Wrap(fault.Invalid, "dataset.ScanIndex", "not an index", err)
	}
	var again bytes.Buffer
	enc := json.NewEncoder(&again)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil || !bytes.Equal(again.Bytes(), line) {
		return fault.Wrap(fault.Invalid, "dataset.ScanIndex", "not an index, or one of another version", err)
	}
	return nil
}

func (h IndexHead) check() error {
	switch {
	case h.Version != IndexVersion:
		return badIndex("its version is not known").WithHint("a newer dsvault may know it")
	case h.Number < 0 || h.Number >= MaxShards || h.Size < 0 || h.Members < 0:
		return badIndex("its number or size cannot be")
	case h.Members > MaxMembers:
		return indexTooLarge()
	}
	return nil
}

// indexCheck checks the members of an index one by one.
type indexCheck struct {
	head  IndexHead
	end   int64 // of the member before
	seed  maphash.Seed
	names map[uint64]struct{}
}

func newIndexCheck(head IndexHead) *indexCheck {
	return &indexCheck{head: head, seed: maphash.MakeSeed(), names: map[uint64]struct{}{}}
}

func (c *indexCheck) next(m *Member) error {
	switch {
	case len(m.Name) > MaxMemberName || !isName(m.Name, true) || strings.IndexFunc(m.Name, unicode.IsControl) >= 0:
		return badIndex("a member's name cannot be")
	case m.Offset < c.end || m.Size < 0 || m.Size > c.head.Size || m.Offset > c.head.Size-m.Size:
		return badIndex("a member lies outside the shard or in another one")
	case len(m.SHA256) != 32 || !isMediaType(m.Type):
		return badIndex("a member's type or hash cannot be")
	}
	// A seeded 64-bit hash stands for the name: a million of them fit into little.
	key := maphash.String(c.seed, m.Name)
	if _, twice := c.names[key]; twice {
		return badIndex("two members have one name")
	}
	c.names[key] = struct{}{}
	c.end = m.Offset + m.Size
	return nil
}

// isMediaType reports whether s is empty or a plain TYPE/SUBTYPE.
func isMediaType(s string) bool {
	kind, sub, ok := strings.Cut(s, "/")
	word := func(s string) bool {
		return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.+-") == ""
	}
	return s == "" || ok && len(s) <= maxMemberType && word(kind) && word(sub)
}

func badIndex(why string) *fault.Error {
	return fault.New(fault.Invalid, "dataset.ScanIndex", "the index is wrong: "+why)
}

func indexTooLarge() error {
	return fault.New(fault.TooLarge, "dataset.ScanIndex", fmt.Sprintf("an index has at most %d MiB and %d members", MaxIndex>>20, MaxMembers))
}

// indexFault classifies what ended the reading of lines; nil is their end.
func indexFault(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bufio.ErrTooLong):
		return indexTooLarge()
	case errors.Is(err, errCutLine):
		return badIndex("it is cut short")
	}
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	return fault.Wrap(fault.CodeOf(err), "dataset.ScanIndex", "the index cannot be read", err)
}
