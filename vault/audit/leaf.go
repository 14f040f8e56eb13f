package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"math"

	"golang.org/x/crypto/cryptobyte"
)

// Limits of the leaf format, in bytes unless they say otherwise.
const (
	MaxLeaf   = 8 << 10
	MaxReason = 512
	MaxExt    = 4096 // all extension fields as encoded, their IDs and lengths included
	MaxFields = 32   // extension fields
)

const leafLabel = "dsvault/leaf/v1"

// fixedLeaf is the size of a leaf without reason and extension.
const fixedLeaf = 1 + len(leafLabel) + 2 + 8 + 8 + 8 + 16 + 8 + 32 + 16 + 16 + 1 + 16 + 4 + 1 + 32 + 2 + 2

// Object is what a leaf is about. It holds no names: a client's words stay out
// of the log.
type Object struct {
	Kind   ObjectKind
	ID     [16]byte
	Number uint32 // the shard's for a shard, the version for an agreement, else 0
}

// Leaf is one record of the log. The package comment gives its encoding.
type Leaf struct {
	Kind       Kind
	Time       int64    // Unix microseconds, not negative
	Revision   uint64   // of the policy
	Slot       uint64   // the scope's permanent number; 0 is the vault
	Tag        [16]byte // random, one for each slot
	Seq        uint64   // 1, 2, … in the slot
	Prev       [32]byte // LeafHash of the slot's previous leaf; zeros for its first
	Actor      [16]byte // ActorTag of who did it
	Request    [16]byte
	Object     Object
	Decision   Decision
	Commitment [32]byte // Commit of the personal details; zeros for none
	Reason     string   // rule or reasons, at most MaxReason bytes of printable ASCII
	Ext        []Field  // IDs strictly ascending, at most MaxFields and MaxExt
}

// Marshal encodes the leaf. A leaf that the format does not allow is a
// *VerifyError of CheckFormat.
func (l *Leaf) Marshal() ([]byte, error) {
	size := fixedLeaf + len(l.Reason)
	for _, f := range l.Ext {
		size += 4 + len(f.Value)
	}
	if size > MaxLeaf {
		return nil, formatError("it is %d bytes long, more than %d", size, MaxLeaf)
	}
	data, err := l.AppendTo(make([]byte, 0, size))
	if err != nil {
		return nil, err
	}
	return data, nil
}

// AppendTo appends the leaf's encoding to b, with Marshal's errors; then b is
// returned unchanged.
func (l *Leaf) AppendTo(b []byte) ([]byte, error) {
	ext, err := l.check()
	if err != nil {
		return b, err
	}
	out := cryptobyte.NewBuilder(b)
	out.AddUint8(uint8(len(leafLabel)))
	out.AddBytes([]byte(leafLabel))
	out.AddUint16(uint16(l.Kind))
	out.AddUint64(uint64(l.Time))
	out.AddUint64(l.Revision)
	out.AddUint64(l.Slot)
	out.AddBytes(l.Tag[:])
	out.AddUint64(l.Seq)
	out.AddBytes(l.Prev[:])
	out.AddBytes(l.Actor[:])
	out.AddBytes(l.Request[:])
	out.AddUint8(uint8(l.Object.Kind))
	out.AddBytes(l.Object.ID[:])
	out.AddUint32(l.Object.Number)
	out.AddUint8(uint8(l.Decision))
	out.AddBytes(l.Commitment[:])
	out.AddUint16(uint16(len(l.Reason)))
	out.AddBytes([]byte(l.Reason))
	out.AddUint16(uint16(ext))
	for _, f := range l.Ext {
		out.AddUint16(uint16(f.ID))
		out.AddUint16(uint16(len(f.Value)))
		out.AddBytes(f.Value)
	}
	return out.Bytes()
}

// check reports what the format does not allow, and gives the extension's size.
func (l *Leaf) check() (ext int, err error) {
	switch {
	case l.Time < 0:
		return 0, formatError("its time lies before 1970")
	case l.Decision > Refused:
		return 0, formatError("its decision is %d, which does not exist", l.Decision)
	case len(l.Reason) > MaxReason:
		return 0, formatError("its reason is %d bytes long, more than %d", len(l.Reason), MaxReason)
	case len(l.Ext) > MaxFields:
		return 0, formatError("it has %d extension fields, more than %d", len(l.Ext), MaxFields)
	}
	for i := range len(l.Reason) {
		if c := l.Reason[i]; c < ' ' || c > '~' {
			return 0, formatError("its reason is not printable ASCII")
		}
	}
	for i, f := range l.Ext {
		if i > 0 && f.ID <= l.Ext[i-1].ID {
			return 0, formatError("its extension field %v does not come after %v", f.ID, l.Ext[i-1].ID)
		}
		if !f.fits() {
			return 0, formatError("its extension field %v has a value of the wrong type", f.ID)
		}
		if ext += 4 + len(f.Value); ext > MaxExt {
			return 0, formatError("its extension is longer than %d bytes", MaxExt)
		}
	}
	return ext, nil
}

// ParseLeaf decodes exactly what Marshal writes: trailing bytes, another
// version, and whatever does not encode to the same bytes again are a
// *VerifyError of CheckFormat. Numbers of kinds and fields that this version
// does not know are kept. The leaf does not share memory with data.
func ParseLeaf(data []byte) (Leaf, error) {
	if len(data) > MaxLeaf {
		return Leaf{}, formatError("it is %d bytes long, more than %d", len(data), MaxLeaf)
	}
	var l Leaf
	in := cryptobyte.String(data)
	var label cryptobyte.String
	if !in.ReadUint8LengthPrefixed(&label) || string(label) != leafLabel {
		return Leaf{}, formatError("it does not begin with the label %s", leafLabel)
	}
	var kind uint16
	var time uint64
	var object, decision uint8
	var reason, ext cryptobyte.String
	ok := in.ReadUint16(&kind) && in.ReadUint64(&time) && in.ReadUint64(&l.Revision) &&
		in.ReadUint64(&l.Slot) && in.CopyBytes(l.Tag[:]) && in.ReadUint64(&l.Seq) && in.CopyBytes(l.Prev[:]) &&
		in.CopyBytes(l.Actor[:]) && in.CopyBytes(l.Request[:]) &&
		in.ReadUint8(&object) && in.CopyBytes(l.Object.ID[:]) && in.ReadUint32(&l.Object.Number) &&
		in.ReadUint8(&decision) && in.CopyBytes(l.Commitment[:]) &&
		in.ReadUint16LengthPrefixed(&reason) && in.ReadUint16LengthPrefixed(&ext)
	switch {
	case !ok:
		return Leaf{}, formatError("it is cut short")
	case !in.Empty():
		return Leaf{}, formatError("%d bytes follow its end", len(in))
	case time > math.MaxInt64:
		return Leaf{}, formatError("its time does not exist")
	}
	l.Kind, l.Time, l.Object.Kind, l.Decision = Kind(kind), int64(time), ObjectKind(object), Decision(decision)
	l.Reason = string(reason)
	var err error
	if l.Ext, err = parseExt(bytes.Clone(ext)); err != nil {
		return Leaf{}, err
	}
	again, err := l.Marshal()
	if err != nil {
		return Leaf{}, err
	}
	if !bytes.Equal(again, data) {
		return Leaf{}, formatError("it is not in the canonical encoding")
	}
	return l, nil
}

// parseExt splits the extension; the fields keep pointing into it.
func parseExt(ext cryptobyte.String) ([]Field, error) {
	if ext.Empty() {
		return nil, nil
	}
	fields := make([]Field, 0, 4)
	for !ext.Empty() {
		var id uint16
		var value cryptobyte.String
		if !ext.ReadUint16(&id) || !ext.ReadUint16LengthPrefixed(&value) {
			return nil, formatError("its extension is cut short")
		}
		if len(fields) == MaxFields {
			return nil, formatError("it has more than %d extension fields", MaxFields)
		}
		fields = append(fields, Field{FieldID(id), value[:len(value):len(value)]})
	}
	return fields, nil
}

func formatError(format string, args ...any) error {
	return &VerifyError{Check: CheckFormat, Index: -1, Detail: fmt.Sprintf(format, args...)}
}

const (
	commitLabel = "dsvault/details/v1\x00"
	actorLabel  = "dsvault/actor/v1\x00"
)

// Commit is the commitment to a person's details that a leaf holds:
// HMAC-SHA256 under the salt, of "dsvault/details/v1", a zero byte and the
// details. It binds, since HMAC under a key of one fixed length has no known
// collisions; and without the salt, which must be 32 random bytes used for one
// leaf only, it tells nothing of the details, even to somebody who guesses them.
func Commit(salt [32]byte, details []byte) [32]byte {
	return mac(salt, commitLabel, details)
}

// ActorTag is the stable pseudonym of a person in one slot: the first 16 bytes
// of HMAC-SHA256 under the person's key, of "dsvault/actor/v1", a zero byte and
// the slot's tag. Tags of one person in two slots cannot be linked without the
// key, and nobody can make or recognise them once it is destroyed.
func ActorTag(personKey [32]byte, slotTag [16]byte) [16]byte {
	sum := mac(personKey, actorLabel, slotTag[:])
	return [16]byte(sum[:16])
}

func mac(key [32]byte, label string, message []byte) (sum [32]byte) {
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte(label))
	h.Write(message)
	h.Sum(sum[:0])
	return sum
}
