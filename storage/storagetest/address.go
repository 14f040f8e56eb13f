package storagetest

import "testing"

// FreeAddress is ReserveAddress until t ends.
func FreeAddress(t testing.TB) string {
	t.Helper()
	address, free, err := ReserveAddress()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(free)
	return address
}
