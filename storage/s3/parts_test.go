package s3

import (
	"runtime"
	"testing"
)

// TestPartBuffers: buffers are used again, and those that lie idle hold no memory.
func TestPartBuffers(t *testing.T) {
	var p partBuffers
	var used [][]byte
	for i := range 5 {
		b := p.get()
		if len(b) != partSize {
			t.Fatalf("%d bytes", len(b))
		}
		b[0], b[partSize-1] = byte(i+1), byte(i+1)
		used = append(used, b)
	}
	for _, b := range used {
		p.put(b)
	}
	if len(p.warm) != idleParts || len(p.cold) != 5-idleParts {
		t.Errorf("%d warm, %d cold", len(p.warm), len(p.cold))
	}
	for _, b := range p.cold { // a late reader finds them readable
		if b[0] != 0 && runtime.GOOS == "linux" {
			t.Error("a cold buffer has kept its pages")
		}
	}
	seen := map[*byte]bool{}
	for range 5 {
		seen[&p.get()[0]] = true
	}
	for _, b := range used {
		if !seen[&b[0]] {
			t.Error("a buffer was not used again")
		}
	}
}
