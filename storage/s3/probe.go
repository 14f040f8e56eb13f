package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"dsvault/vault/fault"
)

// Report says what a server does with one bucket, as found out by trying. What
// is false the store does without, or makes up for.
type Report struct {
	Range              bool // GET answers with the range that was asked for; nothing works without
	IfMatch            bool // GET refuses another ETag; without, the ETag of each answer is looked at all the same
	Checksums          bool // a body damaged on the way is refused; without, all that was put is read back
	PartChecksums      bool // likewise a part of a multipart upload
	Multipart          bool // an object can be put in parts; without, it has at most 8 MiB
	MultipartETag      bool // Complete gives the ETag that the object then has; without, it is read back
	ListUploads        bool // unfinished uploads to one key are listed; without, the server has to clear them away
	SweepUploads       bool // unfinished uploads below a prefix are listed; without, Delete finds those to its key
	PutIfAbsent        bool // PUT does not overwrite if told so; the store never relies on it
	Presigned          bool // parts can be put by presigned URLs; without, --direct is refused
	PresignedChecksums bool // such a part is refused if it is not the one that was announced; without, all is read back
	Versioned          bool // the bucket keeps what is overwritten and deleted; Delete removes all versions
	ObjectLock         bool // the bucket can forbid deleting; then Delete fails until the lock ends
}

// Probe tries what the server does on scratch keys, and removes them. It fails
// with fault.Unavailable if the server does not answer as S3 at all.
func (s *Store) Probe(ctx context.Context) (Report, error) {
	p := prober{Store: s, key: scratch + rand.Text()}
	for _, try := range []func(context.Context) error{p.reads, p.writes, p.parts, p.presigned, p.bucket} {
		if err := try(ctx); err != nil {
			return Report{}, classify("s3.Probe", errors.Join(err, s.Delete(ctx, p.key)))
		}
	}
	return p.Report, s.Delete(ctx, p.key)
}

// prober fills in a report. Errors that are no answer end it.
type prober struct {
	*Store
	Report
	key string
}

// refuses reports whether err is the server's own "no". Other errors come back.
func refuses(err error) (bool, error) {
	var response minio.ErrorResponse
	if !errors.As(err, &response) {
		return false, err
	}
	switch status := response.StatusCode; {
	case status == http.StatusNotImplemented, 400 <= status && status < 500 && status != http.StatusTooManyRequests:
		return true, nil
	}
	return false, err
}

func (p *prober) put(ctx context.Context, data string, options minio.PutObjectOptions) (etag string, err error) {
	options.DisableContentSha256 = true
	info, err := p.core.PutObject(ctx, p.config.Bucket, p.name(p.key), strings.NewReader(data), int64(len(data)), "",
		hexSum(sha256.Sum256([]byte(data))), options)
	return info.ETag, err
}

func (p *prober) get(ctx context.Context, options minio.GetObjectOptions) (string, error) {
	body, _, _, err := p.core.GetObject(ctx, p.config.Bucket, p.name(p.key), options)
	if err != nil {
		return "", err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, 1024))
	return string(data), err
}

func (p *prober) reads(ctx context.Context) error {
	const data = "0123456789"
	if _, err := p.put(ctx, data, minio.PutObjectOptions{}); err != nil {
		return err
	}
	var part minio.GetObjectOptions
	if err := part.SetRange(2, 4); err != nil {
		return err
	}
	got, err := p.get(ctx, part)
	if err != nil {
		return err
	}
	p.Range = got == data[2:5]

	var other minio.GetObjectOptions
	if err := other.SetMatchETag(strings.Repeat("0", 32)); err != nil {
		return err
	}
	_, err = p.get(ctx, other)
	p.IfMatch, err = refuses(err)
	return err
}

func (p *prober) writes(ctx context.Context) (err error) {
	if p.Checksums, err = mismatch(p.putDamaged(ctx, p.key+"-damaged")); err != nil {
		return err
	}
	const second = "the second"
	var absent minio.PutObjectOptions
	absent.SetMatchETagExcept("*")
	_, err = p.put(ctx, second, absent)
	if p.PutIfAbsent, err = refuses(err); err != nil || !p.PutIfAbsent {
		return err
	}
	got, err := p.get(ctx, minio.GetObjectOptions{})
	p.PutIfAbsent = got != second // refused, and not done all the same
	return err
}

func (p *prober) parts(ctx context.Context) error {
	bucket, name := p.config.Bucket, p.name(p.key)
	id, err := p.core.NewMultipartUpload(ctx, bucket, name, minio.PutObjectOptions{ContentType: contentType})
	if no, err := refuses(err); no || err != nil {
		return err
	}
	for prefix, found := range map[string]*bool{name: &p.ListUploads, p.name(scratch): &p.SweepUploads} {
		page, err := p.core.ListMultipartUploads(ctx, bucket, prefix, "", "", "", 0)
		if _, err := refuses(err); err != nil {
			return err
		}
		for _, upload := range page.Uploads {
			*found = *found || upload.UploadID == id
		}
	}
	data := []byte("the only part")
	part, err := p.core.PutObjectPart(ctx, bucket, name, id, 1, bytes.NewReader(data), int64(len(data)),
		minio.PutObjectPartOptions{Sha256Hex: hexSum(sha256.Sum256(data)), DisableContentSha256: true})
	if err != nil {
		return err
	}
	done, err := p.core.CompleteMultipartUpload(ctx, bucket, name, id,
		[]minio.CompletePart{{PartNumber: 1, ETag: part.ETag}}, minio.PutObjectOptions{})
	if err != nil {
		return err
	}
	o, err := p.stat(ctx, "s3.Probe", p.key)
	if err != nil {
		return err
	}
	got, err := p.get(ctx, minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	p.Multipart = got == string(data)
	p.MultipartETag = o.ETag != "" && o.ETag == strings.Trim(done.ETag, `"`)
	if !p.Multipart {
		return fault.New(fault.Unavailable, "s3.Probe", "the object store does not keep what was put in parts")
	}
	p.PartChecksums, err = mismatch(p.putDamagedPart(ctx, p.key+"-damaged"))
	return err
}

func (p *prober) presigned(ctx context.Context) (err error) {
	p.Presigned, p.PresignedChecksums, err = p.tryPresigned(ctx, p.key+"-presigned")
	return err
}

func (p *prober) bucket(ctx context.Context) error {
	versions, err := p.core.GetBucketVersioning(ctx, p.config.Bucket)
	if _, err := refuses(err); err != nil {
		return err
	}
	p.Versioned = versions.Status != "" // also if suspended: older versions are kept
	lock, _, _, _, err := p.core.GetObjectLockConfig(ctx, p.config.Bucket)
	if _, err := refuses(err); err != nil {
		return err
	}
	p.ObjectLock = lock == "Enabled"
	return nil
}
