package dataset

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dsvault/vault/fault"
)

func TestIDs(t *testing.T) {
	id := NewID[PrincipalID](rand.Reader)
	text := id.String()
	if !strings.HasPrefix(text, "prn_") || len(text) != 30 {
		t.Errorf("text form %q", text)
	}
	back, err := ParseID[PrincipalID](text)
	if err != nil || back != id || !back.Equal(id) || back.IsZero() {
		t.Errorf("ParseID: %v, %v", back, err)
	}
	last := text[len(text)-1]
	stray := text[:len(text)-1] + string(rune(last)+1) // bits that base32 would drop
	for _, bad := range []string{"", "prn_", strings.ToUpper(text), "dst_" + text[4:], text + "a", text[:29], stray, " " + text} {
		if _, err := ParseID[PrincipalID](bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("ParseID(%q): %v", bad, err)
		}
	}
	if _, err := ParseID[DatasetID](text); err == nil {
		t.Error("one kind's ID was taken for another's")
	}
}

func TestScopes(t *testing.T) {
	for _, good := range []string{"/", "acme", "acme/signs", "acme/signs/batch-1", "0", strings.Repeat("a", 63), "a.b_c-d/x/y"} {
		s, err := ParseScope(good)
		if err != nil || s.String() != good {
			t.Errorf("ParseScope(%q) = %v, %v", good, s, err)
		}
	}
	for _, bad := range []string{
		"", "//", "/acme", "acme/", "a//b", "a/b/c/d", "..", "a/..", "../a", ".", "a/.hidden", "-a", "_a", "Acme", "ACME",
		"acmé", "аcme" /* Cyrillic a */, "a b", "a\x00", "a\n", "a\\b", "a%2fb", strings.Repeat("a", 64), strings.Repeat("a/", 5_000), "ａｃｍｅ",
	} {
		_, err := ParseScope(bad)
		if !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
			t.Errorf("ParseScope(%.40q): %v", bad, err)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("the message repeats %d bytes", len(err.Error()))
		}
	}
	parse := func(s string) Scope {
		p, err := ParseScope(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct {
		outer, inner string
		want         bool
	}{
		{"/", "acme", true}, {"/", "/", true}, {"acme", "acme", true}, {"acme", "acme/signs", true}, {"acme", "acme/signs/b", true},
		{"acme", "acme2", false}, {"acme", "/", false}, {"acme/signs", "acme", false}, {"acme/signs", "acme/signs2/x", false}, {"a", "b", false},
	} {
		if got := parse(c.outer).Contains(parse(c.inner)); got != c.want {
			t.Errorf("%s contains %s: %v", c.outer, c.inner, got)
		}
	}
	if (Scope{}).Contains(parse("acme")) || parse("/").Contains(Scope{}) {
		t.Error("the zero scope contains or is contained")
	}
	s := parse("acme/signs/b")
	if s.Depth() != 3 || s.Parent() != parse("acme/signs") || s.At(1) != parse("acme") || s.At(0) != Root || s.Base() != "b" || Root.Parent() != Root {
		t.Error("the parts of a scope are wrong")
	}
}

func TestShardSets(t *testing.T) {
	for in, want := range map[string]string{"0-3,7": "0-3,7", "7,0-3": "0-3,7", "1,2,3": "1-3", "5,5": "5", "0-9,3-4": "0-9", " 1 - 2 , 4": "1-2,4", "999999": "999999"} {
		s, err := ParseShardSet(in)
		if err != nil || s.String() != want {
			t.Errorf("ParseShardSet(%q) = %q, %v", in, s, err)
		}
	}
	for _, bad := range []string{"", ",", "a", "-1", "3-1", "1-", "1000000", "01", "+1", "1.5", "0-999999999999999999999", strings.Repeat("1,", 10_000) + "1", "１"} {
		if _, err := ParseShardSet(bad); !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
			t.Errorf("ParseShardSet(%.20q): %v", bad, err)
		}
	}
}

// TestShardSetIsASet compares with a map.
func TestShardSetIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (ShardSet, map[int]bool) {
			var set ShardSet
			naive := map[int]bool{}
			for range rapid.IntRange(0, 8).Draw(t, name) {
				first := rapid.IntRange(0, 40).Draw(t, "first")
				last := first + rapid.IntRange(0, 5).Draw(t, "more")
				set = set.Union(ShardSet{{first, last}})
				for n := first; n <= last; n++ {
					naive[n] = true
				}
			}
			return set, naive
		}
		a, na := draw("a")
		b, nb := draw("b")
		u := a.Union(b)
		maps.Copy(na, nb)
		want := slices.Sorted(maps.Keys(na))
		if got := slices.Collect(u.All()); !slices.Equal(got, want) || u.Len() != len(want) {
			t.Fatalf("%v ∪ %v = %v", a, b, u)
		}
		for n := range 50 {
			if u.Has(n) != na[n] {
				t.Fatalf("%v has %d: %v", u, n, u.Has(n))
			}
		}
		for i := 1; i < len(u); i++ {
			if u[i].First <= u[i-1].Last+1 {
				t.Fatalf("%v is not normal", u)
			}
		}
	})
}

func TestShardLists(t *testing.T) {
	for in, want := range map[string]string{"0-3,7": "0-3,7", "7,0-3": "7,0-3", "1,2,3": "1-3", "3,2,1": "3,2,1", " 1 - 2 , 4": "1-2,4", "0-4,10,6-9": "0-4,10,6-9"} {
		l, err := ParseShardList(in)
		if err != nil || l.String() != want {
			t.Errorf("ParseShardList(%q) = %q, %v", in, l, err)
		}
	}
	for _, bad := range []string{"", ",", "a", "3-1", "1000000", "01", "1,1", "0-5,3", "4,0-4", strings.Repeat("1,", 10_000) + "1"} {
		if _, err := ParseShardList(bad); !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
			t.Errorf("ParseShardList(%.20q): %v", bad, err)
		}
	}
}

// TestShardListKeepsOrder compares with a slice.
func TestShardListKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfNDistinct(rapid.IntRange(0, 20), 1, 20, func(n int) int { return n }).Draw(t, "numbers")
		l := ListOf(numbers)
		back, err := ParseShardList(l.String())
		if err != nil || !back.Equal(l) || !slices.Equal(slices.Collect(l.All()), numbers) || l.Len() != len(numbers) {
			t.Fatalf("%v became %v, then %v, %v", numbers, l, back, err)
		}
		slices.Sort(numbers)
		if got := slices.Collect(l.Set().All()); !slices.Equal(got, numbers) {
			t.Fatalf("%v as a set is %v", l, got)
		}
		if back.Equal(l) != l.Equal(back) || !back.Equal(l) {
			t.Fatal("making a set has changed the list")
		}
		some := ShardSet{{3, 9}}
		want := []int{}
		for n := range l.All() {
			if some.Has(n) {
				want = append(want, n)
			}
		}
		if got := slices.Collect(l.Only(some).All()); !slices.Equal(got, want) {
			t.Fatalf("%v of %v is %v", some, l, got)
		}
	})
}

func TestInForce(t *testing.T) {
	end := time.Date(2028, 2, 29, 23, 59, 59, 0, time.FixedZone("", 5*3600))
	for _, c := range []struct {
		until, ended, now time.Time
		want              bool
	}{
		{time.Time{}, time.Time{}, end, true}, {end, time.Time{}, end.Add(-time.Nanosecond), true}, {end, time.Time{}, end, false},
		{end, time.Time{}, end.UTC(), false}, {time.Time{}, end, end.Add(-time.Hour), false},
	} {
		g := Grant{Until: c.until, Revoked: c.ended}.InForce(c.now)
		a := Assignment{Until: c.until, Ended: c.ended}.InForce(c.now)
		s := Signature{Until: c.until, Withdrawn: c.ended}.InForce(c.now)
		if g != c.want || a != c.want || s != c.want {
			t.Errorf("until %v, ended %v, at %v: %v %v %v", c.until, c.ended, c.now, g, a, s)
		}
	}
}

func sampleManifest() Manifest {
	return Manifest{Version: 1, Number: 3, Packing: PackTar, Name: "batch-000003.tar", Size: 10240, SHA256: make([]byte, 32), Files: 2}
}

func TestManifest(t *testing.T) {
	data, err := sampleManifest().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := ParseManifest(data); err != nil || m.Name != "batch-000003.tar" || m.Files != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	edit := func(key string, value any) []byte {
		var m map[string]any
		json.Unmarshal(data, &m)
		m[key] = value
		out, _ := json.Marshal(m)
		return out
	}
	for name, bad := range map[string][]byte{
		"empty": {}, "not JSON": []byte("x"), "an array": []byte("[]"), "version 2": edit("version", 2), "unknown field": edit("members", 1),
		"negative size": edit("size", -1), "a path": edit("name", "../../etc/passwd"), "no name": edit("name", ""), "backslash": edit("name", `a\b`), "short hash": edit("sha256", "00"), "number out of range": edit("number", MaxShards),
		"trailing data": append(slices.Clone(data), "{}"...), "too large": edit("name", strings.Repeat("n", MaxManifest)),
	} {
		if _, err := ParseManifest(bad); !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Manifest{Name: strings.Repeat("n", MaxManifest)}).Encode(); !fault.Is(err, fault.TooLarge) {
		t.Errorf("a manifest that nobody could read was encoded: %v", err)
	}
}

// FuzzManifest: what parses encodes to something that parses to the same.
func FuzzManifest(f *testing.F) {
	entries, err := os.ReadDir("testdata/fuzz/FuzzManifest")
	if err != nil || len(entries) < 3 {
		f.Fatalf("the committed corpus has %d entries (%v)", len(entries), err)
	}
	data, _ := sampleManifest().Encode()
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			return // escaping can make it longer than the limit
		}
		back, err := ParseManifest(again)
		if err != nil || back.Name != m.Name || back.Size != m.Size || back.Number != m.Number {
			t.Errorf("%+v became %+v, %v", m, back, err)
		}
	})
}
