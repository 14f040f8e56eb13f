package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// snapshot is all that a pull has to give back: names, modes, times, bytes.
func snapshot(t interface{ Fatal(...any) }, dir string) map[string]string {
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum := ""
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = fmt.Sprintf("%x", sha256.Sum256(data))
		}
		rel, err := filepath.Rel(dir, path)
		out[rel] = fmt.Sprint(info.Mode(), info.ModTime().UnixNano(), sum)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// edit changes something in the folder.
func edit(t *rapid.T, dir string) {
	folder := rapid.SampledFrom([]string{".", "a", "a/b", "c"}).Draw(t, "folder")
	name := filepath.Join(dir, folder, fmt.Sprintf("f%d.%s", rapid.IntRange(0, 12).Draw(t, "name"), rapid.SampledFrom([]string{"jpg", "json"}).Draw(t, "ending")))
	moment := time.Unix(rapid.Int64Range(0, 1<<32).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
	switch rapid.SampledFrom([]string{"write", "write", "write", "replace", "remove", "mode", "time", "folder time"}).Draw(t, "edit") {
	case "write", "replace":
		os.MkdirAll(filepath.Dir(name), 0o755)
		data := make([]byte, rapid.SampledFrom([]int{0, 100, 15_000, 30_000, 70_000}).Draw(t, "size"))
		for i := range data {
			data[i] = byte(i * rapid.IntRange(1, 1).Draw(t, "x"))
			if i > 20 {
				break
			}
		}
		tmp := filepath.Join(dir, "..", "new")
		if err := os.WriteFile(tmp, append(data, byte(moment.UnixNano())), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, name); err != nil {
			t.Fatal(err)
		}
	case "remove":
		os.Remove(name)
	case "mode":
		os.Chmod(name, rapid.SampledFrom([]os.FileMode{0o600, 0o644, 0o755}).Draw(t, "mode"))
	case "time":
		os.Chtimes(name, time.Time{}, moment)
	case "folder time":
		os.Chtimes(filepath.Join(dir, folder), time.Time{}, moment)
	}
}

// TestVersionsComeBack: whatever happens to a folder between pushes, each
// version comes back as the folder was, and what has not changed is not sent.
func TestVersionsComeBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	carol := w.join("carol", dataset.ClientUser, "acme")
	base := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		dir := filepath.Join(base, fmt.Sprint(run), "src")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(filepath.Dir(dir))
		os.WriteFile(filepath.Join(dir, "stays"), []byte("so that it is never empty"), 0o644)
		ds := scope(t, fmt.Sprintf("acme/signs/batch-%d", run))
		var versions []map[string]string
		for range rapid.IntRange(1, 4).Draw(rt, "versions") {
			for range rapid.IntRange(0, 8).Draw(rt, "edits") {
				edit(rt, dir)
			}
			opts := oneByOne
			opts.Recut = rapid.IntRange(0, 9).Draw(rt, "recut") == 0
			now := snapshot(rt, dir)
			out, err := carol.Push(t.Context(), dir, ds, opts)
			if err != nil {
				rt.Fatal(err)
			}
			same := len(versions) > 0 && maps.Equal(now, versions[len(versions)-1])
			if !same || !opts.Recut { // to cut anew makes a version, too
				if out.Changed == same || same && out.Sent > 0 {
					rt.Fatalf("changed %v, sent %d, and the folder is the same: %v", out.Changed, out.Sent, same)
				}
			}
			if out.Changed {
				versions = append(versions, now)
			}
			if out.Dataset.Version != len(versions) {
				rt.Fatalf("version %d, want %d", out.Dataset.Version, len(versions))
			}
			again, err := carol.Push(t.Context(), dir, ds, oneByOne)
			if err != nil || again.Changed || again.Sent != 0 || again.Dataset.Version != len(versions) {
				rt.Fatalf("again: %+v, %v", again, err)
			}
		}
		for i, want := range versions {
			got := filepath.Join(filepath.Dir(dir), fmt.Sprint("got", i))
			if _, err := carol.Pull(t.Context(), ds, client.PullOptions{Dir: got, Version: i + 1}); err != nil {
				rt.Fatal(err)
			}
			if have := snapshot(rt, got); !maps.Equal(have, want) {
				rt.Fatalf("version %d of %d came back as\n%v\nand was\n%v", i+1, len(versions), have, want)
			}
		}
	})
}

// TestTwoPushes: of two pushes to one dataset the one that began last makes the
// version, and the other ends with a conflict.
func TestTwoPushes(t *testing.T) {
	w := newWorld(t)
	carol := w.join("carol", dataset.ClientUser, "acme")
	ada := w.join("carla", dataset.ClientUser, "acme")
	mine, theirs := files(t, 3), files(t, 3)
	if err := os.WriteFile(filepath.Join(theirs, "file0"), make([]byte, 50_000), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"/uploads", "/commit", "/complete"} {
		ds := scope(t, "acme/signs/at-"+at[1:])
		held, release := make(chan struct{}), make(chan struct{})
		first := true
		w.between(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			if first && strings.HasSuffix(r.URL.Path, at) { // the first push is alone until then
				first = false
				close(held)
				<-release
			}
			next.ServeHTTP(rw, r)
		})
		done := make(chan error, 1)
		go func() {
			_, err := carol.Push(t.Context(), mine, ds, oneByOne)
			done <- err
		}()
		<-held
		out, err := ada.Push(t.Context(), theirs, ds, oneByOne)
		if err != nil || out.Dataset.Version != 1 {
			t.Fatalf("%s: %+v, %v", at, out, err)
		}
		close(release)
		wantCode(t, <-done, fault.Conflict)
		w.between(nil)
		got := t.TempDir()
		if _, err := carol.Pull(t.Context(), ds, client.PullOptions{Dir: got}); err != nil {
			t.Fatal(err)
		}
		sameFiles(t, theirs, got)
		// Run again, it is the next version, of which only the difference is sent.
		out, err = carol.Push(t.Context(), mine, ds, oneByOne)
		if err != nil || out.Dataset.Version != 2 || out.Shards != 3 {
			t.Fatalf("%s: %+v, %v", at, out, err)
		}
	}
}

// TestPushChecksWhatIsStored has a server that lists another shard than it was
// sent, once everything has arrived.
func TestPushChecksWhatIsStored(t *testing.T) {
	w := newWorld(t)
	carol := w.join("carol", dataset.ClientUser, "acme")
	dir := files(t, 2)
	complete := false
	w.between(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/complete") {
			complete = true
		}
		if !complete || !strings.HasSuffix(r.URL.Path, "/shards") {
			next.ServeHTTP(rw, r)
			return
		}
		rec := record(r, next)
		body := strings.Replace(rec.Body.String(), `"number":1,"size":`, `"number":1,"size":1`, 1)
		rec.Header().Del("Content-Length")
		replay(rw, rec, []byte(body))
	})
	_, err := carol.Push(t.Context(), dir, scope(t, batch), oneByOne)
	wantCode(t, err, fault.Corrupt)
}
