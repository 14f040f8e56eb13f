package dataset

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"dsvault/vault/fault"
)

// MaxShards is the most shards that one dataset may have.
const MaxShards = 1_000_000

// MaxVersions is the most versions that one dataset may have.
const MaxVersions = 10_000

// ShardRange is the shards First to Last, both included.
type ShardRange struct{ First, Last int }

// ShardSet is a set of shard numbers as sorted ranges that neither touch nor
// overlap. The text form is "0-3,7".
type ShardSet []ShardRange

// ParseShardSet reads "0-3,7" (spaces and repeats are fine) into a normal
// form. It accepts at most 10,000 ranges; numbers are below MaxShards.
func ParseShardSet(s string) (ShardSet, error) {
	const op = "dataset.ParseShardSet"
	if strings.Count(s, ",") >= maxRuns {
		return nil, fault.New(fault.TooLarge, op, "more than 10,000 shard ranges")
	}
	var set ShardSet
	for part := range strings.SplitSeq(s, ",") {
		r, ok := parseRange(part)
		if !ok {
			return nil, badRange(op, part)
		}
		set = append(set, r)
	}
	return set.normal(), nil
}

func parseShardNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n >= MaxShards || strconv.Itoa(n) != s {
		return 0, fault.New(fault.Invalid, "dataset.ParseShardSet", "bad shard number").
			WithHint("shard numbers are 0 to 999999")
	}
	return n, nil
}

func (s ShardSet) normal() ShardSet {
	slices.SortFunc(s, func(a, b ShardRange) int { return a.First - b.First })
	out := s[:0]
	for _, r := range s {
		if n := len(out); n > 0 && r.First <= out[n-1].Last+1 {
			out[n-1].Last = max(out[n-1].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Has reports whether shard n is in the set.
func (s ShardSet) Has(n int) bool {
	i, found := slices.BinarySearchFunc(s, n, func(r ShardRange, n int) int { return r.First - n })
	return found || i > 0 && n <= s[i-1].Last
}

// Len is the number of shards in the set.
func (s ShardSet) Len() int {
	total := 0
	for _, r := range s {
		total += r.Last - r.First + 1
	}
	return total
}

// Max is the highest shard number, or -1 for the empty set.
func (s ShardSet) Max() int {
	if len(s) == 0 {
		return -1
	}
	return s[len(s)-1].Last
}

// All yields the shard numbers in order.
func (s ShardSet) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, r := range s {
			for n := r.First; n <= r.Last; n++ {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// String gives the normal text form.
func (s ShardSet) String() string {
	var b strings.Builder
	for i, r := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(r.First))
		if r.Last > r.First {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(r.Last))
		}
	}
	return b.String()
}

// MarshalText writes the text form.
func (s ShardSet) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the text form; the empty text is the empty set.
func (s *ShardSet) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = nil
		return nil
	}
	parsed, err := ParseShardSet(string(text))
	if err == nil {
		*s = parsed
	}
	return err
}

// Union gives the shards of either set.
func (s ShardSet) Union(other ShardSet) ShardSet {
	return slices.Concat(s, other).normal()
}
