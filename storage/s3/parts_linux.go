package s3

import "golang.org/x/sys/unix"

// mapPart gives n bytes outside the heap, or on it where the system gives none.
func mapPart(n int) []byte {
	buffer, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return make([]byte, n)
	}
	return buffer
}

// unpage gives a buffer's pages back; it reads as zeros then.
func unpage(buffer []byte) { _ = unix.Madvise(buffer, unix.MADV_DONTNEED) }
