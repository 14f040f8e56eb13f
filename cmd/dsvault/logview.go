package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"dsvault/vault/audit"
	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// logFlags are the filters of the log.
type logFlags struct {
	actor, since, until string
	kinds               []string
	decision            string
}

func (f *logFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.actor, "actor", "", "only what this person did")
	flags.StringSliceVar(&f.kinds, "kind", nil, "only records of these kinds, with commas between: read, upload, login, grant, …")
	flags.StringVar(&f.decision, "decision", "", "only what was allowed, or refused")
	flags.StringVar(&f.since, "since", "", "only from then on: 24h, 7d, a date, an RFC 3339 time")
	flags.StringVar(&f.until, "until", "", "only up to then: 24h (ago), a date with its day, an RFC 3339 time")
}

func (f *logFlags) filter(now time.Time) (filter client.LogFilter, err error) {
	filter.Actor = f.actor
	if filter.Since, err = parseSince(f.since, now); err != nil {
		return filter, err
	}
	if filter.Until, err = parseBefore(f.until, now); err != nil {
		return filter, err
	}
	if !filter.Until.IsZero() && !filter.Since.Before(filter.Until) {
		return filter, usage("--until is not after --since", "give a later --until")
	}
	switch f.decision {
	case "":
	case audit.Allowed.String():
		filter.Decision = audit.Allowed
	case audit.Refused.String():
		filter.Decision = audit.Refused
	default:
		return filter, usage("bad --decision "+strconv.QuoteToASCII(clip(f.decision)), "give allowed or refused")
	}
	for _, name := range f.kinds {
		kind, err := audit.ParseKind(name)
		if err != nil {
			return filter, usage("there is no kind of record called "+strconv.QuoteToASCII(clip(name)),
				"kinds are read, upload, login, grant, revoke, assign and so on, as `dsvault log` shows them")
		}
		filter.Kinds = append(filter.Kinds, kind)
	}
	if slices.Contains(filter.Kinds, audit.KindRead) && !slices.Contains(filter.Kinds, audit.KindReadEnd) {
		filter.Kinds = append(filter.Kinds, audit.KindReadEnd) // the other half of a line
	}
	return filter, nil
}

// logView prints the log as it comes.
type logView struct {
	*app
	filter client.LogFilter
	joiner client.Joiner
	table  *table
	told   map[uint64]bool // running reads that were shown already
}

// add takes the next record.
func (v *logView) add(r wire.Record) error {
	line, ok, err := v.joiner.Add(r)
	if err != nil {
		return err
	}
	if v.json { // every record as it is
		if !ok || line.Read == nil {
			line = client.Line{Record: r}
		} else {
			line.Record = r
		}
		if shown := v.filter.Matches(line); !shown {
			return nil
		}
		return writeJSON(v.out, line)
	}
	if ok && v.filter.Matches(line) {
		if line.Read != nil {
			delete(v.told, line.Read.Index)
		}
		v.row(line)
	}
	return nil
}

func (v *logView) row(l client.Line) {
	if v.table == nil {
		v.table = newTable(v.out, logHeader...)
	}
	v.table.row(logRow(l)...)
}

// running shows the reads that go on and were not shown as such before.
func (v *logView) running() {
	if v.json {
		return
	}
	for _, l := range v.joiner.Open() {
		if v.filter.Matches(l) && !v.told[l.Index] {
			if v.told == nil {
				v.told = map[uint64]bool{}
			}
			v.told[l.Index] = true
			v.row(l)
		}
	}
}

func (v *logView) flush() error {
	if v.table == nil {
		return nil
	}
	return v.table.flush()
}

// end shows what is open and writes the last rows.
func (v *logView) end() error {
	v.running()
	return v.flush()
}

func (a *app) showLog(ctx context.Context, s *session, scope dataset.Scope, filter client.LogFilter) error {
	view := logView{app: a, joiner: client.Joiner{Lookup: s.LookupIn(ctx, scope)}}
	for r, err := range s.Log(ctx, scope, filter) {
		if err == nil {
			err = view.add(r)
		}
		if err != nil {
			view.flush()
			return err
		}
	}
	return view.end()
}

// How often a log that is followed is asked for more.
const (
	followLeast = time.Second
	followMost  = 10 * time.Second
)

// followLog shows what is written until ctx ends. It asks again and again, less
// often while nothing comes, and goes on when the server is away for a while.
func (a *app) followLog(ctx context.Context, s *session, scope dataset.Scope, filter client.LogFilter) error {
	view := logView{app: a, joiner: client.Joiner{Lookup: s.LookupIn(ctx, scope)}}
	tail := s.Tail(scope, filter)
	wait, away := followLeast, false
	for {
		records, more, err := tail.Next(ctx)
		switch {
		case fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Busy):
			if !away {
				a.note("the server is away; the log goes on when it is back")
			}
			away, more, wait = true, false, followMost
		case err != nil:
			return err
		case away:
			a.note("the server is back")
			away = false
		}
		for _, r := range records {
			if err := view.add(r); err != nil {
				return err
			}
		}
		if len(records) > 0 {
			wait = followLeast
		}
		if more {
			continue
		}
		view.running()
		if err := view.flush(); err != nil {
			return err
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, followMost)
	}
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fault.Wrap(fault.Canceled, "dsvault", "interrupted", ctx.Err())
	case <-timer.C:
		return nil
	}
}

// note tells something on the side, for people only.
func (a *app) note(text string) {
	if !a.json {
		fmt.Fprintln(a.err, "dsvault: "+text)
	}
}

var logHeader = []string{"INDEX", "TIME", "ACTOR", "KIND", "DECISION", "OBJECT", "WHY", "DETAIL"}

func logRow(l client.Line) []string {
	kind := l.Kind
	if wanted := l.Detail["refused-kind"]; wanted != "" {
		kind = wanted
	}
	at, detail := timeText(l.Time), detailText(l.Detail)
	if l.Read != nil {
		detail = strings.TrimSpace(readText(l.Read) + "  " + detail)
		if l.Read.Began == nil {
			at = "before"
		}
	}
	return []string{strconv.FormatUint(l.Index, 10), at, l.Actor, kind, l.Decision, l.Object, l.Reason, detail}
}

// readText says how far a read came.
func readText(r *client.Read) string {
	most := "?"
	if r.Max != nil {
		most = humanize.Comma(int64(*r.Max))
	}
	if r.Ended == nil || r.Sent == nil {
		return "running, at most " + most + " bytes"
	}
	sent := humanize.Comma(int64(*r.Sent)) + " of " + most + " bytes"
	if r.Cause == "unknown" { // the server died: it may have been less
		sent = "at most " + sent
	}
	text := sent + ", " + r.Cause
	if r.Began != nil {
		text += ", " + r.Ended.Sub(*r.Began).Round(time.Millisecond).String()
	}
	return text
}

// longDetails are of use to programs only, or shown elsewhere; --json has them.
var longDetails = []string{"policy-hash", "subject-tag", "device-id", "recipient-hash", "sealed-sha256", "parts-sha256", "agreement-hash",
	"attempt-id", "grant-id", "assignment-id", "approver-tag", "approval-id", "disclosure-id", "document-hash", "key-hash", "facts", "max-bytes", "refused-kind",
	"bytes-sent", "cause", "ref-index", "nonce", "array-root", "array-length"}

func detailText(detail map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(detail)) {
		if !slices.Contains(longDetails, k) {
			parts = append(parts, k+"="+detail[k])
		}
	}
	return strings.Join(parts, " ")
}
