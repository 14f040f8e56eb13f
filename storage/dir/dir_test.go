package dir

import (
	"testing"

	"dsvault/storage"
	"dsvault/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Objects(t, func(t *testing.T) storage.Objects { return mustOpen(t, t.TempDir()) })
}

func mustOpen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
