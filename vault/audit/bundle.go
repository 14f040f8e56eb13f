package audit

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
)

// bundleMagic begins a bundle; its last digit is the version.
const bundleMagic = "dsvault bundle v1\n"

// MaxDetails is the most bytes of personal details that a bundle holds of one
// record.
const MaxDetails = 64 << 10

// The parts of a bundle, in the order in which they come.
const (
	partHeader      = 'H'
	partCheckpoint  = 'C'
	partConsistency = 'K' // at most one
	partStatement   = 'S' // one, unless the whole log is there
	partSlot        = 'E' // ascending; none if the whole log is there
	partRecord      = 'R' // ascending
	partEnd         = 'Z'
)

const (
	maxBundleHeader = 16 << 10
	maxPath         = 2 + MaxProof*32
	maxPart         = 8 + 2 + MaxLeaf + 1 + 32 + 4 + MaxDetails // the largest: a record
)

// BundleHeader says what a bundle is of. It is not signed.
type BundleHeader struct {
	Origin string `json:"origin"` // the log's name
	Key    string `json:"key"`    // the log's note verifier key, for who has not got it elsewhere
	Scope  string `json:"scope"`  // what was asked for
	Whole  bool   `json:"whole"`  // it holds every leaf of the log, else those of some slots

	// Successions lead from an older key of the log to the one that signed. A log
	// of which signed records were lost says so in Recovered.
	Successions [][]byte   `json:"successions,omitempty"`
	Recovered   *Recovered `json:"recovered,omitempty"`
}

// Record is a leaf in a bundle, with the personal details that it commits to
// where they are shown.
type Record struct {
	Index   uint64
	Data    []byte    // the leaf
	Salt    *[32]byte // nil: the details are not shown
	Details []byte

	Leaf Leaf // decoded; a BundleWriter does not look at it
	Hash Hash // of Data; neither at this
}

// BundleWriter writes a bundle part by part. The caller keeps to the order.
type BundleWriter struct {
	w       io.Writer
	records uint64
	buf     []byte
}

// NewBundleWriter begins a bundle.
func NewBundleWriter(w io.Writer, h BundleHeader) (*BundleWriter, error) {
	b := &BundleWriter{w: w}
	header, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, bundleMagic); err != nil {
		return nil, err
	}
	return b, b.part(partHeader, func(out *cryptobyte.Builder) { out.AddBytes(header) })
}

// Checkpoint writes the signed checkpoint that everything else rests on.
func (b *BundleWriter) Checkpoint(signed []byte) error {
	return b.part(partCheckpoint, func(out *cryptobyte.Builder) { out.AddBytes(signed) })
}

// Consistency writes the proof that the checkpoint's log continues the one of
// size leaves.
func (b *BundleWriter) Consistency(size uint64, path []Hash) error {
	return b.part(partConsistency, func(out *cryptobyte.Builder) {
		out.AddUint64(size)
		addPath(out, path)
	})
}

// Statement writes the statement's leaf with the proof that it is in the log.
func (b *BundleWriter) Statement(index uint64, leaf []byte, path []Hash) error {
	return b.part(partStatement, func(out *cryptobyte.Builder) {
		out.AddUint64(index)
		out.AddUint16LengthPrefixed(func(out *cryptobyte.Builder) { out.AddBytes(leaf) })
		addPath(out, path)
	})
}

// Slot writes what the statement says of a slot, with the proof.
func (b *BundleWriter) Slot(slot uint64, e Entry, path []Hash) error {
	return b.part(partSlot, func(out *cryptobyte.Builder) {
		out.AddUint64(slot)
		out.AddBytes(e.Marshal())
		addPath(out, path)
	})
}

// Record writes a leaf.
func (b *BundleWriter) Record(r Record) error {
	if len(r.Details) > MaxDetails {
		return fmt.Errorf("audit: the details of leaf %d are longer than %d bytes", r.Index, MaxDetails)
	}
	b.records++
	return b.part(partRecord, func(out *cryptobyte.Builder) {
		out.AddUint64(r.Index)
		out.AddUint16LengthPrefixed(func(out *cryptobyte.Builder) { out.AddBytes(r.Data) })
		out.AddUint8LengthPrefixed(func(out *cryptobyte.Builder) {
			if r.Salt != nil {
				out.AddBytes(r.Salt[:])
			}
		})
		out.AddBytes(r.Details)
	})
}

// End finishes the bundle; one that is cut short is told by its absence.
func (b *BundleWriter) End() error {
	return b.part(partEnd, func(out *cryptobyte.Builder) { out.AddUint64(b.records) })
}

func (b *BundleWriter) part(kind byte, fill func(*cryptobyte.Builder)) error {
	out := cryptobyte.NewBuilder(b.buf[:0])
	out.AddUint8(kind)
	out.AddUint32LengthPrefixed(fill)
	data, err := out.Bytes()
	if err != nil {
		return fmt.Errorf("audit: cannot encode a part of the bundle: %w", err)
	}
	b.buf = data
	_, err = b.w.Write(data)
	return err
}

func addPath(out *cryptobyte.Builder, path []Hash) {
	out.AddUint16LengthPrefixed(func(out *cryptobyte.Builder) {
		for i := range path {
			out.AddBytes(path[i][:])
		}
	})
}

// bundleReader reads the parts of a bundle.
type bundleReader struct {
	r      *bufio.Reader
	header BundleHeader
	buf    []byte
}

func bundleError(format string, args ...any) error {
	return &VerifyError{Check: CheckBundle, Index: -1, Detail: fmt.Sprintf(format, args...)}
}

// IsBundle reports whether a file that begins with these bytes is a bundle, of
// any version.
func IsBundle(begin []byte) bool { return bytes.HasPrefix(begin, []byte(bundleMagic[:15])) }

// PeekBundle reads the header of a bundle without taking anything from r, whose
// buffer must hold 32 KiB.
func PeekBundle(r *bufio.Reader) (BundleHeader, error) {
	begin, err := r.Peek(len(bundleMagic) + 5 + maxBundleHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return BundleHeader{}, err
	}
	b, err := newBundleReader(bytes.NewReader(begin))
	if err != nil {
		return BundleHeader{}, err
	}
	return b.header, nil
}

func newBundleReader(r io.Reader) (*bundleReader, error) {
	b := &bundleReader{r: bufio.NewReaderSize(r, 256<<10)}
	magic := make([]byte, len(bundleMagic))
	if _, err := io.ReadFull(b.r, magic); err != nil || string(magic) != bundleMagic {
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, err
		}
		if IsBundle(magic) {
			return nil, bundleError("it is a bundle of another version")
		}
		return nil, bundleError("it does not begin as a bundle does")
	}
	kind, data, err := b.next()
	if err != nil {
		return nil, err
	}
	if kind != partHeader || len(data) > maxBundleHeader {
		return nil, bundleError("it has no header")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b.header); err != nil || dec.More() {
		return nil, bundleError("its header cannot be read")
	}
	return b, nil
}

// next reads a part. data is good until the next call. Errors of the reader are
// returned as they are, except for an early end.
func (b *bundleReader) next() (kind byte, data []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(b.r, head[:]); err != nil {
		return 0, nil, cutShort(err)
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxPart {
		return 0, nil, bundleError("a part of it is %d bytes long, more than %d", n, maxPart)
	}
	if uint32(cap(b.buf)) < n {
		b.buf = make([]byte, max(n, 4<<10))
	}
	b.buf = b.buf[:n]
	if _, err := io.ReadFull(b.r, b.buf); err != nil {
		return 0, nil, cutShort(err)
	}
	return head[0], b.buf, nil
}

// end checks that nothing follows.
func (b *bundleReader) end() error {
	if _, err := b.r.ReadByte(); err == nil {
		return bundleError("something follows its end")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return bundleError("it is cut short")
	}
	return err
}

func readPath(in *cryptobyte.String) ([]Hash, bool) {
	var data cryptobyte.String
	if !in.ReadUint16LengthPrefixed(&data) || len(data)%32 != 0 || len(data) > MaxProof*32 || !in.Empty() {
		return nil, false
	}
	path := make([]Hash, len(data)/32)
	for i := range path {
		data.CopyBytes(path[i][:])
	}
	return path, true
}

// consistencyPart is a part of kind K.
func consistencyPart(data []byte) (size uint64, path []Hash, err error) {
	in := cryptobyte.String(data)
	var ok bool
	if in.ReadUint64(&size) {
		path, ok = readPath(&in)
	}
	if !ok {
		return 0, nil, bundleError("its proof of consistency cannot be read")
	}
	return size, path, nil
}

// statementPart is a part of kind S.
func statementPart(data []byte) (index uint64, leaf []byte, path []Hash, err error) {
	in := cryptobyte.String(data)
	var raw cryptobyte.String
	var ok bool
	if in.ReadUint64(&index) && in.ReadUint16LengthPrefixed(&raw) {
		path, ok = readPath(&in)
	}
	if !ok {
		return 0, nil, nil, bundleError("its statement cannot be read")
	}
	return index, raw, path, nil
}

// slotPart is a part of kind E.
func slotPart(data []byte) (slot uint64, e Entry, path []Hash, err error) {
	in := cryptobyte.String(data)
	var raw []byte
	var ok bool
	if in.ReadUint64(&slot) && in.ReadBytes(&raw, entrySize) {
		path, ok = readPath(&in)
	}
	if ok {
		e, err = ParseEntry(raw)
	}
	if !ok || err != nil {
		return 0, Entry{}, nil, bundleError("what it says of a slot cannot be read")
	}
	return slot, e, path, nil
}

// recordPart is a part of kind R. The record shares memory with data.
func recordPart(data []byte) (Record, error) {
	in := cryptobyte.String(data)
	var r Record
	var leaf, salt cryptobyte.String
	ok := in.ReadUint64(&r.Index) && in.ReadUint16LengthPrefixed(&leaf) && in.ReadUint8LengthPrefixed(&salt)
	switch {
	case !ok || len(in) > MaxDetails || len(salt) != 0 && len(salt) != 32 || len(salt) == 0 && len(in) > 0:
		return r, bundleError("a record of it cannot be read")
	case len(salt) == 32:
		r.Salt = (*[32]byte)(salt)
		r.Details = in
	}
	r.Data = leaf
	return r, nil
}
