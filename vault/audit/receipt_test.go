package audit_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"dsvault/vault/audit"
)

// receipt is what the vault gives for a leaf of b.
func (b *bundled) receipt(t testing.TB, index uint64) audit.Receipt {
	t.Helper()
	promise, err := audit.SignPromise(origin, index, audit.LeafHash(b.log.data[index]), b.signers...)
	if err != nil {
		t.Fatal(err)
	}
	return audit.Receipt{Version: 1, Origin: origin, Key: b.header.Key, Index: index, Leaf: b.log.data[index], Promise: promise}
}

// complete adds the proof.
func (b *bundled) complete(t testing.TB, r audit.Receipt) audit.Receipt {
	t.Helper()
	r.Checkpoint, r.Proof = string(b.checkpoint(t)), naivePath(int(r.Index), b.log.data[:b.size])
	return r
}

func TestReceipt(t *testing.T) {
	b := sampleBundle(t)
	promised := b.receipt(t, 3)
	for name, r := range map[string]audit.Receipt{"promised": promised, "complete": b.complete(t, promised)} {
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := audit.ParseReceipt(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, opts := range []audit.BundleOptions{b.options(t), {}} { // the latter takes the receipt's key
			got, err := parsed.Verify(opts)
			if err != nil || got.Leaf.Kind != audit.KindRead || got.Hash != audit.LeafHash(b.log.data[3]) ||
				(got.Checkpoint != nil) != (name == "complete") {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
	want := "dsvault/receipt/v1\nlog " + origin + "\nleaf 3\n"
	if !bytes.HasPrefix([]byte(promised.Promise), []byte(want)) {
		t.Errorf("the promise is %q", promised.Promise)
	}
	// A promise is no checkpoint, whatever the log is called.
	number, _ := key(t, "123", 1)
	odd, err := audit.SignPromise("123", 3, audit.Hash{}, number)
	if err != nil {
		t.Fatal(err)
	}
	_, numbers := key(t, "123", 1)
	_, err = audit.OpenCheckpoint([]byte(odd), "dsvault/receipt/v1", numbers)
	wantCheck(t, err, audit.CheckCheckpoint, -1)
}

// What the documentation says of other people's tools.
func TestReceiptWithOtherTools(t *testing.T) {
	b := sampleBundle(t)
	r := b.complete(t, b.receipt(t, 3))
	verifier := note.VerifierList(mustVerifier(t, b.header.Key))
	promise, err := note.Open([]byte(r.Promise), verifier)
	if err != nil {
		t.Fatal(err)
	}
	hash := tlog.RecordHash(r.Leaf)
	if lines := strings.Split(promise.Text, "\n"); len(lines) != 5 || lines[3] != base64.StdEncoding.EncodeToString(hash[:]) {
		t.Errorf("the promise is %q", promise.Text)
	}
	checkpoint, err := note.Open([]byte(r.Checkpoint), verifier)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(checkpoint.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil {
		t.Fatal(err)
	}
	proof := make(tlog.RecordProof, len(r.Proof))
	for i, h := range r.Proof {
		proof[i] = tlog.Hash(h)
	}
	if err := tlog.CheckRecord(proof, size, tlog.Hash(root), int64(r.Index), hash); err != nil {
		t.Error(err)
	}
}

func TestReceiptRefuses(t *testing.T) {
	b := sampleBundle(t)
	mallory, _ := key(t, "mallory.example", 7)
	for name, c := range map[string]struct {
		edit  func(*audit.Receipt)
		check string
	}{
		"leaf":          {func(r *audit.Receipt) { r.Leaf = b.log.data[4] }, audit.CheckReceipt},
		"no leaf":       {func(r *audit.Receipt) { r.Leaf = nil }, audit.CheckFormat},
		"index":         {func(r *audit.Receipt) { r.Index++ }, audit.CheckReceipt},
		"origin":        {func(r *audit.Receipt) { r.Origin = "another.example" }, audit.CheckOrigin},
		"other's leaf":  {func(r *audit.Receipt) { r.Promise = b.receipt(t, 4).Promise }, audit.CheckReceipt},
		"no promise":    {func(r *audit.Receipt) { r.Promise = "" }, audit.CheckReceipt},
		"long promise":  {func(r *audit.Receipt) { r.Promise = string(make([]byte, audit.MaxCheckpoint+1)) }, audit.CheckReceipt},
		"other's key":   {func(r *audit.Receipt) { r.Promise, _ = audit.SignPromise(origin, 3, audit.LeafHash(r.Leaf), mallory) }, audit.CheckReceipt},
		"checkpoint":    {func(r *audit.Receipt) { r.Checkpoint = r.Promise }, audit.CheckCheckpoint},
		"proof":         {func(r *audit.Receipt) { r.Proof[0], r.Proof[1] = r.Proof[1], r.Proof[0] }, audit.CheckInclusionProof},
		"shorter proof": {func(r *audit.Receipt) { r.Proof = r.Proof[1:] }, audit.CheckInclusionProof},
	} {
		r := b.complete(t, b.receipt(t, 3))
		c.edit(&r)
		_, err := r.Verify(b.options(t))
		if !errors.Is(err, &audit.VerifyError{Check: c.check}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := b.receipt(t, 3)
	r.Key = "nonsense"
	_, err := r.Verify(audit.BundleOptions{})
	wantCheck(t, err, audit.CheckSignature, -1)
	if _, err := audit.SignPromise("two\nlines", 0, audit.Hash{}, mallory); err == nil {
		t.Error("an origin of two lines was signed")
	}
	for _, bad := range []string{
		"", "[]", "{}", `{"dsvault_receipt":2}`, `{"dsvault_receipt":1} {}`, `{"dsvault_receipt":1,"index":-1}`, `{"dsvault_receipt":1,"more":1}`,
		`{"dsvault_receipt":1,"proof":["AAAA"],"checkpoint":"x"}`, `{"dsvault_receipt":1,"checkpoint":"x"}`,
		`{"dsvault_receipt":1,"leaf":"` + string(bytes.Repeat([]byte("A"), audit.MaxReceipt)) + `"}`,
	} {
		_, err := audit.ParseReceipt([]byte(bad))
		wantCheck(t, err, audit.CheckReceipt, -1)
	}
}

// TestUndercountIsCaught: a vault that leaves a read out, and states a count
// without it, contradicts the receipt that it gave to the reader. Nothing else
// in the bundle is wrong.
func TestUndercountIsCaught(t *testing.T) {
	honest := sampleBundle(t)
	receipt := honest.receipt(t, 9)

	// The log goes on as if leaf 9, the last read of slot 1, were not there.
	b := &bundled{log: sampleLog(t), slots: []uint64{1}, header: honest.header, signers: honest.signers}
	b.state(t, func(a *audit.Array) {
		a.Set(1, audit.Entry{Tag: id16(1001), Count: 4, Last: 7, Hash: audit.LeafHash(b.log.data[7])})
	})
	without := b.write(t, func(r *audit.Record) bool { return r.Index != 9 })

	opts := b.options(t)
	if got, err := verifyBundle(without, opts); err != nil || got.Leaves != 4 {
		t.Fatalf("the bundle alone has to verify: %+v, %v", got, err)
	}
	if _, err := receipt.Verify(opts); err != nil {
		t.Fatal(err)
	}
	opts.Receipts = []audit.Receipt{receipt}
	_, err := verifyBundle(without, opts)
	wantCheck(t, err, audit.CheckReceipt, 9)

	// Whoever sees the whole log needs no receipt.
	b.header.Whole = true
	_, err = verifyBundle(b.write(t, nil), b.options(t))
	wantCheck(t, err, audit.CheckStatement, int64(b.statement.Index))
}

func TestBundleHoldsReceipts(t *testing.T) {
	b := sampleBundle(t)
	opts := b.options(t)
	// Of this slot; of another; after the statement.
	opts.Receipts = []audit.Receipt{b.receipt(t, 3), b.receipt(t, 4), b.receipt(t, 12)}
	got, err := verifyBundle(b.write(t, nil), opts)
	if err != nil || got.Receipts != 1 {
		t.Errorf("%d receipts, %v", got.Receipts, err)
	}
	// Two promises of one index cannot both be kept.
	forged := b.receipt(t, 3)
	forged.Leaf = b.log.data[6]
	opts.Receipts = append(opts.Receipts, forged)
	_, err = verifyBundle(b.write(t, nil), opts)
	wantCheck(t, err, audit.CheckReceipt, 3)
}

func FuzzReceipt(f *testing.F) {
	b := sampleBundle(f)
	for _, r := range []audit.Receipt{b.receipt(f, 3), b.complete(f, b.receipt(f, 3))} {
		data, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	verifier := b.options(f).Keys
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := audit.ParseReceipt(data)
		if err != nil {
			return
		}
		report, err := r.Verify(audit.BundleOptions{Keys: verifier, Origin: origin})
		if err == nil && (r.Index != 3 || report.Hash != audit.LeafHash(b.log.data[3])) {
			t.Fatal("a receipt of something else was accepted")
		}
		r.Verify(audit.BundleOptions{})
	})
}

func BenchmarkPromise(b *testing.B) {
	signer, vkey := testKey(b)
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		b.Fatal(err)
	}
	hash := audit.LeafHash([]byte("leaf"))
	b.Run("sign", func(b *testing.B) {
		for b.Loop() {
			if _, err := audit.SignPromise(origin, 123456, hash, signer); err != nil {
				b.Fatal(err)
			}
		}
	})
	promise, err := audit.SignPromise(origin, 123456, hash, signer)
	if err != nil {
		b.Fatal(err)
	}
	b.Run(fmt.Sprintf("open/bytes=%d", len(promise)), func(b *testing.B) {
		for b.Loop() {
			if _, err := note.Open([]byte(promise), note.VerifierList(verifier)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestMayBeProof: whatever one byte becomes, a receipt and a bundle are still known
// for what they were; other files are not taken for one.
func TestMayBeProof(t *testing.T) {
	b := sampleBundle(t)
	receipt, err := json.Marshal(b.complete(t, b.receipt(t, 3)))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"receipt": receipt, "bundle": b.write(t, nil), "certificate": []byte(`{"dsvault_certificate":1`)} {
		if !audit.MayBeProof(data) {
			t.Errorf("the %s is not one", name)
		}
		for i := range data[:min(len(data), 2000)] {
			if name == "certificate" {
				break
			}
			changed := bytes.Clone(data)
			changed[i] ^= 1
			if !audit.MayBeProof(changed) {
				t.Errorf("the %s with another byte %d is not one", name, i)
			}
		}
	}
	if !audit.MayBeProof(nil) {
		t.Error("an empty file cannot have been a proof")
	}
	for _, text := range []string{"{}", "hello\n", `{"version": 1, "checkpoint": "x"}`, "age-encryption.org/v1\n", "dsvault is a vault for datasets"} {
		if audit.MayBeProof([]byte(text)) {
			t.Errorf("%q may be a proof", text)
		}
	}
}
