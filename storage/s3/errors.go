package s3

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"dsvault/storage"
	"dsvault/vault/fault"
)

const credentialsHint = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the server's environment to keys that may use the bucket."

const lockHint = "If the bucket has object lock, wait until the object's hold or retention ends; or else allow the server's keys to delete versions."

// name is the object's name in the bucket; the name of "" is the prefix of all.
func (s *Store) name(key string) string {
	if s.config.Prefix == "" {
		return key
	}
	return s.config.Prefix + "/" + key
}

// key is the reverse of name; false if the object is not of this store.
func (s *Store) key(name string) (string, bool) {
	key, ok := strings.CutPrefix(name, s.name(""))
	return key, ok && storage.ValidKey(key)
}

func object(key string, info minio.ObjectInfo) storage.Object {
	return storage.Object{Key: key, Size: info.Size, ETag: strings.Trim(info.ETag, `"`), ModTime: info.LastModified}
}

// begin checks what every operation on a key needs.
func begin(ctx context.Context, op, key string) error {
	if !storage.ValidKey(key) {
		return fault.New(fault.Invalid, op, "not a valid object key")
	}
	if err := ctx.Err(); err != nil {
		return classify(op, err)
	}
	return nil
}

// codeOf is the S3 error code in err's chain, or "". (minio.ToErrorResponse
// does not unwrap.)
func codeOf(err error) string {
	var response minio.ErrorResponse
	if errors.As(err, &response) {
		return response.Code
	}
	return ""
}

// absentOr is storage.ErrNoObject if err says that the object is missing while
// the bucket is there. A 404 alone does not: an answer to HEAD has no code, and
// a proxy's 404 has none either, so minio-go takes both for a missing key.
func (s *Store) absentOr(ctx context.Context, op string, err error) error {
	if codeOf(err) != minio.NoSuchKey {
		return classify(op, err)
	}
	if err := s.checkBucket(ctx, op); err != nil {
		return err
	}
	return storage.ErrNoObject
}

// mismatch reports whether err says that a body is not the one that was signed.
// Other errors come back: they say nothing.
func mismatch(err error) (bool, error) {
	switch codeOf(err) {
	case "XAmzContentSHA256Mismatch", "BadDigest", "SignatureDoesNotMatch":
		return true, nil
	}
	return false, err
}

// notOffered reports whether the server has no such operation at all.
func notOffered(err error) bool {
	return codeOf(err) == "NotImplemented" || codeOf(err) == "MethodNotAllowed"
}

// classify is the one place that knows what S3 errors mean. All that is not
// known is an outage: it never means "no".
func classify(op string, err error) error {
	var known *fault.Error
	var response minio.ErrorResponse
	_ = errors.As(err, &response)
	unavailable := func(message, hint string) error {
		return fault.Wrap(fault.Unavailable, op, message, err).WithHint(hint)
	}
	switch {
	case errors.As(err, &known), errors.Is(err, storage.ErrNoObject), errors.Is(err, storage.ErrChanged):
		return err
	case err == nil:
		return nil
	case errors.Is(err, errStalled), errors.Is(err, context.DeadlineExceeded):
		return unavailable("the object store did not answer in time", "Try again; check the object store if it goes on.")
	case errors.Is(err, context.Canceled):
		return fault.Wrap(fault.Canceled, op, "canceled", err)
	}
	switch response.Code {
	case minio.NoSuchBucket:
		return unavailable("the bucket of the object store does not exist", "Create the bucket, or correct its name and the endpoint.")
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AuthorizationHeaderMalformed",
		"XAdminUserNotFound": // versitygw's word for an unknown access key
		return unavailable("the object store does not accept the server's credentials", credentialsHint)
	case minio.AccessDenied, "AllAccessDisabled", "AccountProblem":
		return unavailable("the object store refuses access", credentialsHint)
	case "RequestTimeTooSkewed":
		return unavailable("the clocks of server and object store differ", "Set the server's clock.")
	case minio.InvalidRegion, "PermanentRedirect":
		return unavailable("the bucket is in another region", "Name the bucket's region.")
	case "EntityTooLarge":
		return fault.Wrap(fault.TooLarge, op, "the object is over the object store's limit", err)
	case "SlowDown", "SlowDownWrite", "SlowDownRead":
		return unavailable("the object store is overloaded", "Try again later.")
	case "XMinioStorageFull", "InsufficientStorage", "QuotaExceeded":
		return unavailable("the object store is full", "Free space in the object store, then try again.")
	}
	switch response.StatusCode {
	case 0: // no answer, or only part of one
		return unavailable("the object store cannot be reached, or broke off", "Check the endpoint, the network and the object store, then try again.")
	case http.StatusForbidden:
		return unavailable("the object store refuses access", credentialsHint)
	}
	return unavailable("the object store does not work", "Try again; check the object store and the network if it goes on.")
}
