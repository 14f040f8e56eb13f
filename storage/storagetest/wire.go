package storagetest

import (
	"bytes"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Wire stands between a node and PostgreSQL and breaks when told to.
type Wire struct {
	listener net.Listener
	target   string
	mode     atomic.Int32
	trips    atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

// WireMode is how a Wire behaves.
type WireMode int32

const (
	Works       WireMode = iota
	LosesReply           // the server has committed; nobody hears of it
	LosesCommit          // COMMIT does not arrive
	Cut                  // no connection at all
	Stalls               // connections stay, and nothing arrives
)

// NewWire gives a wire to the server at dsn, as Postgres gives it, and the URL
// of its near end. It ends with t.
func NewWire(t testing.TB, dsn string) (*Wire, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	folder, err := os.MkdirTemp("", "wire") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	const socket = ".s.PGSQL.5432"
	w := &Wire{target: filepath.Join(query.Get("host"), socket), conns: map[net.Conn]struct{}{}}
	if w.listener, err = net.Listen("unix", filepath.Join(folder, socket)); err != nil {
		t.Fatal(err)
	}
	w.wg.Go(w.serve)
	t.Cleanup(func() {
		w.listener.Close()
		w.Break(Cut)
		w.wg.Wait()
	})
	query.Set("host", folder)
	u.RawQuery = query.Encode()
	return w, u.String()
}

func (w *Wire) serve() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("unix", w.target)
		if err != nil || w.Mode() == Cut {
			near.Close()
			continue
		}
		w.mu.Lock()
		w.conns[near], w.conns[far] = struct{}{}, struct{}{}
		w.mu.Unlock()
		swallow, answered := new(atomic.Bool), new(atomic.Bool)
		answered.Store(true)
		w.wg.Go(func() {
			w.pump(near, far, func(data []byte) bool {
				if answered.Swap(false) {
					w.trips.Add(1)
				}
				mode := w.Mode()
				commit := bytes.Contains(data, []byte("COMMIT\x00"))
				swallow.Store(commit && mode == LosesReply)
				return mode == Cut || commit && mode == LosesCommit
			})
		})
		w.wg.Go(func() {
			w.pump(far, near, func([]byte) bool {
				answered.Store(true)
				return swallow.Load() || w.Mode() == Cut
			})
		})
	}
}

// pump carries data until either end closes, or stop says so.
func (w *Wire) pump(from, to net.Conn, stop func([]byte) bool) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		for err == nil && w.Mode() == Stalls {
			time.Sleep(time.Millisecond) // the network's time
		}
		if err != nil || stop(buf[:n]) {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// Set changes the mode.
func (w *Wire) Set(mode WireMode) { w.mode.Store(int32(mode)) }

// Mode is the mode that was set last.
func (w *Wire) Mode() WireMode { return WireMode(w.mode.Load()) }

// Trips counts the round trips: how often something was sent behind an answer.
func (w *Wire) Trips() int64 { return w.trips.Load() }

// Break sets the mode and ends the connections there are.
func (w *Wire) Break(mode WireMode) {
	w.Set(mode)
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		c.Close()
	}
	clear(w.conns)
}
