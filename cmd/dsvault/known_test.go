package main

import (
	"errors"
	"slices"
	"testing"

	"dsvault/vault/audit"
	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// TestVerifyLogRemembers: a log that was verified once has to begin with what
// was found then, for whoever sees all of it and for whoever sees a part.
func TestVerifyLogRemembers(t *testing.T) {
	w := newWorld(t)
	carol, _ := pushed(t, w, 2)
	for name, as := range map[string]struct {
		c     *client.Client
		under dataset.Scope
	}{"whole": {w.admin, dataset.Root}, "part": {carol, scope(t, "acme")}} {
		t.Run(name, func(t *testing.T) {
			v, err := as.c.VerifyLog(t.Context(), as.under, w.pin, client.VerifyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			known := client.Known{Origin: v.Origin, Size: v.Size, Root: v.Root}
			verify := func(k client.Known) error {
				_, err := as.c.VerifyLog(t.Context(), as.under, w.pin, client.VerifyOptions{Known: k})
				return err
			}
			if err := verify(known); err != nil { // the log has grown by the looking at it
				t.Error(err)
			}
			rewritten, longer, other := known, known, known
			rewritten.Root = slices.Clone(known.Root)
			rewritten.Root[0] ^= 1
			longer.Size += 1000
			other.Origin, other.Root = "another-log", rewritten.Root
			for what, k := range map[string]client.Known{"rewritten": rewritten, "cut off": longer} {
				err := verify(k)
				wantCode(t, err, fault.Corrupt)
				var failed *audit.VerifyError
				if !errors.As(err, &failed) || failed.Check != "known" {
					t.Errorf("%s: %v", what, err)
				}
			}
			if err := verify(other); err != nil { // of a vault that was made anew
				t.Error(err)
			}
		})
	}
}

// TestKnownIsKept: a second verification in the same config folder compares.
func TestKnownIsKept(t *testing.T) {
	home, err := client.OpenHome(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	place := home.Current()
	if k, err := place.Known(); err != nil || k.Size != 0 {
		t.Errorf("%+v, %v", k, err)
	}
	want := client.Known{Origin: "log", Size: 7, Root: make([]byte, 32)}
	if err := place.SaveKnown(want); err != nil {
		t.Fatal(err)
	}
	if k, err := place.Known(); err != nil || k.Size != 7 || k.Origin != "log" {
		t.Errorf("%+v, %v", k, err)
	}
	if err := place.SaveKnown(client.Known{Size: 7}); err != nil { // no root: nothing to compare with
		t.Fatal(err)
	}
	if _, err := place.Known(); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a damaged memory was taken for none: %v", err)
	}
}
