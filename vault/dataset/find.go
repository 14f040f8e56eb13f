package dataset

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"

	"dsvault/vault/fault"
)

// FindMember looks for one member by name in an index of a shard whose plaintext
// has size bytes. It reads no further than it must and takes little memory,
// however long the index is; of the other members it checks nothing. One that
// is not there is NotFound, an index that is wrong Invalid or TooLarge, and an
// error of r keeps its code.
func FindMember(r io.Reader, size int64, name string) (Member, error) {
	const op = "dataset.FindMember"
	prefix, err := linePrefix(name)
	if err != nil {
		return Member{}, err
	}
	lines := bufio.NewScanner(io.LimitReader(r, MaxIndex+1))
	lines.Buffer(make([]byte, 0, 4096), maxIndexLine)
	lines.Split(wholeLines)
	if !lines.Scan() {
		return Member{}, emptyOr(lines.Err())
	}
	var head IndexHead
	if err := parseLine(lines.Bytes(), &head); err != nil {
		return Member{}, err
	}
	if err := head.check(); err != nil {
		return Member{}, err
	}
	if head.Size != size {
		return Member{}, badIndex("it is of another shard")
	}
	for lines.Scan() {
		// There is one encoding of each member, and it begins with the name.
		if !bytes.HasPrefix(lines.Bytes(), prefix) {
			continue
		}
		var m Member
		if err := parseLine(lines.Bytes(), &m); err != nil {
			return Member{}, err
		}
		return m, newIndexCheck(head).next(&m)
	}
	if err := lines.Err(); err != nil {
		return Member{}, indexFault(err)
	}
	return Member{}, fault.New(fault.NotFound, op, "the shard has no such file").WithHint("`dsvault ls DATASET/NUMBER` lists the files in a shard")
}

// linePrefix is how the line of a member begins.
func linePrefix(name string) ([]byte, error) {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(name); err != nil {
		return nil, fault.Wrap(fault.Invalid, "dataset.FindMember", "not a name", err)
	}
	return append(append([]byte(`{"name":`), bytes.TrimSuffix(line.Bytes(), []byte("\n"))...), `,"offset":`...), nil
}

func emptyOr(err error) error {
	if err == nil {
		return badIndex("it is empty")
	}
	return indexFault(err)
}
