//go:build linux

package storagetest

import (
	"net"
	"testing"
)

// TestFreeAddress takes ports until the reserved one would have come, and starts a
// server there in between.
func TestFreeAddress(t *testing.T) {
	address := FreeAddress(t)
	for round := range 2 {
		server, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		server.Close()
		for range 30_000 { // the ports that there are
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if l.Addr().String() == address {
				t.Fatal("the reserved port was given away")
			}
			l.Close()
		}
	}
}
