package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// Open makes one GET for the whole range; a range without bytes takes a HEAD.
func (s *Store) Open(ctx context.Context, key string, offset, length int64, etag string) (io.ReadCloser, error) {
	const op = "s3.Open"
	if err := begin(ctx, op, key); err != nil {
		return nil, err
	}
	if offset < 0 || length < -1 {
		return nil, badRange(op)
	}
	if length == 0 {
		return s.openNothing(ctx, key, offset, etag)
	}
	if length > math.MaxInt64-offset {
		length = math.MaxInt64 - offset // of no consequence: no object is as large
	}
	var options minio.GetObjectOptions
	if err := setRange(&options, offset, length); err != nil {
		return nil, fault.Wrap(fault.Internal, op, "the range could not be asked for", err)
	}
	if etag != "" {
		if err := options.SetMatchETag(etag); err != nil {
			return nil, fault.Wrap(fault.Invalid, op, "not a valid ETag", err)
		}
	}
	body, info, header, err := s.core.GetObject(ctx, s.config.Bucket, s.name(key), options)
	switch codeOf(err) {
	case minio.PreconditionFailed:
		return nil, storage.ErrChanged
	case "InvalidRange":
		// No byte is there: either no range is, or "to the end" is nothing.
		if length == -1 {
			return s.openNothing(ctx, key, offset, etag)
		}
		return s.refuseRange(ctx, key, etag)
	}
	if err != nil {
		return nil, s.absentOr(ctx, op, err)
	}
	length, err = promised(op, offset, length, etag, info, header)
	if err != nil {
		body.Close()
		return nil, err
	}
	return &reader{ctx: ctx, body: body, left: length}, nil
}

func badRange(op string) error {
	return fault.New(fault.Invalid, op, "the range is not within the object")
}

func setRange(options *minio.GetObjectOptions, offset, length int64) error {
	switch {
	case length > 0:
		return options.SetRange(offset, offset+length-1)
	case offset > 0:
		return options.SetRange(offset, 0) // to the end
	default:
		return nil // the whole: a range would be wrong for an empty object
	}
}

// openNothing opens a range without bytes, which HTTP has no request for.
func (s *Store) openNothing(ctx context.Context, key string, offset int64, etag string) (io.ReadCloser, error) {
	const op = "s3.Open"
	o, err := s.stat(ctx, op, key)
	switch {
	case err != nil:
		return nil, err
	case etag != "" && o.ETag != etag:
		return nil, storage.ErrChanged
	case offset > o.Size:
		return nil, badRange(op)
	}
	return &reader{ctx: ctx, body: http.NoBody}, nil
}

// refuseRange says why there is no such range: servers differ in whether they
// look at the range or at the ETag first.
func (s *Store) refuseRange(ctx context.Context, key, etag string) (io.ReadCloser, error) {
	const op = "s3.Open"
	o, err := s.stat(ctx, op, key)
	switch {
	case err != nil:
		return nil, err
	case etag != "" && o.ETag != etag:
		return nil, storage.ErrChanged
	}
	return nil, badRange(op)
}

// promised returns how many bytes the answer is to hold, and checks that it is
// the answer to what was asked: servers may cut a range at the object's end,
// and weak ones do not know Range or If-Match.
func promised(op string, offset, length int64, etag string, info minio.ObjectInfo, header http.Header) (int64, error) {
	if etag != "" && strings.Trim(info.ETag, `"`) != etag {
		return 0, storage.ErrChanged
	}
	whole := offset == 0 && length == -1
	var first, last, size int64
	_, err := fmt.Sscanf(header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size)
	switch {
	case whole && header.Get("Content-Range") == "":
		length, err = info.Size, nil
	case err != nil || first != offset || last < first || last >= size:
		return 0, fault.Wrap(fault.Unavailable, op, "the object store did not answer with the range that was asked for", err)
	case length == -1:
		length = size - offset
	case length > size-offset:
		return 0, badRange(op)
	}
	if info.Size != length { // the answer's Content-Length
		return 0, fault.New(fault.Unavailable, op, "the object store did not say how many bytes it sends")
	}
	return length, nil
}

// reader is the body of one answer.
type reader struct {
	ctx  context.Context
	body io.ReadCloser
	left int64 // bytes still promised
}

func (r *reader) Read(b []byte) (int, error) {
	const op = "s3.Read"
	if err := r.ctx.Err(); err != nil {
		return 0, classify(op, err)
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.body.Read(b[:min(int64(len(b)), r.left)])
	r.left -= int64(n)
	switch {
	case err == nil, r.left == 0:
		return n, nil
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	if ended := r.ctx.Err(); ended != nil {
		err = errors.Join(ended, err)
	}
	return n, classify(op, err)
}

func (r *reader) Close() error { return r.body.Close() }
