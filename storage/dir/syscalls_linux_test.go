package dir

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"dsvault/storage/storagetest"
)

const failEnv = "DIR_TEST_FAIL"

// failingContent is what the object with a number holds: 0 bytes, some, or more
// than one write takes.
func failingContent(number int) string {
	return strings.Repeat(fmt.Sprintf("object %d.", number), []int{0, 1, 9000}[number%3])
}

func failingKey(number int) string { return fmt.Sprintf("v1/%d/%d.age", number%2, number) }

// childPuts puts objects, on one thread, whatever fails, and notes in a file the
// number of each that was acknowledged.
func childPuts(path string) {
	runtime.LockOSThread()
	notes, err := os.Create(filepath.Join(path, "acknowledged"))
	if err != nil {
		return
	}
	s, err := Open(filepath.Join(path, "store"))
	if err != nil {
		return
	}
	at := int64(0)
	for number := range 6 {
		content := failingContent(number)
		if _, err := s.Put(context.Background(), failingKey(number), strings.NewReader(content), int64(len(content))); err != nil {
			continue
		}
		line := fmt.Sprintln(number)
		if _, err := notes.WriteAt([]byte(line), at); err != nil { // no call that is made to fail
			panic(err)
		}
		at += int64(len(line))
	}
}

// TestEverySyscallFails fails every call with which the store writes, syncs and
// moves its files, one after another, in a process that goes on after it. What
// was acknowledged is there, nothing is there in part, and what is left over
// can be swept.
func TestEverySyscallFails(t *testing.T) {
	if path := os.Getenv(failEnv); path != "" {
		childPuts(path)
		os.Exit(0)
	}
	for _, f := range []struct {
		call, errno string
		atLeast     int
	}{
		{"fsync", "EIO", 24}, {"write", "EIO", 8}, {"write", "ENOSPC", 8}, {"renameat", "EIO", 6}, {"mkdirat", "ENOSPC", 2}, {"utimensat", "EIO", 6},
	} {
		t.Run(f.call+"/"+f.errno, func(t *testing.T) {
			t.Parallel()
			n := 1
			for !t.Failed() && putFails(t, f.call, f.errno, n) {
				n++
			}
			t.Logf("%d calls", n-1)
			if n <= f.atLeast {
				t.Errorf("only %d calls of %s, want %d or more", n-1, f.call, f.atLeast)
			}
		})
	}
}

// putFails reports whether there were as many calls.
func putFails(t *testing.T, call, errno string, n int) bool {
	path := t.TempDir()
	s := mustOpen(t, filepath.Join(path, "store"))
	mustPut(t, s, "v1/0/before.age", "before")
	_, failed := storagetest.FailSyscall(t, call, errno, n, []string{os.Args[0], "-test.run=^TestEverySyscallFails$"}, failEnv+"="+path)

	notes, err := os.ReadFile(filepath.Join(path, "acknowledged"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{"v1/0/before.age": "before"}
	for number := range 6 {
		found[failingKey(number)] = failingContent(number)
	}
	there := map[string]bool{}
	for _, key := range list(t, s) {
		there[key] = true
		if want, known := found[key]; !known || contentOf(t, s, key) != want {
			t.Errorf("%s %d: %s is there and is not what was put", call, n, key)
		}
	}
	for line := range strings.Lines(string(notes)) {
		var number int
		if _, err := fmt.Sscan(line, &number); err != nil {
			t.Fatal(err)
		}
		if !there[failingKey(number)] {
			t.Errorf("%s %d: object %d was acknowledged and is lost", call, n, number)
		}
	}
	acknowledged := bytes.Count(notes, []byte("\n"))
	if failed == 0 && acknowledged != 6 {
		t.Errorf("%s %d: nothing failed, and %d of 6 objects were acknowledged", call, n, acknowledged)
	}
	if _, err := s.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	checkNoTemp(t, s)
	mustPut(t, s, "v1/0/after.age", "after")
	return failed > 0
}
