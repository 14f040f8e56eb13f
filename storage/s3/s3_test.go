package s3

import (
	"net/http"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"dsvault/storage"
	"dsvault/storage/storagetest"
)

func TestMain(m *testing.M) { storagetest.Main(m) }

// servers are the real ones that every test here runs on.
var servers = []struct {
	name  string
	start func(testing.TB) storagetest.S3Server
}{{"versitygw", storagetest.Versitygw}, {"minio", storagetest.MinIO}}

// eachServer runs a test on every server.
func eachServer(t *testing.T, test func(t *testing.T, server storagetest.S3Server)) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) { test(t, s.start(t)) })
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
		storagetest.Objects(t, func(t *testing.T) storage.Objects {
			// Each its own prefix of one bucket, so that they also prove to be apart.
			prefix := strings.NewReplacer("/", "-", "=", "-").Replace(t.Name())
			return mustOpen(t, server, prefix, nil)
		})
	})
}
