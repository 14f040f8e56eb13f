package main

import (
	"strings"
	"testing"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func TestReportInMarkdown(t *testing.T) {
	november := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	acme, err := dataset.ParseScope("acme")
	if err != nil {
		t.Fatal(err)
	}
	r := wire.AuditReport{
		Scope: acme, From: november, Until: november.AddDate(0, 1, 0), Made: november.AddDate(0, 0, 20), Records: 12345, IdleDays: 30,
		Reads:    []wire.ReportReads{{Dataset: "acme/a/b", Person: "lee_1", Reads: 3, Bytes: 1234567, AtMost: 1000, Open: 1, Last: november}},
		Refusals: []wire.ReportRefusals{{Kind: "read", Reason: "DNY-19 denies: not nda | <b>`x`\x1b[2J", Count: 2, People: 1}},
		Changes:  []wire.ReportChange{{Index: 7, Time: november, Kind: "grant", By: "ada", Person: "~00", Scope: "acme", Role: "labeler"}},
		Signed:   []wire.ReportAgreement{{Agreement: "nda", Version: 2, Asked: 2, Signed: 1, Missing: []string{"kim"}}},
		LeftOff:  map[string]int{"changes": 5},
	}
	text := string(markdown(r))
	for _, want := range []string{
		"# Audit report of acme, November 2026\n", "made 2026-11-21 00:00:00Z. 12,345 records.", "**The month is not over.**",
		"| acme/a/b | lee\\_1 | 3 | 1,234,567, and up to 1,000 more before crashes | 1 | 2026-11-01 00:00:00Z |\n",
		"| read | DNY-19 denies: not nda \\| &lt;b&gt;\\`x\\`\\\\x1b\\[2J | 2 | 1 |\n", "| 7 | 2026-11-01 00:00:00Z | ada | grant labeler | ~00 | acme |\n",
		"| nda | 2 | 2 | 1 | kim |\n", "Nobody fetched its proofs.", "did nothing for 30 days\n\nThere are none.", "**Left off: 5 of changes",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	r.Made = r.Until
	if strings.Contains(string(markdown(r)), "not over") {
		t.Error("a month that is over is not")
	}
}

func TestParseMonth(t *testing.T) {
	now := time.Date(2026, 12, 31, 23, 0, 0, 0, time.FixedZone("", -7200))
	for s, want := range map[string]string{"2026-02": "2026-02-01", "": "2027-01-01"} {
		if got, err := parseMonth(s, now); err != nil || got.Format(time.DateOnly) != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"2026", "2026-13", "2026-2", "2026-02-01", "0001-01", "x"} {
		if got, err := parseMonth(s, now); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}
