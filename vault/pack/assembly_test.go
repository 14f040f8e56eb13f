package pack

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dsvault/vault/fault"
)

// assemble unpacks pieces at once and ends the assembly.
func assemble(t *testing.T, dir string, pieces []piece, opts UnpackOptions) (missing []int) {
	t.Helper()
	a := NewAssembly(dir)
	opts.Assembly = a
	missing = make([]int, len(pieces))
	var wg sync.WaitGroup
	for i, p := range pieces {
		wg.Go(func() {
			res, err := Unpack(t.Context(), dir, bytes.NewReader(p.raw), p.m, opts)
			if err != nil {
				t.Error(err)
			}
			missing[i] = res.Missing
		})
	}
	wg.Wait()
	if err := a.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return missing
}

// nothingHidden: what is of no use any more is gone.
func nothingHidden(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), reserved) {
			t.Errorf("left over: %s", e.Name())
		}
	}
}

func TestAssembly(t *testing.T) {
	for _, size := range []int{64<<10 + 1, 2 * 64 << 10, 12*64<<10 + 77} {
		src, pieces := cut(t, uint64(size), size)
		for range 5 {
			rand.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
			dir := t.TempDir()
			wholes := 0
			for _, n := range assemble(t, dir, pieces, UnpackOptions{}) {
				if n == 0 {
					wholes++
				}
			}
			if wholes != 1 {
				t.Errorf("%d parts made the file whole", wholes)
			}
			sameTree(t, tree(t, dir), tree(t, filepath.Dir(src)))
			nothingHidden(t, dir)
			assemble(t, dir, pieces, quick) // again, when the file is there
			sameTree(t, tree(t, dir), tree(t, filepath.Dir(src)))
			nothingHidden(t, dir)
		}
	}
}

// TestAssemblyBroken: nothing has the file's name before all parts are good;
// those that are stay for a later run, in the ordinary way.
func TestAssemblyBroken(t *testing.T) {
	src, pieces := cut(t, 3, 4*64<<10+77)
	dir := t.TempDir()
	a := NewAssembly(dir)
	opts := UnpackOptions{NoSync: true, Assembly: a}
	try := func(p piece) error {
		_, err := Unpack(t.Context(), dir, bytes.NewReader(p.raw), p.m, opts)
		return err
	}
	for n, p := range pieces {
		if n == 2 {
			continue
		}
		if err := try(p); err != nil {
			t.Fatal(err)
		}
	}
	damaged := piece{bytes.Clone(pieces[2].raw), pieces[2].m}
	damaged.raw[5] ^= 1
	other := pieces[2]
	other.m.ModTime++
	twice := piece{pieces[1].raw, pieces[1].m}
	twice.m.SHA256 = pieces[2].m.SHA256
	small := piece{pieces[2].raw[:100], pieces[2].m}
	small.m.Size = 100
	for name, test := range map[string]struct {
		p    piece
		code fault.Code
	}{
		"damaged": {damaged, fault.Corrupt}, "short": {piece{pieces[2].raw[:9], pieces[2].m}, fault.Corrupt},
		"of another version": {other, fault.Conflict}, "twice, and other bytes": {twice, fault.Conflict}, "of another size": {small, fault.Invalid},
	} {
		if err := try(test.p); !fault.Is(err, test.code) {
			t.Errorf("a part that is %s: %v, want %s", name, err, test.code)
		}
	}
	if got := names(t, dir); got != "" {
		t.Errorf("there is %s", got)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); got != "scan.bin.part-0000 scan.bin.part-0001 scan.bin.part-0003 scan.bin.part-0004" {
		t.Errorf("there is %s", got)
	}
	// The rest may come in another run, which is the ordinary way then.
	assemble(t, dir, pieces[2:3], quick)
	sameTree(t, tree(t, dir), tree(t, filepath.Dir(src)))
	nothingHidden(t, dir)
}

// TestAssemblyInterrupted: a last part that waits for others ends with its
// context, and a run that was interrupted leaves nothing.
func TestAssemblyInterrupted(t *testing.T) {
	_, pieces := cut(t, 4, 3*64<<10)
	dir := t.TempDir()
	a := NewAssembly(dir)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	last := pieces[len(pieces)-1]
	_, err := Unpack(ctx, dir, bytes.NewReader(last.raw), last.m, UnpackOptions{NoSync: true, Assembly: a})
	if !fault.Is(err, fault.Canceled) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := Unpack(t.Context(), dir, bytes.NewReader(pieces[0].raw), pieces[0].m, UnpackOptions{NoSync: true, Assembly: a}); err != nil {
		t.Error(err)
	}
	if err := a.Close(ctx); err != nil {
		t.Error(err)
	}
	if got := names(t, dir); got != "" {
		t.Errorf("there is %s", got)
	}
	nothingHidden(t, dir)
}

// TestAssemblyLastAlone: a last part does not wait for others when nobody who began
// before brings one. It stays beside the file, as ever.
func TestAssemblyLastAlone(t *testing.T) {
	src, pieces := cut(t, 6, 2*64<<10+77)
	dir := t.TempDir()
	a := NewAssembly(dir)
	ended := make(chan struct{})
	close(ended)
	opts := UnpackOptions{NoSync: true, Assembly: a, Earlier: ended}
	last := pieces[len(pieces)-1]
	res, err := Unpack(t.Context(), dir, bytes.NewReader(last.raw), last.m, opts)
	if err != nil || res.Missing != len(pieces)-1 {
		t.Fatalf("%d missing, %v", res.Missing, err)
	}
	if got := names(t, dir); got != "scan.bin.part-0002" {
		t.Errorf("there is %s", got)
	}
	for _, p := range pieces[:len(pieces)-1] { // out of order, and too late
		if _, err := Unpack(t.Context(), dir, bytes.NewReader(p.raw), p.m, opts); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameTree(t, tree(t, dir), tree(t, filepath.Dir(src)))
	nothingHidden(t, dir)
}

// TestAssemblyInTheWay: a file that appears meanwhile is not replaced.
func TestAssemblyInTheWay(t *testing.T) {
	_, pieces := cut(t, 5, 2*64<<10)
	dir := t.TempDir()
	a := NewAssembly(dir)
	opts := UnpackOptions{NoSync: true, Assembly: a}
	if _, err := Unpack(t.Context(), dir, bytes.NewReader(pieces[0].raw), pieces[0].m, opts); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "scan.bin"), "somebody else's")
	for range 2 { // the second time as a retry does
		if _, err := Unpack(t.Context(), dir, bytes.NewReader(pieces[1].raw), pieces[1].m, opts); !fault.Is(err, fault.Conflict) {
			t.Errorf("error %v", err)
		}
	}
	a.Close(t.Context())
	if got, err := os.ReadFile(filepath.Join(dir, "scan.bin")); err != nil || string(got) != "somebody else's" {
		t.Errorf("the file is %q, %v", got, err)
	}
}
