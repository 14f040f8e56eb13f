package api

import (
	"encoding/hex"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"

	"dsvault/vault"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// Opened data runs nothing, whatever it holds: a browser shows it in a sandbox
// without scripts, forms or an origin.
const sandboxed = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"

// openedRoutes give data in clear; in data is the path of a dataset.
func (s *server) openedRoutes(data string) []route {
	return []route{
		{method: http.MethodGet, path: data + "/shards/:n/open", do: s.openShard},
		{method: http.MethodHead, path: data + "/shards/:n/open", do: s.openShard},
		{method: http.MethodGet, path: data + membersPath + "*", do: s.openMember},
		{method: http.MethodHead, path: data + membersPath + "*", do: s.openMember},
	}
}

// openShard sends one shard in clear.
func (s *server) openShard(c *call) (any, error) {
	p := params{call: c}
	return s.open(&p, vault.Item{Shard: p.shard()})
}

// openMember sends one file out of a shard.
func (s *server) openMember(c *call) (any, error) {
	p := params{call: c}
	return s.open(&p, vault.Item{Shard: p.shard(), Member: p.member()})
}

func (s *server) open(p *params, item vault.Item) (any, error) {
	purpose, c := p.purpose(), p.call
	if p.err != nil {
		return nil, p.err
	}
	if err := s.private(c); err != nil {
		return nil, err
	}
	release, err := s.slots.take(c.caller.Principal)
	if err != nil {
		return nil, err
	}
	defer release()
	var a opened
	a.OpenedStream, err = s.vault.Open(c.ctx(), c.caller, item, purpose, a.choose(c.Request()))
	return nil, s.sendOpened(c, &a, err)
}

// private refuses opened data on a connection that others can read.
func (s *server) private(c *call) error {
	if c.secure || local(c.Request()) {
		return nil
	}
	return fault.New(fault.Invalid, "api.private", "opened data is sent over TLS only").
		WithHint("use https, or `dsvault pull`, which is sealed below it")
}

// opened is the answer to a request for data in clear.
type opened struct {
	*vault.OpenedStream
	status int
	spans  []vault.Span
}

// choose gives a function that decides, once it is known what there is, what is
// answered: the status, and the spans to send. HEAD gives the head of the whole
// (RFC 9110 defines Range for GET only).
func (a *opened) choose(r *http.Request) func(vault.Content) []vault.Span {
	return func(content vault.Content) []vault.Span {
		etag := quoted(content)
		if a.status = precondition(r.Header, etag); a.status != 0 {
			return nil
		}
		a.status = http.StatusOK
		if r.Method == http.MethodHead {
			return nil
		}
		if content.Size > 0 {
			a.spans = []vault.Span{{Start: 0, Length: content.Size}}
		}
		if header, ok := r.Header["Range"]; ok && ranged(r.Header, etag) {
			spans, whole := []vault.Span(nil), false
			if len(header) == 1 {
				spans, whole = parseRange(header[0], content)
			}
			switch {
			case whole:
			case len(spans) == 0:
				a.status, a.spans = http.StatusRequestedRangeNotSatisfiable, nil
			default:
				a.status, a.spans = http.StatusPartialContent, spans
			}
		}
		return a.spans
	}
}

func quoted(content vault.Content) string { return `"` + content.ETag + `"` }

// sendOpened answers with an opened read, or with why there is none.
func (s *server) sendOpened(c *call, a *opened, err error) error {
	if err != nil {
		return err
	}
	defer a.Close()
	h := c.Response().Header()
	h.Set("ETag", quoted(a.Content))
	h.Set("Accept-Ranges", "bytes")
	if c.caller.Link.IsZero() { // who holds a link need not be the reader whom the receipt is for
		admitted(h, a.Index, a.Hash, a.Receipt)
	}
	if a.status != http.StatusOK && a.status != http.StatusPartialContent {
		return a.decline(c)
	}
	kind, shown := contentType(a.MediaType, a.Name)
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", disposition(a.Name, shown))
	h.Set("Content-Security-Policy", sandboxed)
	length := a.Size
	part := func(int) (io.Writer, error) {
		c.Response().WriteHeader(a.status)
		return promptly{c}, nil
	}
	switch {
	case a.status == http.StatusOK:
	case len(a.spans) == 1:
		length = a.spans[0].Length
		h.Set("Content-Range", contentRange(a.spans[0], a.Size))
	default:
		var boundary [24]byte
		if _, err := io.ReadFull(s.opts.Random, boundary[:]); err != nil {
			return fault.Wrap(fault.Internal, "api.sendOpened", "no randomness", err)
		}
		return a.sendParts(c, kind, hex.EncodeToString(boundary[:]))
	}
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	if err := a.Send(part, c.out.cut); err != nil {
		return err
	}
	if len(a.spans) == 0 { // a HEAD, or an empty file
		c.Response().WriteHeader(a.status)
	}
	return nil
}

func contentRange(s vault.Span, size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.Start, s.Start+s.Length-1, size)
}

// sendParts sends several spans as multipart/byteranges, of a length that is
// known ahead: that of the frame, and that of the spans.
func (a *opened) sendParts(c *call, kind, boundary string) error {
	var length counter
	frame := a.frame(&length, kind, boundary)
	for i, span := range a.spans {
		if _, err := frame(i); err != nil {
			return err
		}
		length += counter(span.Length)
	}
	if _, err := frame(len(a.spans)); err != nil {
		return err
	}
	h := c.Response().Header()
	h.Set("Content-Type", "multipart/byteranges; boundary="+boundary)
	h.Set("Content-Length", strconv.FormatInt(int64(length), 10))
	frame = a.frame(promptly{c}, kind, boundary)
	part := func(i int) (io.Writer, error) {
		if i == 0 {
			c.Response().WriteHeader(a.status)
		}
		return frame(i)
	}
	if err := a.Send(part, c.out.cut); err != nil {
		return err
	}
	_, err := frame(len(a.spans))
	return err
}

// frame writes to w what stands before span i, and behind the last one.
func (a *opened) frame(w io.Writer, kind, boundary string) func(i int) (io.Writer, error) {
	mw := multipart.NewWriter(w)
	err := mw.SetBoundary(boundary)
	return func(i int) (io.Writer, error) {
		switch {
		case err != nil:
			return nil, err
		case i == len(a.spans):
			return nil, mw.Close()
		}
		return mw.CreatePart(textproto.MIMEHeader{"Content-Range": {contentRange(a.spans[i], a.Size)}, "Content-Type": {kind}})
	}
}

// counter counts what is written to it.
type counter int64

func (n *counter) Write(p []byte) (int, error) {
	*n += counter(len(p))
	return len(p), nil
}

// decline answers without data: 304, 412 or 416. The read is in the log all the
// same, with no byte sent.
func (a *opened) decline(c *call) error {
	if err := a.Send(nil, c.out.cut); err != nil {
		return err
	}
	if a.status == http.StatusNotModified {
		c.Response().WriteHeader(a.status)
		return nil
	}
	detail, hint := "the data is not what the condition names", "ask without If-Match"
	if a.status == http.StatusRequestedRangeNotSatisfiable {
		c.Response().Header().Set("Content-Range", fmt.Sprintf("bytes */%d", a.Size))
		detail = "this range cannot be had: it is beyond the end, broken, or of too many places"
		hint = fmt.Sprintf("ask for at most %d ranges, in at most %d places", maxRanges, a.Fetches)
	}
	p := wire.ProblemOf(fault.New(fault.Invalid, "api.openShard", detail).WithHint(hint), c.actor.Request.String())
	p.Status, p.Title = a.status, http.StatusText(a.status)
	return c.answer(a.status, wire.ProblemType, p)
}
