package vault_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// TestBundlesAreLimited: each bundle on its way keeps proofs in memory, so only
// so many are; one that has ended makes room, and so does one that was refused.
func TestBundlesAreLimited(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	ask := func(who string) (*vault.Bundle, error) {
		return w.v.LogBundle(ctx, w.as(who), vault.BundleQuery{Under: w.scope("acme"), Nonce: [16]byte{1}})
	}
	for range 20 {
		_, err := ask("stranger")
		wantCode(t, err, fault.NotFound)
	}
	var open []*vault.Bundle
	for range 8 {
		open = append(open, must[*vault.Bundle](t)(ask("root")))
	}
	_, err := ask("root")
	wantCode(t, err, fault.Busy)
	open[0].Close()
	last := must[*vault.Bundle](t)(ask("root"))
	var out bytes.Buffer
	if err := last.Send(ctx, &out); err != nil {
		t.Fatal(err)
	}
	got, err := audit.VerifyBundle(&out, audit.BundleOptions{Nonce: [16]byte{1}})
	if err != nil || got.Leaves == 0 || got.Header.Scope != "acme" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, b := range append(open[1:], last) {
		b.Close()
	}
}

// TestSlowBundles: people who take their records slowly, as many as there is room
// for, keep nobody from verifying.
func TestSlowBundles(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	ctx := context.Background()
	ask := func() (*vault.Bundle, error) {
		return w.v.LogBundle(ctx, w.as("carol"), vault.BundleQuery{Under: w.scope("acme")})
	}
	done := make(chan error)
	var slow []*io.PipeReader
	for range 8 {
		b := must[*vault.Bundle](t)(ask())
		r, body := io.Pipe()
		slow = append(slow, r)
		go func() {
			defer b.Close()
			done <- b.Send(ctx, body)
		}()
	}
	for _, r := range slow { // its proofs are written
		if _, err := r.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	must[*vault.Bundle](t)(ask()).Close()
	for _, r := range slow {
		r.Close()
		if err := <-done; err == nil {
			t.Error("a bundle that nobody took was sent")
		}
	}
	for range 8 { // each has made room once
		defer must[*vault.Bundle](t)(ask()).Close()
	}
	_, err := ask()
	wantCode(t, err, fault.Busy)
}
