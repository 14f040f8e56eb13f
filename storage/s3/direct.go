package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

var _ storage.Direct = (*Store)(nil)

const headerChecksum = "X-Amz-Checksum-Sha256"

// StartParts declares the checksum, so that servers which know it take no part
// without.
func (s *Store) StartParts(ctx context.Context, key string) (string, error) {
	const op = "s3.StartParts"
	if err := begin(ctx, op, key); err != nil {
		return "", err
	}
	id, err := s.core.NewMultipartUpload(ctx, s.config.Bucket, s.name(key), minio.PutObjectOptions{
		ContentType: contentType, UserMetadata: map[string]string{"X-Amz-Checksum-Algorithm": "SHA256"},
	})
	return id, classify(op, err)
}

// PresignPart signs the part's checksum with it: the server has to refuse other
// bytes. Whether it does, enforces finds out.
func (s *Store) PresignPart(ctx context.Context, key, upload string, n int, sum [32]byte) (storage.Presigned, error) {
	const op = "s3.PresignPart"
	if n < 1 || n > dataset.MaxParts || upload == "" {
		return storage.Presigned{}, fault.New(fault.Invalid, op, "there is no such part")
	}
	header := http.Header{headerChecksum: {base64.StdEncoding.EncodeToString(sum[:])}}
	query := url.Values{"uploadId": {upload}, "partNumber": {strconv.Itoa(n)}}
	return s.presign(ctx, op, s.signer, http.MethodPut, key, query, header)
}

// PresignObject signs a GET.
func (s *Store) PresignObject(ctx context.Context, key string) (storage.Presigned, error) {
	return s.presign(ctx, "s3.PresignObject", s.signer, http.MethodGet, key, nil, nil)
}

func (s *Store) presign(ctx context.Context, op string, signer *minio.Client, method, key string, query url.Values, header http.Header) (storage.Presigned, error) {
	if err := begin(ctx, op, key); err != nil {
		return storage.Presigned{}, err
	}
	expires := time.Now().Add(storage.PresignedLife) // minio-go signs by this clock, too
	u, err := signer.PresignHeader(ctx, method, s.config.Bucket, s.name(key), storage.PresignedLife, query, header)
	if err != nil {
		return storage.Presigned{}, fault.Wrap(fault.Unavailable, op, "a presigned URL could not be signed", err)
	}
	return storage.NewPresigned(u.String(), header, expires), nil
}

// FinishParts looks at what the server has of each part, completes the upload
// with exactly those, and confirms the object as Put does.
func (s *Store) FinishParts(ctx context.Context, key, upload string, parts []storage.Part) (storage.Object, error) {
	const op = "s3.FinishParts"
	if err := begin(ctx, op, key); err != nil {
		return storage.Object{}, err
	}
	if len(parts) < 1 || len(parts) > dataset.MaxParts || upload == "" {
		return storage.Object{}, fault.New(fault.Invalid, op, "an upload has 1 to 10,000 parts")
	}
	out := sent{by: byPresigned, part: parts[0].Size}
	for _, part := range parts {
		out.size, out.sums = out.size+part.Size, append(out.sums, part.SHA256)
	}
	have, err := s.listParts(ctx, key, upload, parts)
	if codeOf(err) == minio.NoSuchUpload {
		return storage.Object{}, fault.Wrap(fault.Invalid, op, "the upload has ended", err).WithHint(partsHint)
	}
	if err != nil {
		return storage.Object{}, classify(op, err)
	}
	out.asked = true
	info, err := s.core.CompleteMultipartUpload(ctx, s.config.Bucket, s.name(key), upload, have, minio.PutObjectOptions{})
	if ctx.Err() != nil {
		return storage.Object{}, classify(op, errors.Join(ctx.Err(), err))
	}
	out.etag = info.ETag
	o, unconfirmed := s.confirm(ctx, key, out)
	if unconfirmed == nil {
		return o, nil
	}
	if no, _ := refuses(err); no { // a part was put again in between
		return storage.Object{}, fault.Wrap(fault.Invalid, op, "the object store does not join the parts", err).WithHint(partsHint)
	}
	if err != nil {
		return storage.Object{}, classify(op, err)
	}
	return storage.Object{}, unconfirmed
}

const partsHint = "start the shard again"

// listParts gives what Complete wants to hear of each part, after comparing it
// with what was announced.
func (s *Store) listParts(ctx context.Context, key, upload string, want []storage.Part) ([]minio.CompletePart, error) {
	wrong := func(why string) error {
		return fault.New(fault.Invalid, "s3.FinishParts", why).WithHint(partsHint)
	}
	have := make([]minio.CompletePart, 0, len(want))
	for marker := 0; ; {
		page, err := s.core.ListObjectParts(ctx, s.config.Bucket, s.name(key), upload, marker, 1000)
		if err != nil {
			return nil, err
		}
		for _, part := range page.ObjectParts {
			if part.PartNumber != len(have)+1 || len(have) == len(want) {
				return nil, wrong("the object store does not have the parts that were announced")
			}
			announced := want[len(have)]
			sum := base64.StdEncoding.EncodeToString(announced.SHA256[:])
			if part.Size != announced.Size || part.ChecksumSHA256 != "" && part.ChecksumSHA256 != sum {
				return nil, wrong("a part is not the one that was announced")
			}
			have = append(have, minio.CompletePart{
				PartNumber: part.PartNumber, ETag: strings.Trim(part.ETag, `"`), ChecksumSHA256: part.ChecksumSHA256,
			})
		}
		if !page.IsTruncated {
			break
		}
		if page.NextPartNumberMarker <= marker {
			return nil, errors.New("the list of parts does not advance")
		}
		marker = page.NextPartNumberMarker
	}
	if len(have) < len(want) {
		return nil, wrong("not all parts have arrived")
	}
	return have, nil
}

// AbortParts takes "no such upload" for done.
func (s *Store) AbortParts(ctx context.Context, key, upload string) error {
	const op = "s3.AbortParts"
	if err := begin(ctx, op, key); err != nil {
		return err
	}
	err := s.core.AbortMultipartUpload(ctx, s.config.Bucket, s.name(key), upload)
	if codeOf(err) == minio.NoSuchUpload || notOffered(err) {
		return nil
	}
	return classify(op, err)
}

// tryPresigned puts a part by a presigned URL, first with other bytes than were
// announced, then with the right ones. works is false if that is not to be had; enforced
// says that the first was refused.
func (s *Store) tryPresigned(ctx context.Context, key string) (works, enforced bool, err error) {
	id, err := s.StartParts(ctx, key)
	if err != nil {
		no, err := refuses(err)
		return !no, false, err
	}
	defer func() { err = errors.Join(err, s.AbortParts(context.WithoutCancel(ctx), key, id)) }()
	right := []byte("damaged on the Way")
	sum := sha256.Sum256(right)
	header := http.Header{headerChecksum: {base64.StdEncoding.EncodeToString(sum[:])}}
	signed, err := s.presign(ctx, "s3.tryPresigned", s.core.Client, http.MethodPut, key, url.Values{"uploadId": {id}, "partNumber": {"1"}}, header)
	if err != nil {
		return false, false, err
	}
	var status [2]int
	for i, body := range [][]byte{damaged, right} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, signed.Expose(), bytes.NewReader(body))
		if err != nil {
			return false, false, errors.New("what was presigned is no URL")
		}
		req.Header = header.Clone()
		resp, err := s.watch.RoundTrip(req)
		if err != nil {
			return false, false, err
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		resp.Body.Close()
		if status[i] = resp.StatusCode; status[i] >= 500 && status[i] != http.StatusNotImplemented {
			return false, false, errors.New("the object store answers " + resp.Status)
		}
	}
	taken := func(i int) bool { return status[i] == http.StatusOK }
	return taken(0) || taken(1), !taken(0) && taken(1), nil
}

// putDamagedPresigned is for verifies.
func (s *Store) putDamagedPresigned(ctx context.Context, key string) error {
	_, enforced, err := s.tryPresigned(ctx, key)
	if err == nil && enforced {
		err = minio.ErrorResponse{Code: "BadDigest"}
	}
	return err
}
