package vault_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"dsvault/storage"
	"dsvault/storage/s3"
	"dsvault/storage/storagetest"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// TestEraseOnS3: in a bucket that keeps versions nothing is left of an erased
// dataset, neither versions nor delete markers nor an upload that was begun; and
// while bytes of that upload could still arrive, it is not complete.
func TestEraseOnS3(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) storagetest.S3Server{"versitygw": storagetest.Versitygw, "minio": storagetest.MinIO} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			ctx := context.Background()
			core := must[*minio.Core](t)(minio.NewCore(strings.TrimPrefix(server.Endpoint, "http://"), &minio.Options{
				Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""), Region: server.Region,
			}))
			if err := core.EnableVersioning(ctx, server.Bucket); err != nil {
				t.Fatal(err)
			}
			f := &faultyS3{next: s3.NewTransport(false)}
			t.Cleanup(f.next.CloseIdleConnections)
			w := newS3World(t, server, f)
			w.setUp()
			d, _ := w.openDataset(keptDataset)
			push := must[wire.Push](t)(w.v.BeginPush(ctx, w.as("carol"), d.Scope))
			up := must[wire.Upload](t)(w.v.StartUpload(ctx, w.as("carol"), dataset.ShardRef{Dataset: d.Scope, Number: 5},
				wire.NewUpload{Fingerprint: make([]byte, 32), Size: 10 << 20, Push: push.Push}))
			must[wire.DirectUpload](t)(w.v.StartDirect(ctx, w.as("carol"), d.Scope, up.Attempt))

			// The same object again, and a delete marker, as another tool would leave.
			var keys []string
			for o, err := range w.objects.List(ctx, "v1/"+d.ID.String()+"/") {
				if err != nil {
					t.Fatal(err)
				}
				keys = append(keys, o.Key)
			}
			for _, key := range keys {
				if err := core.RemoveObject(ctx, server.Bucket, key, minio.RemoveObjectOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			w.keep(keptDataset, storage.KeepData, "1d")
			w.clock.Add(25 * time.Hour)
			w.v.Chores(ctx)
			if list := w.erasures(keptDataset); len(list) != 1 || list[0].State != "running" {
				t.Fatalf("while bytes could arrive: %+v", list)
			}
			w.clock.Add(storage.PresignedLife)
			w.v.Chores(ctx)
			list := w.erasures(keptDataset)
			if list[0].State != "complete" || list[0].Versions != 2 || list[0].Markers != 2 || list[0].Uploads != 1 {
				t.Fatalf("%+v", list)
			}
			for o := range core.ListObjectsIter(ctx, server.Bucket, minio.ListObjectsOptions{Prefix: "v1/", Recursive: true, WithVersions: true}) {
				t.Errorf("left: %s %s %v", o.Key, o.VersionID, o.Err)
			}
			w.certificate(list[0])
		})
	}
}
