package pack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"dsvault/vault/fault"
)

// An order shard says where the bytes of slices by value lie in the file:
//
//	orderMagic, number of slices, then for each slice
//	    number of bytes that follow, then for each run of its bytes
//	        gap since the end of the run before, size of the run
//
// with all numbers as unsigned varints.
const orderMagic = "dsvault order 1\n"

var errOrder = errors.New("the order of the slices cannot be")

// parseOrder gives the runs of each of count slices.
func parseOrder(raw []byte, count int) ([][]byte, error) {
	raw, ok := bytes.CutPrefix(raw, []byte(orderMagic))
	n, used := binary.Uvarint(raw)
	if !ok || used <= 0 || n != uint64(count) || n > uint64(len(raw)) {
		return nil, errOrder
	}
	raw = raw[used:]
	runs := make([][]byte, count)
	for i := range runs {
		size, used := binary.Uvarint(raw)
		if used <= 0 || size > uint64(len(raw)-used) {
			return nil, errOrder
		}
		runs[i], raw = raw[used:used+int(size)], raw[used+int(size):]
	}
	if len(raw) > 0 {
		return nil, errOrder
	}
	return runs, nil
}

// eachRun calls each with the place of every run, which lies in a file of the
// size.
func eachRun(runs []byte, size int64, each func(offset, size int64) error) error {
	for end := int64(0); len(runs) > 0; {
		gap, n := binary.Uvarint(runs)
		if n <= 0 || gap > uint64(size-end) {
			return errOrder
		}
		offset := end + int64(gap)
		length, m := binary.Uvarint(runs[n:])
		if m <= 0 || length == 0 || length > uint64(size-offset) {
			return errOrder
		}
		runs, end = runs[n+m:], offset+int64(length)
		if err := each(offset, int64(length)); err != nil {
			return err
		}
	}
	return nil
}

// loadOrder reads the order shard, once for a run.
func (j *join) loadOrder() error {
	const op = "pack.Unpack"
	if j.Field == "" || j.Joined >= j.Parts-1 || j.runs != nil {
		return nil
	}
	name, want := j.partName(j.Parts-1), j.Have[j.Parts-1]
	f, err := j.w.root.OpenFile(name, readFlags, 0)
	if err != nil {
		return localFault(op, "cannot read "+quote(name), err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, min(want.Size, maxOrder)+1))
	if err != nil {
		return localFault(op, "cannot read "+quote(name), err)
	}
	if int64(len(raw)) != want.Size || !bytes.Equal(want.SHA256, sum256(raw)) {
		return changedPart(name)
	}
	total := int64(0)
	for n := range j.Parts - 1 {
		total += j.Have[n].body()
	}
	if j.runs, err = parseOrder(raw, j.Parts-1); err != nil || total != j.Whole.Size {
		return j.giveUp()
	}
	return nil
}

// scatter reads all of a slice and writes its runs to their places.
func (j *join) scatter(dst *os.File, in *hashReader, n int) error {
	part := j.Have[n]
	if _, err := io.CopyN(io.Discard, in, part.Head); err != nil {
		return endIsFine(err)
	}
	buf := make([]byte, 64<<10)
	err := eachRun(j.runs[n], j.Whole.Size, func(offset, size int64) error {
		for size > 0 {
			got, err := io.ReadFull(in, buf[:min(size, int64(len(buf)))])
			if err != nil {
				return endIsFine(err)
			}
			if _, err := dst.WriteAt(buf[:got], offset); err != nil {
				return err
			}
			offset, size = offset+int64(got), size-int64(got)
		}
		return nil
	})
	if errors.Is(err, errOrder) {
		return j.giveUp()
	}
	if err == nil {
		_, err = in.WriteTo(io.Discard)
	}
	return endIsFine(err)
}

// endIsFine: a part that ends early is told by its hash.
func endIsFine(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// writeRuns copies the runs of a slice and closes f.
func (p *Plan) writeRuns(out *hashWriter, f *os.File, s shard) error {
	defer f.Close()
	m := &p.members[s.first]
	if err := unchanged(f, m); err != nil {
		return err
	}
	err := eachRun(s.runs, m.size, func(offset, size int64) error {
		if err := out.fill(io.NewSectionReader(f, offset, size), size); err != nil {
			var bad *readError
			if errors.As(err, &bad) {
				return readFault(m.name, bad.err)
			}
			return err
		}
		return nil
	})
	if errors.Is(err, errOrder) {
		return fault.Wrap(fault.Internal, "pack.Write", "a slice lies outside its file", err)
	}
	if err != nil {
		return err
	}
	return unchanged(f, m)
}
