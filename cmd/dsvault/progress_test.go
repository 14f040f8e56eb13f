//go:build linux

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal; the program's end of it is stderr.
type terminal struct {
	transcript
	stderr *os.File
	done   chan struct{} // closed when nobody holds the program's end any more
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{stderr: slave, done: make(chan struct{})}
	go func() {
		defer close(term.done)
		io.Copy(&term.transcript, master) // ends with EIO
	}()
	return term
}

// slowly is a way to a server that lets little through at a time, until it is
// told that it was enough.
type slowly struct {
	enough atomic.Bool
	url    string
}

func newSlowly(t *testing.T, target string) *slowly {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	p := &slowly{url: "http://" + l.Addr().String()}
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
				all.Go(func() {
					p.copy(way[1], way[0])
					near.Close()
					far.Close()
				})
			}
		}
	})
	return p
}

func (p *slowly) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !p.enough.Load() {
			time.Sleep(2 * time.Millisecond) // this is how slow it is
		}
		if _, failed := to.Write(buf[:n]); failed != nil || err != nil {
			return
		}
	}
}

// TestProgressBar: on a terminal a transfer shows how much of how much there is,
// the rate and the time left, and takes the bar away at its end; in a pipe it says
// nothing.
func TestProgressBar(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.project()
	_, address, _ := strings.Cut(s.url, "://")
	way := newSlowly(t, address)
	near := s.url
	s.url = way.url
	s.join("slow", "client", "acme")
	s.url = near
	film := filepath.Join(s.dir, "film")
	if err := os.WriteFile(film, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(film, 192<<20); err != nil { // it takes no room
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(push|pull) +(\d+)% \|.*\([\d.]+ [kMG]B/s\) \[\d[\dms]*:\d[\dms]*\]`)
	for _, args := range [][]string{{"push", film, batch, "--shard-size", "16MiB"}, {"pull", batch, "-o", s.out("slow")}} {
		way.enough.Store(false)
		term := newTerminal(t)
		p := launchOn(t, term.stderr, []string{"DSVAULT_CONFIG=" + s.config("slow")}, args...)
		term.stderr.Close()
		await(t, "the bar shows rate and time left", func() bool { return shown.MatchString(term.String()) || p.ended() })
		way.enough.Store(true)
		p.wait(t).wants(t, exitOK)
		<-term.done
		if !shown.MatchString(term.String()) {
			t.Errorf("%s showed %q", args[0], term.String())
		}
		last := 0
		for line := range strings.SplitSeq(term.String(), "\r") {
			if match := shown.FindStringSubmatch(line); match != nil {
				percent, _ := strconv.Atoi(match[2])
				if percent < last {
					t.Errorf("%s went back from %d%% to %d%%", args[0], last, percent)
				}
				last = percent
			}
		}
		rest := term.String()[strings.LastIndex(term.String(), "\r")+1:]
		if strings.TrimSpace(strings.TrimPrefix(rest, "\x1b[2K")) != "" {
			t.Errorf("%s left %q on the screen", args[0], rest)
		}
	}
	for _, args := range [][]string{{"push", files(t, 2), "acme/signs/piped"}, {"pull", "acme/signs/piped", "-o", s.out("piped")}} {
		if o := s.ok("cleo", args...); o.err != "" {
			t.Errorf("%s says %q into a pipe", args[0], o.err)
		}
	}
	s.stop()
}
