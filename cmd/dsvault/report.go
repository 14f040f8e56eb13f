package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"dsvault/vault/wire"
)

func (a *app) auditCmd() *cobra.Command {
	return group("audit", "Reports for auditors and clients", a.auditReportCmd())
}

func (a *app) auditReportCmd() *cobra.Command {
	var month, out string
	var idle int
	cmd := &cobra.Command{
		Use:   "report [SCOPE]",
		Short: "Sum up a month of the log",
		Long: `Sums up what the log of a scope has on one month, in UTC: reads and bytes for
each dataset and person, refusals by reason, changes of who may do what, people
who hold a role and did nothing, comparisons of storage with the catalog, who
verified the log, access reviews with what they found, and how many have signed the
agreements that their roles ask for. The last and the idle people are as of now. It is Markdown, or one JSON
document with --json.

The server makes it, and it proves nothing: ` + "`dsvault log --verify`" + ` does. Whoever may
read the log of a scope may have its report; that is recorded.`,
		Example: `  dsvault audit report --month 2026-11
  dsvault audit report acme --month 2026-11 --idle 60 -o acme-2026-11.md`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := scopeArg(args)
			if err != nil {
				return err
			}
			from, err := parseMonth(month, now())
			if err != nil {
				return err
			}
			if idle < 1 || idle > 3660 {
				return usage("bad --idle "+strconv.Itoa(idle), "give a number of days from 1 to 3660")
			}
			file, err := newExport(out)
			if err != nil {
				return err
			}
			defer file.discard()
			s, err := a.connect()
			if err != nil {
				return err
			}
			report, err := s.AuditReport(cmd.Context(), scope, from, from.AddDate(0, 1, 0), idle)
			if err != nil {
				return err
			}
			to := a.out
			if file != nil {
				to = file
			}
			if a.json {
				err = writeJSON(to, report)
			} else {
				_, err = to.Write(markdown(report))
			}
			if err != nil {
				return err
			}
			return file.keep()
		},
	}
	cmd.Flags().StringVar(&month, "month", "", "the month, such as 2026-11 (default: this one)")
	cmd.Flags().IntVar(&idle, "idle", 30, "after how many days without any activity somebody is idle")
	cmd.Flags().StringVarP(&out, "out", "o", "", "write it to this new file")
	return cmd
}

// parseMonth gives the first moment of a month, in UTC.
func parseMonth(s string, now time.Time) (time.Time, error) {
	if s == "" {
		s = now.UTC().Format("2006-01")
	}
	t, err := time.Parse("2006-01", s)
	if err != nil || t.Year() < 1971 {
		return t, usage("bad --month "+strconv.QuoteToASCII(clip(s)), "give a year and a month, such as 2026-11")
	}
	return t, nil
}

// markdown writes a report as people read it.
func markdown(r wire.AuditReport) []byte {
	w := &document{}
	last := r.Until.Add(-time.Second)
	w.line("# Audit report of %s, %s", r.Scope, r.From.Format("January 2006"))
	w.line("From %s to %s, made %s. %s records.", timeText(r.From), timeText(last), timeText(r.Made), humanize.Comma(int64(r.Records)))
	if r.Made.Before(r.Until) {
		w.line("**The month is not over.**")
	}
	w.line("Storage was last compared with the catalog %s. The log was last verified %s.", lastText(r.LastCheck), lastText(r.LastVerified))
	w.section("Reads", "No data was read.", []string{"Dataset", "Person", "Reads", "Bytes sent", "Not ended", "Last"}, len(r.Reads), func(i int) []string {
		d := r.Reads[i]
		sent := humanize.Comma(int64(d.Bytes))
		if d.AtMost > 0 {
			sent += ", and up to " + humanize.Comma(int64(d.AtMost)) + " more before crashes"
		}
		return []string{d.Dataset, d.Person, strconv.Itoa(d.Reads), sent, strconv.Itoa(d.Open), timeText(d.Last)}
	})
	w.section("Refusals", "Nothing was refused.", []string{"Asked for", "Reason", "Times", "People"}, len(r.Refusals), func(i int) []string {
		d := r.Refusals[i]
		return []string{d.Kind, d.Reason, strconv.Itoa(d.Count), strconv.Itoa(d.People)}
	})
	w.section("Roles and assignments given and taken", "Nothing changed.", []string{"Record", "Time", "By", "What", "To whom", "Where"}, len(r.Changes), func(i int) []string {
		d := r.Changes[i]
		what := strings.TrimSpace(d.Kind + " " + cmp.Or(d.Role, d.Shards))
		return []string{strconv.FormatUint(d.Index, 10), timeText(d.Time), d.By, what, d.Person, d.Scope}
	})
	w.section(fmt.Sprintf("People with a role who did nothing for %d days", r.IdleDays), "There are none.",
		[]string{"Person", "Role", "Where", "Since", "Until"}, len(r.Idle), func(i int) []string {
			d := r.Idle[i]
			return []string{d.Person, string(d.Role), d.Scope.String(), timeText(d.Since), untilText(d.Until)}
		})
	w.section("Agreements, as of now", "No role here asks for one.", []string{"Agreement", "Version", "Asked", "Signed", "Not signed by"}, len(r.Signed), func(i int) []string {
		d := r.Signed[i]
		return []string{d.Agreement, strconv.Itoa(d.Version), strconv.Itoa(d.Asked), strconv.Itoa(d.Signed), strings.Join(d.Missing, ", ")}
	})
	w.section("Access reviews", "There was none.", []string{"Review", "Where", "State", "Started", "By", "Deadline", "Items", "Undecided", "Kept", "Revoked", "Expired", "Findings"},
		len(r.Reviews), func(i int) []string {
			d := r.Reviews[i]
			cells := []string{d.ID.String(), d.Scope.String(), d.State, timeText(d.Started), cmp.Or(d.By, "the schedule, "+d.Period), timeText(d.Deadline)}
			for _, n := range []int{d.Items, d.Undecided, d.Kept, d.Revoked, d.Expired} {
				cells = append(cells, strconv.Itoa(n))
			}
			return append(cells, findingsText(d.Findings))
		})
	w.section("Comparisons of storage with the catalog", "There was none.",
		[]string{"Record", "Time", "Where", "Of", "Ended", "Checked", "Missing", "Changed", "Extra", "Repaired"}, len(r.Checks), func(i int) []string {
			d := r.Checks[i]
			cells := []string{strconv.FormatUint(d.Index, 10), timeText(d.Time), d.Scope, d.Extent, d.State}
			for _, n := range []uint64{d.Checked, d.Missing, d.Changed, d.Extra, d.Repaired} {
				cells = append(cells, humanize.Comma(int64(n)))
			}
			return cells
		})
	w.section("Verifications of the log", "Nobody fetched its proofs.", []string{"Person", "Times", "Last"}, len(r.Verified), func(i int) []string {
		d := r.Verified[i]
		return []string{d.Person, strconv.Itoa(d.Times), timeText(d.Last)}
	})
	for _, list := range slices.Sorted(maps.Keys(r.LeftOff)) {
		w.line("**Left off: %d of %s, over the limit of %d rows.** Ask for a smaller scope.", r.LeftOff[list], list, wire.MaxReport)
	}
	return w.Bytes()
}

// lastText says when something was done last, by whom, and what came of it.
func lastText(l *wire.ReportLast) string {
	if l == nil {
		return "at no time"
	}
	text := timeText(l.Time) + " by " + cell(cmp.Or(l.By, "the schedule"))
	if l.Scope != "" {
		text += " (" + cell(l.Scope) + ": " + cell(l.Result) + ")"
	}
	return text
}

// document is Markdown on its way. What came from elsewhere is made harmless.
type document struct{ bytes.Buffer }

func (d *document) line(format string, args ...any) { fmt.Fprintf(d, format+"\n\n", args...) }

func (d *document) section(title, none string, header []string, rows int, row func(int) []string) {
	d.line("## %s", title)
	if rows == 0 {
		d.line("%s", none)
		return
	}
	d.row(header)
	d.row(slices.Repeat([]string{"---"}, len(header)))
	for i := range rows {
		cells := row(i)
		for j := range cells {
			cells[j] = cell(cells[j])
		}
		d.row(cells)
	}
	d.WriteByte('\n')
}

func (d *document) row(cells []string) { d.WriteString("| " + strings.Join(cells, " | ") + " |\n") }

// cell keeps text from meaning something in a table of Markdown.
var markdownWords = strings.NewReplacer(`\`, `\\`, "|", `\|`, "`", "\\`", "*", `\*`, "_", `\_`, "<", "&lt;", ">", "&gt;", "[", `\[`, "]", `\]`, "&", "&amp;")

func cell(s string) string {
	if s == "" {
		return "-"
	}
	return markdownWords.Replace(clean(s))
}
