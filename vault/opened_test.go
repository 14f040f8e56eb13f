package vault_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvault/storage"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// counted is an object store that keeps count of what is asked of it, and can
// damage what it gives.
type counted struct {
	storage.Objects
	mu     sync.Mutex
	opens  []string // their ETags
	damage func(offset int64, r io.ReadCloser) io.ReadCloser
}

func (c *counted) Open(ctx context.Context, key string, offset, length int64, etag string) (io.ReadCloser, error) {
	c.mu.Lock()
	c.opens = append(c.opens, etag)
	damage := c.damage
	c.mu.Unlock()
	r, err := c.Objects.Open(ctx, key, offset, length, etag)
	if err == nil && damage != nil {
		r = damage(offset, r)
	}
	return r, err
}

// opened begins an opened read of shard 0 as somebody.
func (w *world) opened(who, purpose string, spans ...vault.Span) (*vault.OpenedStream, error) {
	ref := dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1"), Number: 0}
	return w.v.Open(context.Background(), w.as(who), vault.Item{Shard: ref}, purpose, func(vault.Content) []vault.Span { return spans })
}

// sent sends an opened read and gives its spans.
func sent(s *vault.OpenedStream, spans int) ([]string, error) {
	parts := make([]bytes.Buffer, spans)
	err := s.Send(func(i int) (io.Writer, error) { return &parts[i], nil }, func() {})
	var texts []string
	for i := range parts {
		texts = append(texts, parts[i].String())
	}
	return texts, err
}

func TestOpenedSpans(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	store := &counted{Objects: w.objects}
	w.objects = store
	must[struct{}](t)(struct{}{}, w.v.Close())
	w.v = must[*vault.Vault](t)(w.open())
	if err := w.delivery("carol", dataset.Opened); err != nil {
		t.Fatal(err)
	}
	plain := strings.Repeat("secret ", 50_000)
	size := int64(len(plain))
	etags := map[string]bool{}
	for name, spans := range map[string][]vault.Span{
		"nothing": nil, "all": {{0, size}}, "one byte": {{size - 1, 1}}, "over a chunk's end": {{65_000, 1000}},
		"many, near each other": {{0, 1}, {10, 5}, {70_000, 3}, {200_000, 100}, {size - 7, 7}},
	} {
		store.opens = nil
		s := must[*vault.OpenedStream](t)(w.opened("carol", "", spans...))
		if s.Size != size || s.Name != "file" {
			t.Errorf("%+v", s.Content)
		}
		etags[s.ETag] = true
		texts, err := sent(s, len(spans))
		if err != nil {
			t.Fatal(err)
		}
		for i, span := range spans {
			if texts[i] != plain[span.Start:span.Start+span.Length] {
				t.Errorf("%s: span %d has other bytes", name, i)
			}
		}
		if len(store.opens) != min(1, len(spans)) || slices.Contains(store.opens, "") {
			t.Errorf("%s: storage was asked %q", name, store.opens)
		}
	}
	if len(etags) != 1 {
		t.Errorf("one content has the ETags %v", etags)
	}
	for name, spans := range map[string][]vault.Span{
		"beyond": {{size, 1}}, "too long": {{0, size + 1}}, "negative": {{-1, 2}}, "empty": {{3, 0}}, "backwards": {{5, 1}, {0, 1}},
		"overlapping": {{0, 5}, {4, 2}}, "overflow": {{5, 1<<63 - 1}},
	} {
		if s, err := w.opened("carol", "", spans...); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	var kinds []string
	for _, l := range w.verify() {
		if l.Kind == audit.KindRead {
			d, _ := l.Text(audit.FieldDelivery)
			kinds = append(kinds, d)
		}
	}
	if len(kinds) != 5 || slices.ContainsFunc(kinds, func(d string) bool { return d != "opened" }) {
		t.Errorf("the log has the reads %q", kinds)
	}
}

func TestFetches(t *testing.T) {
	const far = 2 << 20
	for _, c := range []struct {
		want  int
		spans []vault.Span
	}{
		{0, nil}, {1, []vault.Span{{5, 5}}}, {1, []vault.Span{{0, 1}, {1 << 20, 1}, {2 << 20, 1}}},
		{2, []vault.Span{{0, 1}, {far, 1}}}, {3, []vault.Span{{0, 1}, {far, 1}, {2 * far, 1}}},
		{4, []vault.Span{{0, 1}, {far, 1}, {2 * far, 1}, {3 * far, 1}}},
	} {
		if got := vault.Fetches(c.spans); got != c.want {
			t.Errorf("%v takes %d fetches, not %d", c.spans, got, c.want)
		}
	}
}

// What was recorded of an opened read, and of its end.
func TestOpenedIsRecorded(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0")
	if err := w.delivery("carol", dataset.Opened); err != nil {
		t.Fatal(err)
	}
	s := must[*vault.OpenedStream](t)(w.opened("lee", "", vault.Span{10, 5}, vault.Span{100, 50}))
	lastLeaf := func(kind audit.Kind) audit.Leaf {
		leaves := w.verify()
		for _, l := range slices.Backward(leaves) {
			if l.Kind == kind {
				return l
			}
		}
		t.Fatalf("no %v in the log", kind)
		return audit.Leaf{}
	}
	fields := func(l audit.Leaf) map[string]string { return l.Texts() }
	read := fields(lastLeaf(audit.KindRead)) // before its first byte
	for name, want := range map[string]string{"delivery": "opened", "range-start": "10", "range-length": "140",
		"ranges": "10-14,100-149", "max-bytes": "55", "purpose": "labeling", "device-id": ""} {
		if read[name] != want {
			t.Errorf("%s is %q, not %q", name, read[name], want)
		}
	}
	if _, err := sent(s, 2); err != nil {
		t.Fatal(err)
	}
	s.Close()
	end := fields(lastLeaf(audit.KindReadEnd))
	if end["bytes-sent"] != "55" || end["cause"] != "finished" {
		t.Errorf("%v", end)
	}
	// A look without data, one that was given up, and one whose reader fails.
	s = must[*vault.OpenedStream](t)(w.opened("lee", ""))
	if _, err := sent(s, 0); err != nil {
		t.Fatal(err)
	}
	if read = fields(lastLeaf(audit.KindRead)); read["max-bytes"] != "0" || read["range-start"] != "" {
		t.Errorf("%v", read)
	}
	s = must[*vault.OpenedStream](t)(w.opened("lee", "", vault.Span{0, 5}))
	gone := errors.New("gone")
	if err := s.Send(func(int) (io.Writer, error) { return nil, gone }, func() {}); !errors.Is(err, gone) {
		t.Error(err)
	}
	if end = fields(lastLeaf(audit.KindReadEnd)); end["bytes-sent"] != "0" || end["cause"] != "client-gone" {
		t.Errorf("%v", end)
	}
	must[*vault.OpenedStream](t)(w.opened("lee", "", vault.Span{0, 5})).Close()
	if end = fields(lastLeaf(audit.KindReadEnd)); end["cause"] != "failed" {
		t.Errorf("%v", end)
	}
}

func TestOpenedIsRefused(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.assign("lee", "0")
	for _, who := range []string{"lee", "carol", "rita"} { // the project allows sealed delivery only
		_, err := w.opened(who, "", vault.Span{0, 1})
		wantCode(t, err, fault.Forbidden)
		if hint := fault.HintOf(err); !strings.Contains(hint, "way of delivery") {
			t.Errorf("%s: the hint is %q", who, hint)
		}
	}
	_, err := w.opened("stranger", "", vault.Span{0, 1})
	wantCode(t, err, fault.NotFound)
	if err := w.delivery("carol", dataset.Opened); err != nil {
		t.Fatal(err)
	}
	_, err = w.opened("lee", "training", vault.Span{0, 1})
	wantCode(t, err, fault.Forbidden)
	_, err = w.opened("lee", "a\nb", vault.Span{0, 1})
	wantCode(t, err, fault.Invalid)
	_, err = w.v.Open(context.Background(), w.as("lee"), vault.Item{Shard: dataset.ShardRef{Dataset: w.scope("acme/signs/batch-1"), Number: 1}}, "", func(vault.Content) []vault.Span { return nil })
	wantCode(t, err, fault.Forbidden)

	// A read that is under way ends when the project takes the delivery back.
	s := must[*vault.OpenedStream](t)(w.opened("lee", "", vault.Span{0, 1000}))
	blocked := make(chan struct{})
	reached := make(chan error, 1)
	go func() {
		reached <- s.Send(func(int) (io.Writer, error) {
			if err := w.delivery("carol"); err != nil {
				t.Error(err)
			}
			<-blocked
			return io.Discard, nil
		}, func() { close(blocked) })
	}()
	select {
	case err := <-reached:
		wantCode(t, err, fault.Forbidden)
	case <-time.After(time.Minute):
		t.Fatal("the read went on")
	}
}

// Damaged storage gives an error, and until then only what is right.
func TestOpenedDamage(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	store := &counted{Objects: w.objects}
	w.objects = store
	must[struct{}](t)(struct{}{}, w.v.Close())
	w.v = must[*vault.Vault](t)(w.open())
	if err := w.delivery("carol", dataset.Opened); err != nil {
		t.Fatal(err)
	}
	plain := strings.Repeat("secret ", 50_000)
	whole := vault.Span{0, int64(len(plain))}
	for name, damage := range map[string]func(int64, io.ReadCloser) io.ReadCloser{
		"a flipped bit": func(_ int64, r io.ReadCloser) io.ReadCloser { return &flipped{ReadCloser: r, at: 200_000} },
		"cut short":     func(_ int64, r io.ReadCloser) io.ReadCloser { return &short{r, 100_000} },
	} {
		store.damage = damage
		texts, err := sent(must[*vault.OpenedStream](t)(w.opened("carol", "", whole)), 1)
		wantCode(t, err, fault.Corrupt)
		if len(texts[0])%65536 != 0 || len(texts[0]) == 0 || !strings.HasPrefix(plain, texts[0]) {
			t.Errorf("%s: %d bytes came, or wrong ones", name, len(texts[0]))
		}
	}
	begun := false
	begin := func(int) (io.Writer, error) { begun = true; return io.Discard, nil }
	store.damage = func(_ int64, r io.ReadCloser) io.ReadCloser { return &flipped{ReadCloser: r, at: 10} }
	s := must[*vault.OpenedStream](t)(w.opened("carol", "", whole))
	wantCode(t, s.Send(begin, func() {}), fault.Corrupt)
	store.damage = nil
	for o, err := range w.objects.List(t.Context(), "v1/") { // all of it gone
		if err != nil {
			t.Fatal(err)
		}
		if err := w.objects.Delete(t.Context(), o.Key); err != nil {
			t.Fatal(err)
		}
	}
	s = must[*vault.OpenedStream](t)(w.opened("carol", "", whole))
	wantCode(t, s.Send(begin, func() {}), fault.Corrupt)
	if begun {
		t.Error("the answer began before there was a byte to send")
	}
}

type flipped struct {
	io.ReadCloser
	n, at int64
}

func (f *flipped) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if i := f.at - f.n; i >= 0 && i < int64(n) {
		p[i] ^= 1
	}
	f.n += int64(n)
	return n, err
}

type short struct {
	io.ReadCloser
	left int
}

func (s *short) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.ReadCloser.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// A member takes one request for the list of members, the first time, and at
// most two for its bytes.
func TestMemberFetches(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	store := &counted{Objects: w.objects}
	w.objects = store
	must[struct{}](t)(struct{}{}, w.v.Close())
	w.v = must[*vault.Vault](t)(w.open())
	if err := w.delivery("carol", dataset.Opened); err != nil {
		t.Fatal(err)
	}
	data := strings.Repeat("0123456789abcdef", 8<<20/16)
	d := must[wire.Dataset](t)(w.v.PutFile(t.Context(), w.as("carol"), w.scope("acme/signs/large"), "large.bin", strings.NewReader(data), int64(len(data))))
	item := vault.Item{Shard: dataset.ShardRef{Dataset: d.Scope}, Member: "large.bin"}
	open := func(spans ...vault.Span) ([]string, error) {
		store.opens = nil
		s, err := w.v.Open(t.Context(), w.as("carol"), item, "", func(c vault.Content) []vault.Span {
			if c.Size != int64(len(data)) || c.Fetches != 2 {
				t.Errorf("%+v", c)
			}
			return spans
		})
		if err != nil {
			return nil, err
		}
		return sent(s, len(spans))
	}
	for i, want := range []int{3, 2} { // the second time it is known where the member lies
		texts := must[[]string](t)(open(vault.Span{Start: 16, Length: 20}, vault.Span{Start: 5 << 20, Length: 3}))
		if texts[0] != "0123456789abcdef0123" || texts[1] != "012" || len(store.opens) != want || slices.Contains(store.opens, "") {
			t.Errorf("read %d: %q, storage was asked %q", i, texts, store.opens)
		}
	}
	if _, err := open(vault.Span{Start: 0, Length: 1}, vault.Span{Start: 3 << 20, Length: 1}, vault.Span{Start: 6 << 20, Length: 1}); !fault.Is(err, fault.Internal) {
		t.Errorf("three places: %v", err)
	}
	// A damaged list is damage, not an absent member.
	store.damage = func(_ int64, r io.ReadCloser) io.ReadCloser { return &flipped{ReadCloser: r, at: 40} }
	item.Member = "other"
	_, err := open()
	wantCode(t, err, fault.Corrupt)
	store.damage = nil
	_, err = open()
	wantCode(t, err, fault.NotFound)
}
