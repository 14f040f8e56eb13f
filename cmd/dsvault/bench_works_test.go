//go:build peers && linux

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/minio/minio-go/v7"

	"dsvault/storage/storagetest"
)

// The works, as the report names them.
const (
	pushLarge = "push one file"
	pullLarge = "pull one file"
	pushSmall = "push many files"
	pullSmall = "pull many files"

	deliverSealed = "send a sealed shard"
	takeSealed    = "take a sealed shard"
	firstByte     = "first byte of a range"
)

// large pushes and pulls one large file.
func (p *peers) large(round int) {
	ctx, server, rclone := context.Background(), p.site.server.cmd.Process.Pid, storagetest.Binary(p.t, "rclone")
	file, name := p.path("large.bin"), fmt.Sprintf("acme/signs/large-%d", round)
	p.measure(pushLarge, "minio-go", 0, func() error {
		_, err := p.plain.FPutObject(ctx, p.s3.Bucket, "plain", file, minio.PutObjectOptions{})
		return err
	})
	p.measure(pushLarge, "dsvault", server, func() error { return p.dsvault("push", file, name) })
	p.measure(pushLarge, "dsvault --direct", server, func() error { return p.dsvault("push", file, name+"-direct", "--direct") })
	p.measure(pushLarge, "rclone crypt", 0, func() error { return p.sh(rclone + " copyto large.bin crypt:large.bin") })

	p.measure(pullLarge, "minio-go", 0, func() error {
		return p.plain.FGetObject(ctx, p.s3.Bucket, "plain", p.path("pulled-plain"), minio.GetObjectOptions{})
	})
	p.remove("pulled-plain")
	p.measure(pullLarge, "dsvault", server, func() error { return p.dsvault("pull", name, "-o", p.path("pulled")) })
	p.remove("pulled")
	p.measure(pullLarge, "dsvault --direct", server, func() error {
		return p.dsvault("pull", name+"-direct", "-o", p.path("pulled"), "--direct")
	})
	p.remove("pulled")
	p.measure(pullLarge, "rclone crypt", 0, func() error { return p.sh(rclone + " copyto crypt:large.bin pulled-crypt") })
	p.remove("pulled-crypt")
}

// small pushes and pulls many small files.
func (p *peers) small(round int) {
	server, name := p.site.server.cmd.Process.Pid, fmt.Sprintf("acme/signs/small-%d", round)
	rclone, age, restic := storagetest.Binary(p.t, "rclone"), storagetest.Binary(p.t, "age"), storagetest.Binary(p.t, "restic")
	restic += fmt.Sprintf(" --quiet --cache-dir restic-cache-%d -r s3:%s/%s/restic-%d", round, p.s3.Endpoint, p.s3.Bucket, round)
	p.must(p.sh(restic + " init"))
	p.measure(pushSmall, "tar, age, rclone rcat", 0, func() error {
		return p.sh("tar -cf - many | " + age + ` -r "$RECIPIENT" | ` + rclone + " rcat s3:" + p.s3.Bucket + "/many.tar.age")
	})
	p.measure(pushSmall, "dsvault", server, func() error { return p.dsvault("push", p.path("many"), name) })
	p.measure(pushSmall, "restic", 0, func() error { return p.sh(restic + " backup many") })

	p.measure(pullSmall, "restic", 0, func() error { return p.sh(restic + " restore latest --target pulled-restic") })
	p.remove("pulled-restic")
	p.measure(pullSmall, "dsvault", server, func() error { return p.dsvault("pull", name, "-o", p.path("pulled")) })
	p.remove("pulled")
	p.remove(fmt.Sprintf("restic-cache-%d", round))
}

func (p *peers) remove(name string) {
	p.must(os.RemoveAll(p.path(name)))
	p.must(os.RemoveAll(p.path(name + ".receipts")))
}

// dsvault runs a command of cleo, which has to succeed at the first try.
func (p *peers) dsvault(args ...string) error {
	p.t.Helper()
	p.site.ok("cleo", args...)
	return nil
}
