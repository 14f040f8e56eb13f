package s3

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"dsvault/storage"
	"dsvault/storage/storagetest"
)

func TestMain(m *testing.M) {
	minio.DefaultRetryUnit, minio.DefaultRetryCap = time.Millisecond, 5*time.Millisecond // nothing here gets better by waiting
	storagetest.Main(m)
}

// servers are the real ones that every test here runs on.
var servers = []struct {
	name  string
	start func(testing.TB) storagetest.S3Server
}{{"versitygw", storagetest.Versitygw}, {"minio", storagetest.MinIO}, {"rclone", storagetest.Rclone}}

// eachServer runs a test on every server, next to others.
func eachServer(t *testing.T, test func(t *testing.T, server storagetest.S3Server)) {
	t.Parallel()
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			test(t, s.start(t))
		})
	}
}

func config(server storagetest.S3Server, prefix string, transport http.RoundTripper) Config {
	return Config{
		Endpoint: strings.TrimPrefix(server.Endpoint, "http://"), Bucket: server.Bucket, Region: server.Region, Prefix: prefix,
		Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""), Transport: transport,
	}
}

func mustOpen(t testing.TB, server storagetest.S3Server, prefix string, transport http.RoundTripper) *Store {
	t.Helper()
	s, err := Open(t.Context(), config(server, prefix, transport))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		var allowed []storagetest.Allowance
		if server.Name == "rclone" {
			allowed = append(allowed, storagetest.BreaksOff)
		}
		storagetest.Objects(t, func(t *testing.T) storage.Objects {
			// Each its own prefix of one bucket, so that they also prove to be apart.
			prefix := strings.NewReplacer("/", "-", "=", "-").Replace(t.Name())
			return mustOpen(t, server, prefix, nil)
		}, allowed...)
	})
}

func TestDirect(t *testing.T) {
	eachServer(t, func(t *testing.T, server storagetest.S3Server) {
		storagetest.Direct(t, func(t *testing.T) storage.Objects {
			return mustOpen(t, server, strings.NewReplacer("/", "-", "=", "-").Replace(t.Name()), nil)
		})
	})
}

// TestPublic: presigned URLs name the address at which clients reach the server,
// and only they do.
func TestPublic(t *testing.T) {
	server := storagetest.Versitygw(t)
	c := config(server, "p", nil)
	c.Public, c.PublicSecure = "s3.example.org:8443", true
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	put := mustPut(t, s, "k", []byte("x"))
	signed, err := s.PresignObject(t.Context(), put.Key)
	if err != nil || !strings.HasPrefix(signed.Expose(), "https://s3.example.org:8443/"+server.Bucket+"/p/k?") {
		t.Errorf("the presigned URL is not to the public endpoint, error %v", err)
	}
}

func mustPut(t *testing.T, s *Store, key string, data []byte) storage.Object {
	t.Helper()
	o, err := s.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func checkContent(t *testing.T, s *Store, key string, want []byte) {
	t.Helper()
	r, err := s.Open(t.Context(), key, 0, -1, "")
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, want %d; error %v", key, len(got), len(want), err)
	}
}

// BenchmarkPut is bound by the server and its disk; see the ratio of the two.
func BenchmarkPut(b *testing.B) {
	const size = 64 << 20
	data := make([]byte, size)
	for _, server := range servers {
		b.Run(server.name, func(b *testing.B) {
			s := mustOpen(b, server.start(b), "", nil)
			b.SetBytes(size)
			for b.Loop() {
				if _, err := s.Put(b.Context(), "a", bytes.NewReader(data), size); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen reads one object in one request.
func BenchmarkOpen(b *testing.B) {
	const size = 64 << 20
	for _, server := range servers {
		b.Run(server.name, func(b *testing.B) {
			s := mustOpen(b, server.start(b), "", nil)
			if _, err := s.Put(b.Context(), "a", bytes.NewReader(make([]byte, size)), size); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			for b.Loop() {
				r, err := s.Open(b.Context(), "a", 0, -1, "")
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}
