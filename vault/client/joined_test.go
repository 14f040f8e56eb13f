package client

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

var dawn = time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC)

func begins(index uint64, actor string) wire.Record {
	return wire.Record{Index: index, Time: dawn.Add(time.Duration(index) * time.Second), Kind: "read", Decision: "allowed", Actor: actor,
		Object: "acme/signs/one/0", Reason: "LAB-03", Detail: map[string]string{"max-bytes": "100", "delivery": "sealed"}}
}

func ends(index, read uint64, sent int, cause string) wire.Record {
	return wire.Record{Index: index, Time: dawn.Add(time.Duration(index) * time.Second), Kind: "read-end", Decision: "allowed", Actor: "lee",
		Object: "acme/signs/one/0", Detail: map[string]string{"ref-index": strconv.FormatUint(read, 10), "bytes-sent": strconv.Itoa(sent), "cause": cause}}
}

func lineText(l Line) string {
	if l.Read == nil {
		return fmt.Sprintf("%d %s", l.Index, l.Kind)
	}
	show := func(n *uint64) string {
		if n == nil {
			return "?"
		}
		return strconv.FormatUint(*n, 10)
	}
	took := "?"
	if l.Read.Began != nil && l.Read.Ended != nil {
		took = l.Read.Ended.Sub(*l.Read.Began).String()
	}
	return fmt.Sprintf("%d %s %s %s of %s %s %s", l.Read.Index, l.Kind, l.Actor, show(l.Read.Sent), show(l.Read.Max), l.Read.Cause, took)
}

// TestJoiner: reads that overlap, end in another order, on another page, or
// began before what is shown.
func TestJoiner(t *testing.T) {
	login := wire.Record{Index: 4, Kind: "login", Decision: "allowed"}
	refused := wire.Record{Index: 5, Kind: "refused", Decision: "refused", Detail: map[string]string{"refused-kind": "read"}}
	records := []wire.Record{begins(1, "lee"), begins(2, "rita"), ends(3, 1, 100, "finished"), login, refused,
		begins(6, "carol"), ends(7, 0, 50, "client-gone"), ends(8, 2, 100, "unknown")}
	outside := func(index uint64) (wire.Record, error) {
		if index != 0 {
			t.Errorf("record %d was asked for", index)
		}
		return begins(0, "kim"), nil
	}
	gone := func(uint64) (wire.Record, error) { return wire.Record{}, fault.New(fault.NotFound, "t", "gone") }
	for name, c := range map[string]struct {
		lookup func(uint64) (wire.Record, error)
		stray  string
	}{
		"looked up":   {outside, "0 read kim 50 of 100 client-gone 7s"},
		"not there":   {gone, "0 read lee 50 of ? client-gone ?"},
		"nobody asks": {nil, "0 read lee 50 of ? client-gone ?"},
	} {
		j := Joiner{Lookup: c.lookup}
		var got []string
		for _, r := range records {
			line, ok, err := j.Add(r)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				got = append(got, lineText(line))
			}
		}
		for _, l := range j.Open() {
			got = append(got, lineText(l))
		}
		want := []string{"1 read lee 100 of 100 finished 2s", "4 login", "5 refused", c.stray, "2 read rita 100 of 100 unknown 6s",
			"6 read carol ? of 100 running ?"}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if len(j.open) != 1 {
			t.Errorf("%s: it keeps %d reads", name, len(j.open))
		}
	}
	// An outage is not "gone".
	j := Joiner{Lookup: func(uint64) (wire.Record, error) { return wire.Record{}, fault.New(fault.Unavailable, "t", "away") }}
	_, _, err := j.Add(ends(9, 1, 1, "finished"))
	wantCode(t, err, fault.Unavailable)
}

func TestFilterMatches(t *testing.T) {
	var j Joiner
	j.Add(begins(10, "lee"))
	read, _, _ := j.Add(ends(20, 10, 100, "finished"))
	refused := Line{Record: wire.Record{Kind: "refused", Decision: "refused", Actor: "lee", Time: dawn, Detail: map[string]string{"refused-kind": "grant"}}}
	at := func(s int) time.Time { return dawn.Add(time.Duration(s) * time.Second) }
	for name, c := range map[string]struct {
		f    LogFilter
		l    Line
		want bool
	}{
		"everything":           {LogFilter{}, read, true},
		"actor":                {LogFilter{Actor: "lee"}, read, true},
		"another actor":        {LogFilter{Actor: "kim"}, read, false},
		"kind":                 {LogFilter{Kinds: []audit.Kind{audit.KindRead}}, read, true},
		"the end's kind":       {LogFilter{Kinds: []audit.Kind{audit.KindReadEnd}}, read, true},
		"another kind":         {LogFilter{Kinds: []audit.Kind{audit.KindLogin}}, read, false},
		"what was refused":     {LogFilter{Kinds: []audit.Kind{audit.KindGrant}}, refused, true},
		"refusals":             {LogFilter{Kinds: []audit.Kind{audit.KindRefused}}, refused, true},
		"another was refused":  {LogFilter{Kinds: []audit.Kind{audit.KindRead}}, refused, false},
		"decision":             {LogFilter{Decision: audit.Refused}, refused, true},
		"another decision":     {LogFilter{Decision: audit.Refused}, read, false},
		"it ended since":       {LogFilter{Since: at(15)}, read, true},
		"it ended before":      {LogFilter{Since: at(21)}, read, false},
		"it began before":      {LogFilter{Until: at(15)}, read, true},
		"it began later":       {LogFilter{Until: at(10)}, read, false},
		"all of it, and wrong": {LogFilter{Actor: "lee", Kinds: []audit.Kind{audit.KindRead}, Decision: audit.Allowed, Since: at(30)}, read, false},
	} {
		if c.f.Matches(c.l) != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
}
