//go:build linux || darwin

package main

import "syscall"

// diskSpace gives the bytes that are free to this user, and all, of the file
// system that holds a folder.
func diskSpace(folder string) (free, total uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(folder, &s); err != nil {
		return 0, 0, err
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}
