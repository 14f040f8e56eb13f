package storagetest

import (
	"net"
	"strings"
	"testing"
)

func TestS3ServersEndWithTheirTest(t *testing.T) {
	for name, serve := range map[string]func(testing.TB) S3Server{"versitygw": Versitygw, "minio": MinIO, "rclone": Rclone} {
		t.Run(name, func(t *testing.T) {
			var s S3Server
			t.Run("running", func(t *testing.T) {
				s = serve(t)
				if err := s.makeBucket(t.Context()); err == nil {
					t.Error("the bucket was made twice: it was not there")
				}
			})
			if s.Endpoint == "" {
				t.Skip("no server")
			}
			if c, err := net.Dial("tcp", strings.TrimPrefix(s.Endpoint, "http://")); err == nil {
				c.Close()
				t.Error("the server still listens after its test")
			}
		})
	}
}
