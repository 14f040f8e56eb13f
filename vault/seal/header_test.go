package seal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"filippo.io/age/armor"

	"dsvault/vault/fault"
)

// TestSerialiserIsAges compares our header bytes with those that age writes.
func TestSerialiserIsAges(t *testing.T) {
	for trial := range 200 {
		var recipients []age.Recipient
		for range 1 + trial%3 {
			recipients = append(recipients, newIdentity(t).hybrid.Recipient())
		}
		id := newIdentity(t)
		recipients = append(recipients, id.hybrid.Recipient())
		var sealed bytes.Buffer
		w, err := age.Encrypt(&sealed, recipients...)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		want, err := age.ExtractHeader(bytes.NewReader(sealed.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		header, _, err := ReadHeader(&sealed)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(header, want) {
			t.Fatal("ReadHeader does not give age's header")
		}
		stanzas, _, _ := parseHeader(header)
		secret, err := mustOpenHeader(t, header, id).bytes("test")
		if err != nil {
			t.Fatal(err)
		}
		// The MAC is computed anew.
		if again, err := sealHeader(secret, stanzas); err != nil || !bytes.Equal(again, want) {
			t.Fatalf("trial %d: the serialiser differs from age's (%v)", trial, err)
		}
	}
}

// TestBodyLines covers line lengths that hybrid stanzas do not have.
func TestBodyLines(t *testing.T) {
	for n := range 200 {
		stanza := &age.Stanza{Type: "test", Args: []string{"a", "b"}, Body: sample(n)}
		header, err := sealHeader(make([]byte, fileKeySize), []*age.Stanza{stanza, stanza})
		if err != nil {
			t.Fatal(err)
		}
		again, err := age.ExtractHeader(bytes.NewReader(header))
		if err != nil || !bytes.Equal(again, header) {
			t.Fatalf("a body of %d bytes: age reads another header (%v)", n, err)
		}
	}
}

func TestHeaderSizeIsConstant(t *testing.T) {
	for range 50 {
		header, _, _, key := parts(t, nil)
		if got, _, err := ReadHeader(bytes.NewReader(header)); err != nil || len(got) != HeaderSize() {
			t.Fatalf("header of %d bytes, want %d (%v)", len(got), HeaderSize(), err)
		}
		if again, err := Rewrap(key, newIdentity(t).Recipient()); err != nil || len(again) != HeaderSize() {
			t.Fatalf("re-wrapped header of %d bytes, want %d (%v)", len(again), HeaderSize(), err)
		}
	}
}

func TestRewrap(t *testing.T) {
	for _, n := range edges {
		plain := sample(n)
		header, payload, _, key := parts(t, plain)
		reader := newIdentity(t)
		fresh, err := Rewrap(key, reader.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(fresh, header) {
			t.Fatal("the header is not fresh")
		}
		r, err := age.Decrypt(bytes.NewReader(slices.Concat(fresh, payload)), reader.hybrid)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: stock age does not open the re-wrapped file (%v)", n, err)
		}
		_, err = OpenHeader(fresh, newIdentity(t))
		wantRefusal(t, err, fault.Invalid, msgNoMatch)
	}
}

func TestOpenHeaderRefusesEveryAlteration(t *testing.T) {
	id := newIdentity(t)
	header := mustSeal(t, nil, id.Recipient())[:HeaderSize()]
	for i := range header {
		altered := bytes.Clone(header)
		altered[i] ^= 1 << (i % 7)
		if _, err := OpenHeader(altered, id); !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
			t.Fatalf("byte %d altered: %v", i, err)
		}
	}
	for n := range header {
		_, err := OpenHeader(header[:n], id)
		wantCode(t, err, fault.Invalid)
	}
	_, err := OpenHeader(append(bytes.Clone(header), 'x'), id)
	wantRefusal(t, err, fault.Invalid, msgTrailing)
}

// TestForeignMAC: a stanza that opens, in a header made under another key.
func TestForeignMAC(t *testing.T) {
	id := newIdentity(t)
	header := mustSeal(t, nil, id.Recipient())[:HeaderSize()]
	stanzas, _, _ := parseHeader(header)
	forged, err := sealHeader([]byte("another file key"), stanzas)
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenHeader(forged, id)
	wantRefusal(t, err, fault.Invalid, msgAltered)
}

// stanzaText gives n copies of the stanzas of a fresh hybrid header.
func stanzaText(t *testing.T, n int) string {
	header := string(mustSeal(t, nil, newIdentity(t).Recipient())[:HeaderSize()])
	one := header[len(intro):strings.Index(header, footerMark)]
	return strings.Repeat(one, n)
}

func TestHeaderLimits(t *testing.T) {
	footer := footerMark + " " + strings.Repeat("A", macText) + "\n"
	x25519 := "-> X25519 " + strings.Repeat("A", 43) + "\n" + strings.Repeat("A", 43) + "\n"
	for name, c := range map[string]struct {
		file    string
		code    fault.Code
		message string
	}{
		"empty":           {"", fault.Invalid, msgNotAge},
		"random":          {string(sample(1 << 20)), fault.Invalid, msgNotAge},
		"intro cut":       {intro[:9], fault.Invalid, msgCut},
		"version 2":       {"age-encryption.org/v2\n", fault.Invalid, msgVersion},
		"CRLF":            {strings.Replace(intro, "\n", "\r\n", 1), fault.Invalid, msgVersion},
		"armor":           {armor.Header + "\nYWdl\n", fault.Invalid, msgArmored},
		"armor, indented": {"\n " + armor.Header + "\nYWdl\n", fault.Invalid, msgArmored},
		"no stanza":       {intro + footer, fault.Invalid, msgNoStanza},
		"header cut":      {intro + stanzaText(t, 1), fault.Invalid, msgCut},
		"body first":      {intro + "AAAA\n" + footer, fault.Invalid, msgMalformed},
		"33 stanzas":      {intro + stanzaText(t, 33) + footer, fault.TooLarge, msgStanzas},
		"1,000 stanzas":   {intro + stanzaText(t, 1000) + footer, fault.TooLarge, msgStanzas},
		"1,000 tiny":      {intro + strings.Repeat("-> x\n\n", 1000) + footer, fault.TooLarge, msgStanzas},
		"long line":       {intro + "-> " + strings.Repeat("x", maxHeader), fault.TooLarge, msgTooLarge},
		"X25519":          {intro + x25519 + footer, fault.Invalid, msgClassic},
		"X25519 last":     {intro + stanzaText(t, 1) + x25519 + footer, fault.Invalid, msgMixed},
		"X25519 first":    {intro + x25519 + stanzaText(t, 1) + footer, fault.Invalid, msgMixed},
		"scrypt":          {intro + "-> scrypt AAAA 10\n\n" + footer, fault.Invalid, msgPassphrase},
		"grease":          {intro + "-> x-grease\n\n" + stanzaText(t, 1) + footer, fault.Invalid, msgMixed},
		"plugin":          {intro + "-> piv-p256 AAAA\n\n" + footer, fault.Invalid, msgForeign},
		"upper case":      {intro + strings.Replace(stanzaText(t, 1), "mlkem", "MLKEM", 1) + footer, fault.Invalid, msgForeign},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := ReadHeader(strings.NewReader(c.file))
			wantRefusal(t, err, c.code, c.message)
			if _, err = OpenHeader([]byte(c.file), newIdentity(t)); fault.CodeOf(err) != c.code {
				t.Fatalf("OpenHeader: %v", err)
			}
		})
	}
	full := intro + stanzaText(t, maxStanzas) + footer
	if header, _, err := ReadHeader(strings.NewReader(full)); err != nil || string(header) != full {
		t.Fatalf("%d stanzas are refused: %v", maxStanzas, err)
	}
}

// countingReader counts what was taken from it.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func TestEndlessHeader(t *testing.T) {
	for name, line := range map[string]string{
		"one line": "A",
		"body":     strings.Repeat("A", columns) + "\n",
		"stanzas":  "-> x\n\n",
	} {
		endless := io.MultiReader(strings.NewReader(intro+"-> mlkem768x25519 A\n"), strings.NewReader(strings.Repeat(line, 10<<20/len(line))))
		counter := &countingReader{r: endless}
		_, _, err := ReadHeader(counter)
		wantCode(t, err, fault.TooLarge)
		if counter.n > maxHeader+4096 {
			t.Errorf("%s: %d bytes were read", name, counter.n)
		}
	}
}

func TestRestFollowsTheHeader(t *testing.T) {
	sealed := mustSeal(t, sample(100_000), newIdentity(t).Recipient())
	for name, r := range map[string]io.Reader{
		"plain":    bytes.NewReader(sealed),
		"one byte": iotest.OneByteReader(bytes.NewReader(sealed)),
		"data+EOF": iotest.DataErrReader(bytes.NewReader(sealed)),
		"buffered": bufioReader(sealed),
	} {
		header, rest, err := ReadHeader(r)
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := io.ReadAll(rest)
		if err != nil || !bytes.Equal(slices.Concat(header, got), sealed) {
			t.Fatalf("%s: rest does not continue after the header (%v)", name, err)
		}
	}
}

func TestSourceErrorsKeepTheirCode(t *testing.T) {
	id := newIdentity(t)
	sealed := mustSeal(t, sample(3*ChunkSize), id.Recipient())
	down := fault.New(fault.Unavailable, "storage.Get", "the store is down")
	for _, at := range []int{0, 10, 500, HeaderSize(), HeaderSize() + 5, HeaderSize() + NonceSize, 100_000, len(sealed)} {
		for _, c := range []struct {
			err  error
			code fault.Code
		}{{down, fault.Unavailable}, {context.Canceled, fault.Canceled}, {io.ErrUnexpectedEOF, fault.Unavailable}} {
			r, err := Open(io.MultiReader(bytes.NewReader(sealed[:at]), iotest.ErrReader(c.err)), id)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if at == len(sealed) && errors.Is(c.err, io.ErrUnexpectedEOF) && err == nil {
				continue
			}
			if fault.CodeOf(err) != c.code || !errors.Is(err, c.err) {
				t.Errorf("failing at %d with %v: got %v", at, c.err, err)
			}
		}
	}
}
