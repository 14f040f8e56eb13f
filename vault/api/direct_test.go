package api_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"dsvault/storage/s3"
	"dsvault/storage/storagetest"
	"dsvault/vault/api"
	"dsvault/vault/dataset"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// directRoutes are those that do nothing without an S3 server.
var directRoutes = []string{
	"GET /v1/datasets/:client/:project/:dataset/shards/:n/direct",
	"POST /v1/datasets/:client/:project/:dataset/uploads/:attempt/direct",
	"POST /v1/datasets/:client/:project/:dataset/uploads/:attempt/parts",
	"POST /v1/datasets/:client/:project/:dataset/uploads/:attempt/joined",
}

// TestDirectRoutes uploads and reads a shard without the vault between.
func TestDirectRoutes(t *testing.T) {
	server := storagetest.Versitygw(t)
	objects := must(s3.Open(t.Context(), s3.Config{
		Endpoint: strings.TrimPrefix(server.Endpoint, "http://"), Bucket: server.Bucket, Region: server.Region,
		Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""),
	}))(t)
	w := newWorldOn(t, t.TempDir(), objects, api.Options{})
	w.populate(1000)
	store := func(method string, p wire.Presigned, body []byte, header ...string) []byte {
		t.Helper()
		req := must(http.NewRequest(method, p.URL.Expose(), bytes.NewReader(body)))(t)
		for name, value := range p.Header {
			req.Header.Set(name, value)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp := must(http.DefaultTransport.RoundTrip(req))(t)
		defer resp.Body.Close()
		if life := time.Until(p.Expires); resp.StatusCode > 299 || life < time.Minute || life > time.Hour {
			t.Fatalf("%s: %s, with %s left", method, resp.Status, life)
		}
		return must(io.ReadAll(resp.Body))(t)
	}

	const base = "/v1/datasets/acme/signs/two"
	d := call[wire.Dataset](w, "carol", "PUT", base, nil)
	plain := []byte("straight to storage")
	sealed, manifest := sealedShard(t, d.Recipient, 0, plain)
	up := call[wire.Upload](w, "carol", "POST", base+"/shards/0/uploads", wire.NewUpload{Fingerprint: make([]byte, 32), Size: int64(len(plain))})
	path := base + "/uploads/" + up.Attempt.String()
	if in := call[wire.DirectUpload](w, "carol", "POST", path+"/direct", nil); in.Parts != 1 || in.PartSize != dataset.PartSize {
		t.Errorf("%+v", in)
	}
	part := sha256.Sum256(sealed)
	parts := call[wire.PresignedParts](w, "carol", "POST", path+"/parts", wire.Parts{Parts: []wire.Part{{Number: 1, SHA256: part[:]}}})
	store(http.MethodPut, parts.Presigned[0], sealed)
	stored := call[wire.Stored](w, "carol", "POST", path+"/joined", nil)
	if sum := dataset.PartsSum([][32]byte{part}); !bytes.Equal(stored.SHA256, sum[:]) {
		t.Errorf("%+v", stored)
	}
	call[wire.Shard](w, "carol", "POST", path+"/commit", wire.Commit{SHA256: stored.SHA256, Manifest: manifest})

	call[wire.Entry](w, "carol", "PATCH", "/v1/projects/acme/signs", wire.ProjectUpdate{Delivery: &[]dataset.Delivery{dataset.Direct}})
	read := call[wire.DirectRead](w, "lena", "GET", strings.Replace(onePath, "sealed", "direct", 1), nil, wire.HeaderDevice, w.devices["lena"].String())
	payload := store(http.MethodGet, read.Object, nil, "Range", fmt.Sprintf("bytes=%d-", read.Offset), "If-Match", `"`+read.ETag+`"`)
	if got := must(seal.OpenBytes(append(read.Header, payload...), w.keys["lena"], 1<<20))(t); !bytes.Equal(got, make([]byte, 1000)) || int64(len(payload)) != read.Size {
		t.Errorf("it opens to %d bytes", len(got))
	}
	for _, said := range []string{"X-Amz", "Signature", parts.Presigned[0].URL.Expose()} {
		if strings.Contains(w.logs.text.String(), said) {
			t.Errorf("the server's log shows %q", said)
		}
	}
}
