package api

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"strings"

	"dsvault/vault"
)

// maxRanges is how many ranges one request may name. Few clients name two.
const maxRanges = 16

// parseRange reads a Range header (RFC 9110, 14.2) for a content: the spans that it asks for, in ascending order, those that touch joined.
// whole says that the header is to be ignored. Neither whole nor spans means
// that it cannot be satisfied: it is broken, beyond the end, or would take too
// much from storage.
func parseRange(header string, content vault.Content) (spans []vault.Span, whole bool) {
	unit, set, ok := strings.Cut(header, "=")
	if !strings.EqualFold(unit, "bytes") || content.Size == 0 {
		return nil, true // unknown units are ignored; so is a range of nothing
	}
	if !ok || strings.Count(set, ",") >= maxRanges {
		return nil, false
	}
	for spec := range strings.SplitSeq(set, ",") {
		if spec = strings.Trim(spec, " \t"); spec == "" {
			continue
		}
		span, ok := parseSpan(spec, content.Size)
		if !ok {
			return nil, false
		}
		if span.Length > 0 {
			spans = append(spans, span)
		}
	}
	if spans = join(spans); vault.Fetches(spans) > content.Fetches {
		return nil, false
	}
	return spans, false
}

// parseSpan reads "0-99", "100-" or "-50". One that is beyond the end has no
// length.
func parseSpan(spec string, size int64) (vault.Span, bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return vault.Span{}, false
	}
	if first == "" {
		n, ok := parseOffset(last)
		n = min(n, size)
		return vault.Span{Start: size - n, Length: n}, ok
	}
	start, ok := parseOffset(first)
	if !ok {
		return vault.Span{}, false
	}
	end := int64(math.MaxInt64)
	if last != "" {
		if end, ok = parseOffset(last); !ok || end < start {
			return vault.Span{}, false
		}
	}
	if start >= size {
		return vault.Span{}, true
	}
	return vault.Span{Start: start, Length: min(end, size-1) - start + 1}, true
}

// parseOffset reads digits; what is too large for a file is the largest number.
func parseOffset(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	n := int64(0)
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64
			continue
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// join sorts spans and joins those that overlap or touch.
func join(spans []vault.Span) []vault.Span {
	slices.SortFunc(spans, func(a, b vault.Span) int { return cmp.Compare(a.Start, b.Start) })
	var joined []vault.Span
	for _, s := range spans {
		if n := len(joined); n > 0 && s.Start <= joined[n-1].Start+joined[n-1].Length {
			last := &joined[n-1]
			last.Length = max(last.Length, s.Start+s.Length-last.Start)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// precondition evaluates If-Match and If-None-Match (RFC 9110, 13.2.2) against
// a strong ETag: 0 to go on, 304 or 412. There are no dates to compare.
func precondition(h http.Header, etag string) int {
	if match, ok := h["If-Match"]; ok && !lists(match, etag, false) {
		return http.StatusPreconditionFailed
	}
	if none, ok := h["If-None-Match"]; ok && lists(none, etag, true) {
		return http.StatusNotModified
	}
	return 0
}

// ranged reports whether If-Range lets a Range hold. A date never does.
func ranged(h http.Header, etag string) bool {
	condition, ok := h["If-Range"]
	return !ok || len(condition) == 1 && strings.Trim(condition[0], " \t") == etag
}

// lists reports whether etag, quoted, is in a list of ETags, or the list is
// "*". Weak ones count if weak is set.
func lists(values []string, etag string, weak bool) bool {
	rest := strings.Trim(strings.Join(values, ","), " \t")
	if rest == "*" {
		return true
	}
	for rest != "" {
		tag := strings.TrimLeft(rest, " \t,")
		opaque, isWeak := strings.CutPrefix(tag, "W/")
		if !strings.HasPrefix(opaque, `"`) {
			return false
		}
		end := strings.IndexByte(opaque[1:], '"')
		if end < 0 {
			return false
		}
		if opaque[:end+2] == etag && (weak || !isWeak) {
			return true
		}
		rest = opaque[end+2:]
	}
	return false
}
