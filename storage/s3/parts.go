package s3

import "sync"

// partBuffers keeps memory for parts. It is not the collector's: that lets a heap
// grow to twice what lives in it before it clears up, and here that would be
// another part for each upload. A buffer is never unmapped, so that a late reader
// of one finds zeros, not an end of the program; its pages go back to the system
// when more lie idle than idleParts. There are as many as there were uploads at
// once, each an address range of one part.
type partBuffers struct {
	mu   sync.Mutex
	warm [][]byte // guarded by mu; with their pages
	cold [][]byte // guarded by mu; without
}

// idleParts is how many buffers keep their pages while nobody uses them.
const idleParts = 4

var parts partBuffers

// get gives memory for one part.
func (p *partBuffers) get() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range []*[][]byte{&p.warm, &p.cold} {
		if n := len(*list); n > 0 {
			buffer := (*list)[n-1]
			*list = (*list)[:n-1]
			return buffer
		}
	}
	return mapPart(partSize)
}

// put takes it back. No request may be using it.
func (p *partBuffers) put(buffer []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.warm) < idleParts {
		p.warm = append(p.warm, buffer)
		return
	}
	unpage(buffer)
	p.cold = append(p.cold, buffer)
}
