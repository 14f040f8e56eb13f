package storagetest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// HAProxy starts haproxy with what config gives for the address to listen on,
// and gives that address. It ends with t.
func HAProxy(t testing.TB, config func(address string) string) (address string) {
	t.Helper()
	program := "/usr/sbin/haproxy" // Debian's; not in everybody's PATH
	if _, err := os.Stat(program); err != nil {
		program = Binary(t, "haproxy")
	}
	const tries = 3 // another program may have asked for the port by its number
	for try := 1; ; try++ {
		address = FreeAddress(t)
		file := filepath.Join(t.TempDir(), "haproxy.cfg")
		if err := os.WriteFile(file, []byte(config(address)), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "-db", "-f", file)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not end on SIGQUIT
		p, err := start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		err = p.await(func() error {
			c, err := net.Dial("tcp", address)
			if err == nil {
				c.Close()
			}
			return err
		})
		if err == nil {
			t.Cleanup(func() { p.stop(syscall.SIGTERM) })
			return address
		}
		p.stop(syscall.SIGKILL)
		if try == tries {
			t.Fatal(err)
		}
	}
}
