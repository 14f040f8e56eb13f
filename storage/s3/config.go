package s3

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"dsvault/storage"
	"dsvault/vault/fault"
)

// Config says which bucket to use, and how.
type Config struct {
	Endpoint string // "HOST[:PORT]"; default AWS ("s3.amazonaws.com")
	Secure   bool   // TLS
	Bucket   string
	Prefix   string // put before every key, with a slash between; "": none. At most 256 bytes, of the form of a key

	// Public is the endpoint at which clients reach the server, if they do so
	// by another than this one.
	Public       string // "HOST[:PORT]"
	PublicSecure bool   // TLS

	Region string // default AWS_REGION, AWS_DEFAULT_REGION, then "us-east-1"

	// Creds defaults to the environment: AWS_ACCESS_KEY_ID,
	// AWS_SECRET_ACCESS_KEY and, if there is one, AWS_SESSION_TOKEN. There is
	// no anonymous access.
	Creds *credentials.Credentials

	// Patience is how long nothing may move in a request before it is called
	// off; default one minute. Completing a multipart upload has ten times as
	// long: some servers then copy the whole object before they answer.
	Patience time.Duration

	// Transport defaults to NewTransport(Secure). Tests inject faults here.
	Transport http.RoundTripper
}

// EnvCredentials are those of a region's own bucket: AWS_ACCESS_KEY_ID_EU_WEST and
// so on, for eu-west. Nil if there are none.
func EnvCredentials(region string) *credentials.Credentials {
	suffix := "_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(region))
	id, secret := os.Getenv("AWS_ACCESS_KEY_ID"+suffix), os.Getenv("AWS_SECRET_ACCESS_KEY"+suffix)
	if id == "" || secret == "" {
		return nil
	}
	return credentials.NewStaticV4(id, secret, os.Getenv("AWS_SESSION_TOKEN"+suffix))
}

const maxPrefix = 256 // bytes; with a key of 512 it stays below the 1024 of S3

// ParseURL reads
//
//	s3://BUCKET[/PREFIX][?endpoint=http://127.0.0.1:7070&region=us-east-1]
//
// The endpoint is an http or https URL without a path. Unknown and repeated
// parameters, and credentials anywhere in the URL, are fault.Invalid.
func ParseURL(text string) (Config, error) {
	const op = "s3.ParseURL"
	invalid := func(message string) (Config, error) {
		return Config{}, fault.New(fault.Invalid, op, message).
			WithHint("Write s3://BUCKET[/PREFIX]?endpoint=https://HOST[:PORT]&region=REGION.")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil: // the error repeats the URL, which may hold a secret
		return invalid("not a valid URL")
	case u.User != nil:
		return withCredentials(op)
	case u.Scheme != "s3" || u.Opaque != "" || u.Fragment != "" || strings.Contains(text, "#"):
		return invalid("not an s3:// URL")
	case u.Host == "":
		return invalid("the URL names no bucket")
	}
	c := Config{
		Endpoint: "s3.amazonaws.com", Secure: true,
		Bucket: u.Host, Prefix: strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/"),
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return invalid("the URL's parameters cannot be read")
	}
	for name, values := range query {
		if len(values) != 1 || values[0] == "" {
			return invalid("a parameter of the URL is empty or given twice")
		}
		switch name {
		case "region":
			c.Region = values[0]
		case "endpoint", "public":
			endpoint, err := url.Parse(values[0])
			if err == nil && endpoint.User != nil {
				return withCredentials(op)
			}
			if err != nil || endpoint.Scheme != "http" && endpoint.Scheme != "https" || endpoint.Host == "" ||
				strings.Trim(endpoint.Path, "/") != "" || endpoint.RawQuery != "" || endpoint.Fragment != "" {
				return invalid("the " + name + " is not http://HOST[:PORT] or https://HOST[:PORT]")
			}
			if name == "public" {
				c.Public, c.PublicSecure = endpoint.Host, endpoint.Scheme == "https"
				continue
			}
			c.Endpoint, c.Secure = endpoint.Host, endpoint.Scheme == "https"
		default:
			return invalid("the URL has a parameter that is not endpoint, public or region")
		}
	}
	if err := c.check(op); err != nil {
		return Config{}, err
	}
	return c, nil
}

func withCredentials(op string) (Config, error) {
	return Config{}, fault.New(fault.Invalid, op, "the URL holds credentials").
		WithHint("Take them out of the URL and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment.")
}

// check refuses what the client would misread, or notice only at a request.
func (c Config) check(op string) error {
	if s3utils.CheckValidBucketNameStrict(c.Bucket) != nil {
		return fault.New(fault.Invalid, op, "not a valid bucket name").
			WithHint("Bucket names have 3 to 63 small letters, digits, dots and hyphens.")
	}
	if c.Prefix != "" && (len(c.Prefix) > maxPrefix || !storage.ValidKey(c.Prefix)) {
		return fault.New(fault.Invalid, op, "not a valid prefix for object keys").
			WithHint("Prefixes have letters, digits, dots, hyphens, underscores and single slashes; at most 256.")
	}
	if strings.ContainsFunc(c.Region, func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-')
	}) {
		return fault.New(fault.Invalid, op, "not a valid region name").
			WithHint("Region names have small letters, digits and hyphens, as in us-east-1.")
	}
	return nil
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	if c.Endpoint == "" {
		c.Endpoint, c.Secure = "s3.amazonaws.com", true
	}
	for _, region := range []string{os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1"} {
		if c.Region == "" {
			c.Region = region
		}
	}
	if c.Patience <= 0 {
		c.Patience = time.Minute
	}
	if c.Creds == nil {
		c.Creds = credentials.NewEnvAWS()
	}
	return c
}
