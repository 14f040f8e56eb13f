package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
)

// clean makes text that came from elsewhere harmless on a terminal: whatever
// is not printable, control and bidirectional characters among it, is escaped.
func clean(s string) string { return escape(s, "") }

// cleanText is clean for several lines: line ends and tabs stay.
func cleanText(s string) string { return escape(strings.ReplaceAll(s, "\r\n", "\n"), "\n\t") }

func escape(s, keep string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r) || strings.ContainsRune(keep, r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
		i += size
	}
	return b.String()
}

// writeJSON writes one document on one line. Characters that a terminal could
// take for commands, and that JSON allows, are escaped.
func writeJSON(w io.Writer, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	var b strings.Builder
	for _, r := range strings.TrimSuffix(buf.String(), "\n") {
		switch {
		case r < utf8.RuneSelf && r != 0x7f || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	_, err := fmt.Fprintln(w, b.String())
	return err
}

// result prints what a command has done: the document with --json, otherwise
// the line of text.
func (a *app) result(v any, format string, args ...any) error {
	if a.json {
		return writeJSON(a.out, v)
	}
	for i, arg := range args {
		if s, ok := arg.(string); ok {
			args[i] = clean(s)
		} else if s, ok := arg.(fmt.Stringer); ok {
			args[i] = clean(s.String())
		}
	}
	_, err := fmt.Fprintf(a.out, format+"\n", args...)
	return err
}

// flushRows bounds how many rows wait until their columns are aligned.
const flushRows = 1000

// table is an aligned listing. Its cells are made harmless.
type table struct {
	w    *tabwriter.Writer
	rows int
}

func newTable(w io.Writer, header ...string) *table {
	t := &table{w: tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)}
	t.row(header...)
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		if i > 0 {
			io.WriteString(t.w, "\t")
		}
		if c == "" {
			c = "-"
		}
		io.WriteString(t.w, clean(c))
	}
	io.WriteString(t.w, "\n")
	if t.rows++; t.rows%flushRows == 0 {
		t.w.Flush()
	}
}

func (t *table) flush() error { return t.w.Flush() }

// list prints items as they come: a table, or a line of JSON for each.
func list[T any](a *app, items iter.Seq2[T, error], header []string, row func(T) []string) error {
	var t *table
	for item, err := range items {
		if err != nil {
			if t != nil {
				t.flush()
			}
			return err
		}
		if a.json {
			if err := writeJSON(a.out, item); err != nil {
				return err
			}
			continue
		}
		if t == nil {
			t = newTable(a.out, header...)
		}
		t.row(row(item)...)
	}
	if t != nil {
		return t.flush()
	}
	return nil
}

func size(n int64) string {
	if n < 0 {
		return "?"
	}
	return humanize.IBytes(uint64(n))
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// untilText shows an optional end.
func untilText(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04Z")
}

// forUntil continues a sentence with an optional end.
func forUntil(t *time.Time) string {
	if t == nil {
		return ""
	}
	return " until " + untilText(t)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
