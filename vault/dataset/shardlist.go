package dataset

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"dsvault/vault/fault"
)

// maxRuns is the most runs of a ShardList, and the most ranges of a ShardSet.
const maxRuns = 10_000

// ShardList is shard numbers in an order, none of them twice: what a version
// of a dataset is made of. It is kept as runs of consecutive numbers. The text
// form is "0-4,10,6-9".
type ShardList []ShardRange

// FirstShards is the list 0 to n-1.
func FirstShards(n int) ShardList {
	if n <= 0 {
		return nil
	}
	return ShardList{{0, n - 1}}
}

// ListOf gives the numbers as a list.
func ListOf(numbers []int) ShardList {
	var l ShardList
	for _, n := range numbers {
		l = l.add(ShardRange{n, n})
	}
	return l
}

// ParseShardList reads "0-4,10,6-9". A number that is there twice is Invalid;
// more than 10,000 runs are TooLarge.
func ParseShardList(s string) (ShardList, error) {
	const op = "dataset.ParseShardList"
	if strings.Count(s, ",") >= maxRuns {
		return nil, fault.New(fault.TooLarge, op, "more than 10,000 runs of shards")
	}
	var l ShardList
	for part := range strings.SplitSeq(s, ",") {
		r, ok := parseRange(part)
		if !ok {
			return nil, badRange(op, part)
		}
		l = l.add(r)
	}
	if l.Set().Len() != l.Len() {
		return nil, fault.New(fault.Invalid, op, "a shard is there twice")
	}
	return l, nil
}

// add appends a run, or extends the last one.
func (l ShardList) add(r ShardRange) ShardList {
	if n := len(l); n > 0 && l[n-1].Last+1 == r.First {
		l[n-1].Last = r.Last
		return l
	}
	return append(l, r)
}

// Runs is the number of runs; one more than 10,000 cannot be read back.
func (l ShardList) Runs() int { return len(l) }

// Len is the number of shards.
func (l ShardList) Len() int { return ShardSet(l).Len() }

// Set gives the shards without their order.
func (l ShardList) Set() ShardSet { return slices.Clone(ShardSet(l)).normal() }

// All yields the shard numbers in the list's order.
func (l ShardList) All() iter.Seq[int] { return ShardSet(l).All() }

// Only gives the part of the list that is in a set, in the list's order.
func (l ShardList) Only(set ShardSet) ShardList {
	var out ShardList
	for n := range l.All() {
		if set.Has(n) {
			out = out.add(ShardRange{n, n})
		}
	}
	return out
}

// Equal reports whether both are the same shards in the same order.
func (l ShardList) Equal(other ShardList) bool { return slices.Equal(l, other) }

// String gives the text form.
func (l ShardList) String() string { return ShardSet(l).String() }

// MarshalText writes the text form.
func (l ShardList) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads the text form; the empty text is the empty list.
func (l *ShardList) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*l = nil
		return nil
	}
	parsed, err := ParseShardList(string(text))
	if err == nil {
		*l = parsed
	}
	return err
}

// parseRange reads "7" or "0-3".
func parseRange(part string) (ShardRange, bool) {
	from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
	first, err := parseShardNumber(strings.TrimSpace(from))
	if err != nil {
		return ShardRange{}, false
	}
	last := first
	if isRange {
		if last, err = parseShardNumber(strings.TrimSpace(to)); err != nil || last < first {
			return ShardRange{}, false
		}
	}
	return ShardRange{first, last}, true
}

func badRange(op, part string) error {
	if part = strings.TrimSpace(part); len(part) > 40 {
		part = part[:40] + "…"
	}
	return fault.New(fault.Invalid, op, "bad shard range "+strconv.QuoteToASCII(part)).
		WithHint("write numbers and ranges with commas, for example 0-3,7")
}
