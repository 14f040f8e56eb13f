package client

import (
	"cmp"
	"context"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// Line is what people read of the log: one record, or a read with the record
// that ends it. Of a joined one Record is the read, from the time at which it
// began.
type Line struct {
	wire.Record
	Read *Read `json:"read,omitempty"`
}

// Read is one read of a shard, from its first record to its last.
type Read struct {
	Index uint64     `json:"index"`         // of the record that admitted it
	Began *time.Time `json:"began"`         // nil if that record was not seen
	End   *uint64    `json:"end,omitempty"` // index of the record that ended it
	Ended *time.Time `json:"ended,omitempty"`
	Sent  *uint64    `json:"bytes_sent,omitempty"` // nil: it runs. With cause "unknown" it may have been less
	Max   *uint64    `json:"max_bytes,omitempty"`  // what it could send at the most
	Cause string     `json:"cause"`                // how it ended; "running" if it has not
}

// Running is the Cause of a read that no record ends.
const Running = "running"

// Joiner turns the records of a log, in order, into lines. A read comes as a
// line when its end does. It keeps the reads that are open, and nothing else. A
// Joiner is not safe for use by several goroutines.
type Joiner struct {
	// Lookup gives a record that came before the first one added: that of a
	// read which began earlier. Without it, or if it says fault.NotFound or
	// fault.Forbidden, the line has what the end says.
	Lookup func(index uint64) (wire.Record, error)

	open map[uint64]wire.Record
}

// LookupIn is a Lookup that asks the server. All that it is asked belongs to
// one look at the log.
func (c *Client) LookupIn(ctx context.Context, under dataset.Scope) func(uint64) (wire.Record, error) {
	const op = "client.LookupIn"
	var look uint64
	return func(index uint64) (wire.Record, error) {
		after := wire.LogCursor{From: index, Look: look}
		q := url.Values{"under": {under.String()}, "after": {after.String()}, "limit": {"1"}}
		var page wire.Page[wire.Record]
		if err := c.get(ctx, op, logPath, q, &page); err != nil {
			return wire.Record{}, err
		}
		if next, err := wire.ParseLogCursor(page.Next); err == nil {
			look = next.Look
		}
		if len(page.Items) != 1 || page.Items[0].Index != index {
			return wire.Record{}, fault.New(fault.NotFound, op, "there is no record "+strconv.FormatUint(index, 10)+" for you")
		}
		return page.Items[0], nil
	}
}

// Add gives the line that a record completes; ok is false for a read that
// begins, whose line comes later.
func (j *Joiner) Add(r wire.Record) (line Line, ok bool, err error) {
	switch {
	case r.Kind == audit.KindRead.String() && r.Decision == audit.Allowed.String():
		if j.open == nil {
			j.open = map[uint64]wire.Record{}
		}
		j.open[r.Index] = r
		return Line{}, false, nil
	case r.Kind != audit.KindReadEnd.String():
		return Line{Record: r}, true, nil
	}
	index := number(r, audit.FieldRefIndex)
	if index == nil {
		return Line{Record: r}, true, nil
	}
	read, known := j.open[*index]
	delete(j.open, *index)
	if !known && j.Lookup != nil {
		read, err = j.Lookup(*index)
		if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Forbidden) {
			return Line{}, false, err
		}
		known = err == nil
	}
	if !known {
		read = r
		read.Kind = audit.KindRead.String()
	}
	line = joined(read)
	line.Read.Index, line.Read.End, line.Read.Ended = *index, &r.Index, &r.Time
	line.Read.Sent, line.Read.Cause = number(r, audit.FieldBytesSent), r.Detail[audit.FieldCause.String()]
	if !known {
		line.Read.Began = nil
	}
	return line, true, nil
}

// Open gives the reads that have begun and not ended, the oldest first.
func (j *Joiner) Open() []Line {
	lines := make([]Line, 0, len(j.open))
	for r := range maps.Values(j.open) {
		lines = append(lines, joined(r))
	}
	slices.SortFunc(lines, func(a, b Line) int { return cmp.Compare(a.Index, b.Index) })
	return lines
}

func joined(read wire.Record) Line {
	return Line{read, &Read{Index: read.Index, Began: &read.Time, Max: number(read, audit.FieldMaxBytes), Cause: Running}}
}

// number reads a field of a record that holds one.
func number(r wire.Record, id audit.FieldID) *uint64 {
	n, err := strconv.ParseUint(r.Detail[id.String()], 10, 64)
	if err != nil {
		return nil
	}
	return &n
}
