package pack

import (
	"encoding/binary"
	"errors"
	"math"
)

// The metadata of Parquet files is in Thrift's compact protocol. It is read as
// fields whose values stay encoded, so that what this program does not know is
// passed on as it is, and so that a count is believed only as far as there are
// bytes for it.

var errThrift = errors.New("its metadata cannot be read")

const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12
	thriftUUID   = 13

	maxThriftDepth = 32
)

// thriftField is a field of a struct and its value, encoded.
type thriftField struct {
	id   int16
	kind byte
	raw  []byte
}

// readStruct gives the fields of the struct that b starts with, and what is
// behind it.
func readStruct(b []byte, depth int) (fields []thriftField, rest []byte, err error) {
	rest, err = eachField(b, depth, func(f thriftField) { fields = append(fields, f) })
	return fields, rest, err
}

func eachField(b []byte, depth int, each func(thriftField)) (rest []byte, err error) {
	if depth > maxThriftDepth {
		return nil, errThrift
	}
	id := int16(0)
	for {
		if len(b) == 0 {
			return nil, errThrift
		}
		head := b[0]
		b = b[1:]
		if head == 0 {
			return b, nil
		}
		if delta := int16(head >> 4); delta > 0 {
			id += delta
		} else {
			v, n := binary.Varint(b)
			if n <= 0 || v < math.MinInt16 || v > math.MaxInt16 {
				return nil, errThrift
			}
			id, b = int16(v), b[n:]
		}
		f := thriftField{id: id, kind: head & 0xf, raw: b}
		if f.kind != thriftTrue && f.kind != thriftFalse { // these are all in their kind
			if b, err = skipValue(b, f.kind, depth); err != nil {
				return nil, err
			}
		}
		f.raw = f.raw[:len(f.raw)-len(b)]
		each(f)
	}
}

// skipValue gives what is behind the value of a kind.
func skipValue(b []byte, kind byte, depth int) ([]byte, error) {
	fixed := 0
	switch kind {
	case thriftTrue, thriftFalse, thriftByte:
		fixed = 1
	case thriftDouble:
		fixed = 8
	case thriftUUID:
		fixed = 16
	case thriftI16, thriftI32, thriftI64:
		if _, fixed = binary.Uvarint(b); fixed <= 0 {
			return nil, errThrift
		}
	case thriftBinary:
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, errThrift
		}
		fixed = n + int(size)
	case thriftStruct:
		return eachField(b, depth+1, func(thriftField) {})
	case thriftList, thriftSet:
		return eachItem(b, depth+1, func([]byte) error { return nil })
	case thriftMap:
		return skipMap(b, depth+1)
	default:
		return nil, errThrift
	}
	if fixed > len(b) {
		return nil, errThrift
	}
	return b[fixed:], nil
}

// listHead reads the kind and the number of a list's items, each of which has
// at least one byte.
func listHead(b []byte) (kind byte, count int, rest []byte, err error) {
	if len(b) == 0 {
		return 0, 0, nil, errThrift
	}
	kind, size := b[0]&0xf, uint64(b[0]>>4)
	b = b[1:]
	if size == 15 {
		var n int
		if size, n = binary.Uvarint(b); n <= 0 {
			return 0, 0, nil, errThrift
		}
		b = b[n:]
	}
	if size > uint64(len(b)) {
		return 0, 0, nil, errThrift
	}
	return kind, int(size), b, nil
}

// eachItem calls each with every item of the list that b starts with.
func eachItem(b []byte, depth int, each func(item []byte) error) (rest []byte, err error) {
	if depth > maxThriftDepth {
		return nil, errThrift
	}
	kind, count, b, err := listHead(b)
	if err != nil {
		return nil, err
	}
	for range count {
		rest, err := skipValue(b, kind, depth)
		if err == nil {
			err = each(b[:len(b)-len(rest)])
		}
		if err != nil {
			return nil, err
		}
		b = rest
	}
	return b, nil
}

func skipMap(b []byte, depth int) (rest []byte, err error) {
	count, n := binary.Uvarint(b)
	if n <= 0 || depth > maxThriftDepth {
		return nil, errThrift
	}
	if b = b[n:]; count == 0 {
		return b, nil
	}
	if len(b) == 0 || count > uint64(len(b)) {
		return nil, errThrift
	}
	key, value := b[0]>>4, b[0]&0xf
	b = b[1:]
	for range count {
		if b, err = skipValue(b, key, depth); err == nil {
			b, err = skipValue(b, value, depth)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// number reads a field that is an integer.
func (f thriftField) number() (int64, error) {
	v, n := binary.Varint(f.raw)
	if f.kind < thriftI16 || f.kind > thriftI64 || n != len(f.raw) {
		return 0, errThrift
	}
	return v, nil
}

func (f thriftField) with(v int64) thriftField {
	f.raw = binary.AppendVarint(nil, v)
	return f
}

// appendStruct encodes fields, which are in the order that they were read in.
func appendStruct(b []byte, fields []thriftField) []byte {
	last := int16(0)
	for _, f := range fields {
		if delta := int(f.id) - int(last); delta > 0 && delta <= 15 {
			b = append(b, byte(delta)<<4|f.kind)
		} else {
			b = binary.AppendVarint(append(b, f.kind), int64(f.id))
		}
		b, last = append(b, f.raw...), f.id
	}
	return append(b, 0)
}

// appendListHead starts a list of count structs.
func appendListHead(b []byte, count int) []byte {
	if count < 15 {
		return append(b, byte(count)<<4|thriftStruct)
	}
	return binary.AppendUvarint(append(b, 15<<4|thriftStruct), uint64(count))
}
