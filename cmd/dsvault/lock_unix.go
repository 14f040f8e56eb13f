//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"dsvault/vault/fault"
)

// lockFolder takes the folder for this process. The kernel lets go of it when
// the process ends, however it ends.
func lockFolder(path string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, "dsvault.lock", "cannot lock "+path, err).WithHint("check that you may write to the folder")
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fault.Wrap(fault.Conflict, "dsvault.lock", "another dsvault serves "+path, err).
				WithHint("stop it first; one process at a time serves an embedded vault")
		}
		return nil, fault.Wrap(fault.Unavailable, "dsvault.lock", "cannot lock "+path, err).WithHint("check that you may write to the folder")
	}
	return func() { f.Close() }, nil
}
