package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"dsvault/vault/audit"
	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// part is one part of a bundle, taken apart by the book: package audit says how
// they are laid out.
type part struct {
	kind byte
	data []byte
}

const bundleBegin = "dsvault bundle v1\n"

func takeApart(t *testing.T, bundle []byte) []part {
	t.Helper()
	rest, ok := bytes.CutPrefix(bundle, []byte(bundleBegin))
	if !ok {
		t.Fatalf("not a bundle: %q", bundle[:min(len(bundle), 200)])
	}
	var parts []part
	for len(rest) > 0 {
		n := binary.BigEndian.Uint32(rest[1:])
		parts = append(parts, part{rest[0], bytes.Clone(rest[5 : 5+n])})
		rest = rest[5+n:]
	}
	return parts
}

func putTogether(parts []part) []byte {
	out := []byte(bundleBegin)
	records := uint64(0)
	for _, p := range parts {
		if p.kind == 'R' {
			records++
		}
		if p.kind == 'Z' {
			p.data = binary.BigEndian.AppendUint64(nil, records)
		}
		out = binary.BigEndian.AppendUint32(append(out, p.kind), uint32(len(p.data)))
		out = append(out, p.data...)
	}
	return out
}

// pick gives the place of the nth part of a kind; from the end if n is negative.
func pick(parts []part, kind byte, n int) int {
	var at []int
	for i, p := range parts {
		if p.kind == kind {
			at = append(at, i)
		}
	}
	if n < 0 {
		n += len(at)
	}
	return at[n]
}

// split splits a record into index and leaf, salt, and details.
func (p part) split() (head, salt, details []byte) {
	n := 10 + int(binary.BigEndian.Uint16(p.data[8:]))
	m := n + 1 + int(p.data[n])
	return p.data[:n], p.data[n+1 : m], p.data[m:]
}

func recordOf(head, salt, details []byte) part {
	return part{'R', slices.Concat(head, []byte{byte(len(salt))}, salt, details)}
}

// intercept has somebody in the middle change the bundles that the server sends.
func (w *world) intercept(t *testing.T, lie func([]part) []part) {
	w.between(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Path != wire.PathBundle {
			next.ServeHTTP(rw, r)
			return
		}
		rec := record(r, next)
		replay(rw, rec, putTogether(lie(takeApart(t, rec.Body.Bytes()))))
	})
}

// lies are what somebody may do to a bundle of a part of the log, and the check
// that finds it.
func lies(t *testing.T) map[string]struct {
	check string
	lie   func([]part) []part
} {
	middle := func(p []part) int { return pick(p, 'R', 3) }
	edit := func(f func(head, salt, details []byte) part) func([]part) []part {
		return func(p []part) []part {
			i := middle(p)
			head, salt, details := p[i].split()
			if len(salt) == 0 {
				t.Error("a record without details")
			}
			p[i] = f(head, salt, details)
			return p
		}
	}
	type lie = struct {
		check string
		lie   func([]part) []part
	}
	return map[string]lie{
		"leaf": {audit.CheckFormat, func(p []part) []part { p[middle(p)].data[12] ^= 1; return p }},
		"salt": {audit.CheckDetails, edit(func(h, s, d []byte) part { s[0] ^= 1; return recordOf(h, s, d) })},
		"details": {audit.CheckDetails, edit(func(h, s, d []byte) part {
			return recordOf(h, s, bytes.Replace(d, []byte(`"handle":"`), []byte(`"handle":"x`), 1))
		})},
		"name of a scope": {audit.CheckDetails, func(p []part) []part {
			i := pick(p, 'R', 0)
			h, s, d := p[i].split()
			p[i] = recordOf(h, s, bytes.Replace(d, []byte(`"scope":"acme"`), []byte(`"scope":"acne"`), 1))
			return p
		}},
		"left out":      {audit.CheckSeq, func(p []part) []part { i := middle(p); return slices.Delete(p, i, i+1) }},
		"last left out": {audit.CheckSeq, func(p []part) []part { i := pick(p, 'R', -1); return slices.Delete(p, i, i+1) }},
		"reordered": {"", func(p []part) []part {
			i := middle(p)
			p[i], p[i+1] = p[i+1], p[i]
			return p
		}},
		"repeated":      {audit.CheckOrder, func(p []part) []part { i := middle(p); return slices.Insert(p, i, p[i]) }},
		"slot left out": {audit.CheckSlot, func(p []part) []part { i := pick(p, 'E', -1); return slices.Delete(p, i, i+1) }},
		"slot":          {audit.CheckSlot, func(p []part) []part { p[pick(p, 'E', 0)].data[8+32+7]++; return p }},
		"statement":     {audit.CheckInclusionProof, func(p []part) []part { d := p[pick(p, 'S', 0)].data; d[40] ^= 1; return p }},
		"proof":         {audit.CheckInclusionProof, func(p []part) []part { d := p[pick(p, 'S', 0)].data; d[len(d)-1] ^= 1; return p }},
		"checkpoint":    {audit.CheckSignature, func(p []part) []part { d := p[pick(p, 'C', 0)].data; d[bytes.IndexByte(d, '\n')+1]++; return p }},
		"no end":        {audit.CheckBundle, func(p []part) []part { return p[:len(p)-1] }},
		"whole": {"", func(p []part) []part {
			p[0].data = bytes.Replace(p[0].data, []byte("false"), []byte("true"), 1)
			return p
		}},
		"scope": {"shown", func(p []part) []part {
			p[0].data = bytes.Replace(p[0].data, []byte(`"acme"`), []byte(`"acme/signs"`), 1)
			return p
		}},
	}
}

// TestVerifyLogFindsLies has somebody in the middle who shows another log than
// the vault keeps.
func TestVerifyLogFindsLies(t *testing.T) {
	w := newWorld(t)
	carol, _ := pushed(t, w, 2)
	acme := scope(t, "acme")
	verify := func() (client.Verified, error) {
		return carol.VerifyLog(t.Context(), acme, w.pin, client.VerifyOptions{})
	}
	whole, err := verify()
	if err != nil || whole.Seen == 0 || whole.Seen == whole.Size || whole.Details == 0 || len(whole.Scopes) != 3 || whole.Statement == nil {
		t.Fatalf("%+v, %v", whole, err)
	}
	for name, tt := range lies(t) {
		t.Run(name, func(t *testing.T) {
			w.intercept(t, tt.lie)
			defer w.between(nil)
			_, err := verify()
			wantCode(t, err, fault.Corrupt)
			var failed *audit.VerifyError
			if !errors.As(err, &failed) || tt.check != "" && failed.Check != tt.check {
				t.Errorf("%v does not name the check %q", err, tt.check)
			}
		})
	}
	if _, err := verify(); err != nil {
		t.Error(err)
	}
	w.pin.Origin += "x"
	_, err = verify()
	wantCode(t, err, fault.Corrupt)
	w.pin.Key = "nonsense"
	_, err = verify()
	wantCode(t, err, fault.Invalid)
	w.pin.Key = ""
	_, err = verify()
	wantCode(t, err, fault.Invalid)
}

// TestWholeLogHidesNothing hides a record from somebody who may see all of them.
func TestWholeLogHidesNothing(t *testing.T) {
	w := newWorld(t)
	ann := w.join("ann", dataset.Auditor, "/")
	for name, lie := range map[string]func([]part) []part{
		"one":      func(p []part) []part { i := pick(p, 'R', 2); return slices.Delete(p, i, i+1) },
		"the last": func(p []part) []part { i := pick(p, 'R', -1); return slices.Delete(p, i, i+1) },
	} {
		w.intercept(t, lie)
		_, err := ann.VerifyLog(t.Context(), dataset.Root, w.pin, client.VerifyOptions{})
		if !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.between(nil)
	v, err := ann.VerifyLog(t.Context(), dataset.Root, w.pin, client.VerifyOptions{})
	if err != nil || v.Seen != v.Size || v.Scopes[0].Name != "/" {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestVerifyLogRemembersScopes: a scope that was there once cannot be left out
// later, nor get another name.
func TestVerifyLogRemembersScopes(t *testing.T) {
	w := newWorld(t)
	carol, _ := pushed(t, w, 1)
	acme := scope(t, "acme")
	v, err := carol.VerifyLog(t.Context(), acme, w.pin, client.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	known := client.Known{}.And(v)
	if len(known.Scopes) != 3 {
		t.Fatalf("%+v", known)
	}
	verify := func(k client.Known) error {
		_, err := carol.VerifyLog(t.Context(), acme, w.pin, client.VerifyOptions{Known: k})
		return err
	}
	if err := verify(known); err != nil {
		t.Fatal(err)
	}
	// The last slot is that of the dataset.
	w.intercept(t, func(p []part) []part {
		entry := p[pick(p, 'E', -1)].data[:8]
		return slices.DeleteFunc(p, func(p part) bool {
			return p.kind == 'E' && bytes.Equal(p.data[:8], entry) || p.kind == 'R' && bytes.Equal(p.data[10+34:10+42], entry)
		})
	})
	if err := verify(client.Known{}); err != nil { // nobody can know yet
		t.Fatal(err)
	}
	err = verify(known)
	wantCode(t, err, fault.Corrupt)
	if !strings.Contains(err.Error(), "leaves out acme/signs/") {
		t.Error(err)
	}
	w.between(nil)
	other := client.Known{Origin: known.Origin, Size: known.Size, Root: known.Root, Scopes: map[string]dataset.HexBytes{"acme/other": known.Scopes["acme/signs"]}}
	wantCode(t, verify(other), fault.Corrupt)
}

// TestPullChecksReceipts: a read without a receipt of its own brings no data.
func TestPullChecksReceipts(t *testing.T) {
	w := newWorld(t)
	carol, _ := pushed(t, w, 2)
	receipts := t.TempDir()
	pull := func() error {
		shard := 0
		_, err := carol.Pull(t.Context(), scope(t, batch), client.PullOptions{
			Dir: t.TempDir(), Shard: &shard, Receipts: receipts, Pin: w.pin,
		})
		return err
	}
	var first, others string
	change := func(to func(receipt string) string) {
		w.between(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := record(r, next)
			if receipt := rec.Header().Get(wire.HeaderReceipt); receipt != "" {
				rec.Header().Set(wire.HeaderReceipt, to(receipt))
			}
			replay(rw, rec, rec.Body.Bytes())
		})
	}
	change(func(receipt string) string { first = receipt; return receipt })
	if err := pull(); err != nil || first == "" {
		t.Fatalf("%q, %v", first, err)
	}
	change(func(receipt string) string { others = receipt; return receipt })
	shard := 0
	dora := w.join("dora", dataset.ClientUser, "acme")
	if _, err := dora.Pull(t.Context(), scope(t, batch), client.PullOptions{Dir: t.TempDir(), Shard: &shard, Receipts: client.NoReceipts}); err != nil || others == "" {
		t.Fatalf("%q, %v", others, err)
	}
	for name, to := range map[string]func(string) string{
		"none":           func(string) string { return "" },
		"of earlier":     func(string) string { return first },
		"another's leaf": func(receipt string) string { return edited(t, receipt, func(r *audit.Receipt) { r.Index++ }) },
		"another's read": func(string) string { return others },
		"another's log":  func(receipt string) string { return edited(t, receipt, func(r *audit.Receipt) { r.Origin += "x" }) },
	} {
		change(to)
		if err := pull(); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.between(nil)
	if err := pull(); err != nil {
		t.Error(err)
	}
	kept, err := os.ReadDir(receipts)
	if err != nil || len(kept) != 2 {
		t.Errorf("%d receipts are kept, %v", len(kept), err)
	}
}

// edited changes a receipt as it stands in a header.
func edited(t *testing.T, header string, edit func(*audit.Receipt)) string {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(header)
	if err != nil {
		t.Error(err)
	}
	r, err := audit.ParseReceipt(data)
	if err != nil {
		t.Error(err)
	}
	edit(&r)
	if data, err = json.Marshal(r); err != nil {
		t.Error(err)
	}
	return base64.StdEncoding.EncodeToString(data)
}
