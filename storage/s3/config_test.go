package s3

import (
	"fmt"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"dsvault/storage/storagetest"
	"dsvault/vault/fault"
)

func TestParseURL(t *testing.T) {
	for text, want := range map[string]Config{
		"s3://bucket":                                                      {Endpoint: "s3.amazonaws.com", Secure: true, Bucket: "bucket"},
		"s3://bucket/":                                                     {Endpoint: "s3.amazonaws.com", Secure: true, Bucket: "bucket"},
		"s3://bucket/some/prefix/?region=eu-1":                             {Endpoint: "s3.amazonaws.com", Secure: true, Bucket: "bucket", Prefix: "some/prefix", Region: "eu-1"},
		"s3://bucket?endpoint=http://127.0.0.1:7070":                       {Endpoint: "127.0.0.1:7070", Bucket: "bucket"},
		"s3://b-1/p?endpoint=https%3A%2F%2Fs3.example%2F":                  {Endpoint: "s3.example", Secure: true, Bucket: "b-1", Prefix: "p"},
		"s3://bucket?endpoint=http://s3:70&public=https://s3.example:8443": {Endpoint: "s3:70", Bucket: "bucket", Public: "s3.example:8443", PublicSecure: true},
		"s3://bucket?endpoint=http://[::1]:7070&region=x1":                 {Endpoint: "[::1]:7070", Bucket: "bucket", Region: "x1"},
	} {
		if got, err := ParseURL(text); err != nil || got != want {
			t.Errorf("ParseURL(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "bucket", "http://bucket", "s3:bucket", "s3://", "s3:///prefix", "s3://b", "s3://Bucket", "s3://bucket:80", "s3://bu..cket",
		"s3://bucket#x", "s3://bucket/#", "s3://bucket/a//b", "s3://bucket/../x", "s3://bucket/a b", "s3://bucket/%00", "s3://bucket/" + strings.Repeat("a/", 200),
		"s3://bucket?x=1", "s3://bucket?Region=x", "s3://bucket?region=", "s3://bucket?region=a&region=b", "s3://bucket?region=a;b",
		"s3://bucket?region=EU", "s3://bucket?endpoint=127.0.0.1:70", "s3://bucket?endpoint=ftp://host", "s3://bucket?endpoint=http://",
		"s3://bucket?endpoint=http://host/path", "s3://bucket?endpoint=http://host%3Fa=b", "s3://bucket?%zz=1",
		"s3://hidden:hidden@bucket", "s3://hidden@bucket", "s3://bucket?endpoint=http://hidden:hidden@host", "s3://bucket?access-key=hidden",
		"s3://bucket?public=host", "s3://bucket?public=https://host/path", "s3://bucket?public=https://hidden@host", "s3://bucket?public=",
		"s3://bucket?endpoint=http://hidden:%zz@host", "s3://hidden:%zz@bucket",
	} {
		_, err := ParseURL(text)
		if !fault.Is(err, fault.Invalid) || fault.HintOf(err) == "" {
			t.Errorf("ParseURL(%q): error %v, want %s with a hint", text, err, fault.Invalid)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("the error repeats what may be a secret: %v", err)
		}
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		for name, change := range map[string]func(*Config){
			"another bucket":     func(c *Config) { c.Bucket = "no-such-bucket" },
			"a wrong secret key": func(c *Config) { c.Creds = credentials.NewStaticV4(server.AccessKey, "wrong-secret", "") },
			"a wrong access key": func(c *Config) { c.Creds = credentials.NewStaticV4("wrong-key", server.SecretKey, "") },
			"nobody listening":   func(c *Config) { c.Endpoint = "127.0.0.1:1" },
			"TLS to plain HTTP":  func(c *Config) { c.Secure = true },
		} {
			c := config(server, "", nil)
			change(&c)
			_, err := Open(t.Context(), c)
			if !fault.Is(err, fault.Unavailable) || fault.HintOf(err) == "" {
				t.Errorf("%s: error %v, want %s with a hint", name, err, fault.Unavailable)
			}
			if keys := strings.Contains(name, "key"); keys != (fault.HintOf(err) == credentialsHint) {
				t.Errorf("%s: error %v with the hint %q", name, err, fault.HintOf(err))
			}
			if err != nil && strings.Contains(fmt.Sprintf("%v %+v", err, c), server.SecretKey) {
				t.Errorf("%s: the secret key is in %v", name, err)
			}
		}
	})
}

func TestOpenUsesTheEnvironment(t *testing.T) {
	server := storagetest.Versitygw(t)
	c := config(server, "", nil)
	c.Creds, c.Region = nil, ""
	for _, name := range []string{"AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_REGION", server.Region)
	if _, err := Open(t.Context(), c); !fault.Is(err, fault.Invalid) || fault.HintOf(err) != credentialsHint {
		t.Errorf("without keys: error %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Describe(), "s3://"+server.Bucket+" at "+server.Endpoint; got != want {
		t.Errorf("Describe() = %q, want %q", got, want)
	}
}

// A region's store may have credentials of its own.
func TestEnvCredentials(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID_EU_WEST_1", "theirs")
	if c := EnvCredentials("eu-west-1"); c != nil {
		t.Error("credentials without a secret")
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY_EU_WEST_1", "hidden")
	c := EnvCredentials("eu-west-1")
	if c == nil || EnvCredentials("us") != nil {
		t.Fatal("not those of the region")
	}
	if v, err := c.GetWithContext(nil); err != nil || v.AccessKeyID != "theirs" || v.SecretAccessKey != "hidden" || v.SessionToken != "" {
		t.Errorf("%s, %v", v.AccessKeyID, err)
	}
}
