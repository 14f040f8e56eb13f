package storagetest

import (
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3Server is a real S3 server on a loopback port, with one empty bucket. Its
// keys are random and end with it.
type S3Server struct {
	Name      string // of the program
	Endpoint  string // "http://127.0.0.1:PORT"
	Region    string
	AccessKey string
	SecretKey string
	Bucket    string
}

// Versitygw starts versitygw on data of its own and stops it when t ends.
func Versitygw(t testing.TB) S3Server {
	t.Helper()
	program := Binary(t, "versitygw")
	return startS3(t, "versitygw", func(address, folder string, s S3Server) *exec.Cmd {
		data, sidecar, versions := filepath.Join(folder, "data"), filepath.Join(folder, "sidecar"), filepath.Join(folder, "versions")
		for _, sub := range []string{data, sidecar, versions} {
			if err := os.Mkdir(sub, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(program, "--port", address, "--region", s.Region, "--quiet", "posix", "--sidecar", sidecar, "--versioning-dir", versions, data)
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+s.AccessKey, "ROOT_SECRET_ACCESS_KEY="+s.SecretKey)
		return cmd
	})
}

// MinIO starts MinIO on data of its own and stops it when t ends.
func MinIO(t testing.TB) S3Server {
	t.Helper()
	program := Binary(t, "minio")
	return startS3(t, "minio", func(address, folder string, s S3Server) *exec.Cmd {
		cmd := exec.Command(program, "server", "--quiet", "--address", address, "--certs-dir", filepath.Join(folder, "certs"),
			filepath.Join(folder, "data"))
		cmd.Env = append(os.Environ(), "HOME="+folder, "MINIO_ROOT_USER="+s.AccessKey, "MINIO_ROOT_PASSWORD="+s.SecretKey,
			"MINIO_REGION="+s.Region, "MINIO_BROWSER=off", "MINIO_UPDATE=off")
		return cmd
	})
}

// Rclone starts rclone's S3 server on data of its own and stops it when t ends.
// It is the weak one among the servers.
func Rclone(t testing.TB) S3Server {
	t.Helper()
	program := Binary(t, "rclone")
	help, err := exec.Command(program, "serve", "s3", "--help").CombinedOutput()
	if err != nil || !strings.Contains(string(help), "rclone serve s3") {
		missing(t, program+" has no S3 server: it is older than version 1.65")
	}
	return startS3(t, "rclone", func(address, folder string, s S3Server) *exec.Cmd {
		data := filepath.Join(folder, "data")
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "serve", "s3", "--addr", address, "--config", filepath.Join(folder, "rclone.conf"),
			"--cache-dir", filepath.Join(folder, "cache"), data)
		cmd.Env = append(os.Environ(), "HOME="+folder, `RCLONE_AUTH_KEY="`+s.AccessKey+","+s.SecretKey+`"`)
		return cmd
	})
}

// startS3 runs a server and waits until it has made the bucket, which only the
// server that knows the random keys does.
func startS3(t testing.TB, name string, command func(address, folder string, s S3Server) *exec.Cmd) S3Server {
	t.Helper()
	const tries = 3 // another program may have asked for the port by its number
	for try := 1; ; try++ {
		address := FreeAddress(t)
		s := S3Server{
			Name: name, Endpoint: "http://" + address, Region: "us-east-1",
			AccessKey: rand.Text(), SecretKey: rand.Text(), Bucket: "b-" + strings.ToLower(rand.Text()),
		}
		p, err := start(command(address, t.TempDir(), s))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.stop(syscall.SIGTERM) })
		err = p.await(func() error { return s.makeBucket(t.Context()) })
		if err == nil {
			return s
		}
		if try == tries {
			t.Fatal(err)
		}
	}
}

func (s S3Server) makeBucket(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := minio.New(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: s.Region, MaxRetries: 1,
	})
	if err != nil {
		return err
	}
	return client.MakeBucket(ctx, s.Bucket, minio.MakeBucketOptions{Region: s.Region})
}
