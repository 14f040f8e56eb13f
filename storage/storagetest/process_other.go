//go:build !linux

package storagetest

import (
	"os"
	"os/exec"
)

// Elsewhere a server is stopped by the cleanup alone.
func own(*exec.Cmd) {}

func runAs(*exec.Cmd, int, int) {}

func signalGroup(cmd *exec.Cmd, sig os.Signal) {
	if cmd.Process.Signal(sig) != nil {
		_ = cmd.Process.Kill()
	}
}

func gone(int) bool { return false }
