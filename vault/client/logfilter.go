package client

import (
	"context"
	"encoding/hex"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// LogFilter selects records; its zero fields do not restrict.
type LogFilter struct {
	Actor    string       // a handle, or the pseudonym in the leaf as records show it: "~" and 32 hexadecimal digits
	Kinds    []audit.Kind // refusals of what would have been of such a kind included
	Decision audit.Decision
	Since    time.Time // not before
	Until    time.Time // before
}

func (f LogFilter) query(under dataset.Scope) url.Values {
	q := url.Values{"under": {under.String()}}
	if f.Actor != "" {
		q.Set("actor", f.Actor)
	}
	if len(f.Kinds) > 0 {
		names := make([]string, len(f.Kinds))
		for i, kind := range f.Kinds {
			names[i] = kind.String()
		}
		q.Set("kind", strings.Join(names, ","))
	}
	if f.Decision != audit.None {
		q.Set("decision", f.Decision.String())
	}
	for name, t := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	return q
}

// Matches reports whether a line would be among those that the server gives for
// this filter, for who has read the log without it.
func (f LogFilter) Matches(l Line) bool {
	kind, last := l.Kind, l.Time
	if wanted := l.Detail["refused-kind"]; wanted != "" {
		kind = wanted
	}
	if l.Read != nil && l.Read.Ended != nil {
		last = *l.Read.Ended
	}
	wanted := len(f.Kinds) == 0
	for _, k := range f.Kinds {
		wanted = wanted || k.String() == kind || k.String() == l.Kind || k == audit.KindReadEnd && l.Read != nil
	}
	return wanted && (f.Actor == "" || f.Actor == l.Actor || f.Actor == pseudonym(l.Record)) &&
		(f.Decision == audit.None || f.Decision.String() == l.Decision) &&
		!last.Before(f.Since) && (f.Until.IsZero() || l.Time.Before(f.Until))
}

func pseudonym(r wire.Record) string {
	leaf, err := audit.ParseLeaf(r.Leaf)
	if err != nil {
		return ""
	}
	return "~" + hex.EncodeToString(leaf.Actor[:])
}

const logPath = "/v1/log"

// Log walks through the records at and below a scope, oldest first. It does
// not verify them; VerifyLog does.
func (c *Client) Log(ctx context.Context, under dataset.Scope, filter LogFilter) iter.Seq2[wire.Record, error] {
	return pages[wire.Record](ctx, c, "client.Log", logPath, filter.query(under))
}

// Tail follows a log that grows. It begins with the records since the filter's
// time, or with those that are still to come.
type Tail struct {
	c     *Client
	query url.Values
}

// Tail starts to follow the log at and below a scope. It does not connect.
func (c *Client) Tail(under dataset.Scope, filter LogFilter) *Tail {
	q := filter.query(under)
	q.Set("follow", "1")
	q.Set("limit", strconv.Itoa(wire.MaxPage))
	if filter.Since.IsZero() {
		q.Set("after", wire.LogCursor{End: true}.String())
	}
	return &Tail{c: c, query: q}
}

// Next gives the records that have come since the last call, at most a page,
// and whether there may be more at once. It does not wait for any to come. An
// error leaves the place where it was: call again.
func (t *Tail) Next(ctx context.Context) (records []wire.Record, more bool, err error) {
	const op = "client.Tail"
	var page wire.Page[wire.Record]
	if err := t.c.call(ctx, request{op: op, method: http.MethodGet, path: logPath, query: t.query}, &page); err != nil {
		return nil, false, err
	}
	before, err := wire.ParseLogCursor(t.query.Get("after"))
	if err != nil {
		return nil, false, err
	}
	after, err := wire.ParseLogCursor(page.Next)
	if err != nil || page.Next == "" || after.End || after.From < before.From {
		return nil, false, fault.New(fault.Internal, op, "the server's listing goes round in a circle")
	}
	t.query.Set("after", page.Next)
	return page.Items, after.From > before.From, nil
}
