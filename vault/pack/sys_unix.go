//go:build unix

package pack

import (
	"io/fs"
	"os"
	"syscall"
)

// readFlags open a file for reading without waiting for a FIFO's writer.
const readFlags = os.O_RDONLY | syscall.O_NONBLOCK

// fileID tells a file from another one of the same name.
type fileID struct{ dev, ino uint64 }

func idOf(info fs.FileInfo) fileID {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fileID{uint64(st.Dev), st.Ino}
	}
	return fileID{}
}

// tryLock takes an advisory lock that ends with f or with the process. It
// reports false when somebody else holds it.
func tryLock(f *os.File) (bool, error) {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
		case nil:
			return true, nil
		case syscall.EINTR:
		case syscall.EWOULDBLOCK:
			return false, nil
		default:
			return false, err
		}
	}
}
