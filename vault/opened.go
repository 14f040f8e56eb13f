package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"strings"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/pack"
	"dsvault/vault/seal"
)

// Span is consecutive bytes of a content.
type Span struct{ Start, Length int64 }

func (s Span) end() int64 { return s.Start + s.Length }

// Item is what an opened read is of: a shard, or one member of it.
type Item struct {
	Shard  dataset.ShardRef
	Member string // its path in the shard; empty: the whole shard
}

// Content is what there is of an item.
type Content struct {
	Size    int64  // bytes
	ETag    string // two contents with one ETag have the same bytes
	Fetches int    // requests to the object store that may be spent on it
}

const (
	maxFetches = 3       // requests to the object store that one opened read may take
	maxGap     = 1 << 20 // bytes between spans that are rather fetched and dropped than asked for apart
)

// Fetches is how many requests to the object store it takes to send spans,
// which ascend without overlap.
func Fetches(spans []Span) int { return len(fetches(spans)) }

// fetches joins the spans that one request to the object store gives.
func fetches(spans []Span) (groups [][]Span) {
	for i, s := range spans {
		if i == 0 || s.Start-spans[i-1].end() > maxGap {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], s)
	}
	return groups
}

// OpenedStream is one admitted read, opened: Send gives the bytes in clear.
// Send or Close ends it; both are safe after the other.
type OpenedStream struct {
	*reading
	Content
	Name      string // of the file: client data
	MediaType string // as who pushed it says; empty: unknown

	item  Item
	base  int64 // where the content begins in the shard's plaintext
	spans []Span
	key   seal.FileKey
}

// Open admits an opened read of an item. choose says, given the content, which
// spans of it are wanted: ascending, without overlap, and for no more fetches
// than Content allows. No span at all is a look at what is there: it is admitted
// and recorded too, since names are the client's data. When Open returns, the
// read is in the log with its range; no byte of it has been sent yet.
func (v *Vault) Open(ctx context.Context, c identity.Caller, item Item, purpose string, choose func(Content) []Span) (*OpenedStream, error) {
	in, found, err := v.openedIntent(ctx, c, item, purpose)
	if err != nil {
		return nil, err
	}
	s := &OpenedStream{item: item, Content: Content{Size: found.shard.PlainSize, Fetches: maxFetches}}
	if item.Member != "" {
		at, err := v.member(ctx, c, in, found.shard, item.Member)
		if err != nil {
			return nil, err
		}
		s.base, s.Size, s.Fetches = at.offset, at.size, maxFetches-1 // one is for the index
		s.Name, s.MediaType = path.Base(item.Member), at.mediaType
	}
	s.ETag = etag(&found.shard, s.base, s.Size)
	if s.spans = choose(s.Content); !within(s.spans, s.Content) {
		return nil, fault.New(fault.Internal, "vault.Open", "these spans are not of the content")
	}
	in.Access = &ledger.Access{Dataset: found.shard.Dataset, Shard: item.Shard.Number}
	s.describe(&in)
	var first *ahead
	if groups := fetches(s.spans); len(groups) > 0 {
		header := int64(len(found.shard.Header))
		start, end := groups[0][0].Start, groups[0][len(groups[0])-1].end()
		from, n, err := seal.ChunkRange(found.shard.SealedSize-header, s.base+start, end-start)
		if err != nil {
			return nil, lost(err)
		}
		first = v.fetchAhead(ctx, in.Query, shardObjectIn(found.shard), header+from, n)
	}
	s.reading, err = v.admit(ctx, c, in, found.shard)
	first.admitted(s.reading, err)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func shardObjectIn(s storage.Shard) storage.Object { return storage.Object{Key: s.Key, ETag: s.ETag} }

// openedIntent is what an opened read wants, and what is known of the shard.
func (v *Vault) openedIntent(ctx context.Context, c identity.Caller, item Item, purpose string) (ledger.Intent, found, error) {
	ref := item.Shard
	if err := checkText("purpose", purpose, 63); err != nil {
		return ledger.Intent{}, found{}, err
	}
	t, err := v.target(ctx, ref.Dataset)
	if err != nil {
		return ledger.Intent{}, found{}, err
	}
	in := v.intent(c, audit.KindRead, t, rbac.Read, rbac.Shard)
	in.Query.Object.Shard, in.Query.Delivery = ref.Number, dataset.Opened
	in.Note = map[string]string{"object": ref.String()}
	if item.Member != "" {
		in.Note["member"] = item.Member
	}
	in.Fields = []audit.Field{audit.StringField(audit.FieldDelivery, string(dataset.Opened))}
	if !c.Link.IsZero() {
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldLinkID, c.Link[:]))
	}
	f, err := v.findShard(ctx, c, t, ref.Number, dataset.DeviceID{})
	if err != nil {
		return in, f, err
	}
	stateTerms(&in, f.project, purpose)
	if err := v.stateLegal(ctx, c, &in, f); err != nil {
		return in, f, err
	}
	if !f.known {
		return in, f, v.absent(ctx, t, in)
	}
	in.Object = shardObject(f.shard.Dataset, ref.Number)
	return in, f, nil
}

// etag names the bytes [base, base+size) of a shard's plaintext. It follows
// from the sealed bytes, which say nothing of those in clear.
func etag(s *storage.Shard, base, size int64) string {
	label := append([]byte("dsvault opened content 1\n"), s.SHA256[:]...)
	label = binary.BigEndian.AppendUint64(label, uint64(base))
	label = binary.BigEndian.AppendUint64(label, uint64(size))
	sum := sha256.Sum256(label)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// within reports whether spans are of a content, ascend, and take no more
// fetches than they may.
func within(spans []Span, c Content) bool {
	at := int64(0)
	for _, s := range spans {
		if s.Start < at || s.Length <= 0 || s.Start > c.Size || s.Length > c.Size-s.Start {
			return false
		}
		at = s.end()
	}
	return Fetches(spans) <= c.Fetches
}

// describe writes into the record what the read will send. Ranges are of the
// shard's plaintext.
func (s *OpenedStream) describe(in *ledger.Intent) {
	var ranges []string
	for _, span := range s.spans {
		in.Access.MaxBytes += span.Length
		ranges = append(ranges, fmt.Sprintf("%d-%d", s.base+span.Start, s.base+span.end()-1))
	}
	in.Fields = append(in.Fields, audit.Uint64Field(audit.FieldMaxBytes, uint64(in.Access.MaxBytes)))
	if len(ranges) > 0 {
		first, last := s.spans[0], s.spans[len(s.spans)-1]
		in.Fields = append(in.Fields,
			audit.Uint64Field(audit.FieldRangeStart, uint64(s.base+first.Start)),
			audit.Uint64Field(audit.FieldRangeLength, uint64(last.end()-first.Start)))
	}
	if len(ranges) > 1 {
		in.Fields = append(in.Fields, audit.StringField(audit.FieldRanges, strings.Join(ranges, ",")))
	}
}

// prepare opens the manifest, for what a shard is called, and the shard's file
// key if anything is to be sent.
func (s *OpenedStream) prepare() (err error) {
	if s.item.Member == "" {
		m, err := s.manifest()
		if err != nil {
			return err
		}
		s.Name, s.MediaType = contentName(m), m.MediaType
	}
	if len(s.spans) > 0 {
		s.key, err = s.fileKey(s.shard.Header)
	}
	return err
}

// contentName is the name for the file that a shard is by itself.
func contentName(m dataset.Manifest) string {
	switch m.Packing {
	case dataset.PackPart, dataset.PackSlice, dataset.PackOrder:
		return pack.SliceName(m.Name, m.Part)
	}
	return path.Base(m.Name)
}

// manifest opens the shard's manifest. It was looked at when the shard was
// committed.
func (r *reading) manifest() (dataset.Manifest, error) {
	damaged := func(err error) (dataset.Manifest, error) {
		return dataset.Manifest{}, fault.Wrap(fault.Corrupt, "vault.manifest", "the shard's manifest is damaged", err)
	}
	header, rest, err := seal.ReadHeader(bytes.NewReader(r.shard.Manifest))
	if err != nil {
		return damaged(err)
	}
	key, err := r.fileKey(header)
	if err != nil {
		return dataset.Manifest{}, err
	}
	defer key.Destroy()
	plain, err := seal.OpenPayload(key, rest)
	if err != nil {
		return damaged(err)
	}
	data, err := io.ReadAll(io.LimitReader(plain, dataset.MaxManifest+1))
	if err != nil {
		return damaged(err)
	}
	m, err := dataset.ParseManifest(data)
	if err != nil {
		return damaged(err)
	}
	if m.Number != r.shard.Number || m.Size != r.shard.PlainSize {
		return damaged(nil)
	}
	return m, nil
}

// Send writes the spans. Before the first byte of span i it calls part(i) for
// the writer that takes it. If Send fails, the caller has to abort the
// connection, if anything was written. Cut is as deliver says.
func (s *OpenedStream) Send(part func(i int) (io.Writer, error), cut func()) error {
	defer s.key.Destroy()
	out := &parts{open: part}
	return s.deliver(out, cut, func(m *meter) error {
		next := 0
		for _, group := range fetches(s.spans) {
			if err := s.sendGroup(m, out, group, next); err != nil {
				return err
			}
			next += len(group)
		}
		return nil
	})
}

// Close ends a read of which nothing was sent.
func (s *OpenedStream) Close() {
	s.key.Destroy()
	s.reading.Close()
}

// parts is a writer that is another for each span.
type parts struct {
	open func(int) (io.Writer, error)
	w    io.Writer
}

func (p *parts) Write(b []byte) (int, error) { return p.w.Write(b) }

// sendGroup sends the spans of one fetch, numbered from first on.
func (s *OpenedStream) sendGroup(m *meter, out *parts, group []Span, first int) error {
	start, end := group[0].Start, group[len(group)-1].end()
	header := int64(len(s.shard.Header))
	plain, err := seal.OpenRange(s.key, s.shard.Nonce, s.shard.SealedSize-header, s.base+start, end-start,
		func(off, n int64) (io.ReadCloser, error) {
			body, err := s.open(shardObjectIn(s.shard), header+off, n)
			return body, lost(err)
		})
	if err != nil {
		return lost(err)
	}
	defer plain.Close()
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	at := start
	for i, span := range group {
		if _, err := io.CopyN(io.Discard, plain, span.Start-at); err != nil {
			return lost(err)
		}
		out.w = nil
		for left := span.Length; left > 0; {
			n, err := plain.Read((*buf)[:min(left, int64(len(*buf)))])
			if n > 0 && out.w == nil { // what fails before that can still be told
				if err := m.begin(); err != nil {
					return err
				}
				if out.w, m.err = out.open(first + i); m.err != nil {
					return m.err
				}
			}
			if n > 0 {
				if _, err := m.Write((*buf)[:n]); err != nil {
					return err
				}
			}
			if left -= int64(n); err != nil && left > 0 {
				return lost(err)
			}
		}
		at = span.end()
	}
	return nil
}
