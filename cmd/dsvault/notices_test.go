//go:build linux

package main

import (
	"net/http"
	"path/filepath"
	"testing"

	"dsvault/vault/courier/couriertest"
	"dsvault/vault/wire"
)

// TestNoticesKilled kills the server when a webhook has got its call and the
// server does not know it yet: the call comes again, as the same one.
func TestNoticesKilled(t *testing.T) {
	r := couriertest.NewReceiver(t)
	come, release := make(chan struct{}), make(chan struct{})
	r.Answer(func(w http.ResponseWriter, _ *http.Request, n int) {
		if n == 0 {
			close(come)
			<-release
		}
	})
	dir := t.TempDir()
	s := &site{t: t, dir: dir, data: filepath.Join(dir, "vault"), env: []string{"DSVAULT_WEBHOOK_PRIVATE=true"}}
	s.open()
	s.project()
	var n wire.Notices
	s.ok("cleo", "notices", "set", "acme", "--webhook", r.URL, "--json").into(t, &n)
	s.join("lee", "labeler", "acme/signs")
	<-come
	s.kill()
	close(release)
	s.start()
	calls := r.Await(t, 2)
	if calls[0].ID == "" || calls[0].ID != calls[1].ID || string(calls[0].Body) != string(calls[1].Body) {
		t.Errorf("the call that came again is another one: %+v %+v", calls[0], calls[1])
	}
	for _, c := range calls {
		c.Verify(t, n.Secret)
	}
	var shown struct{ Messages []wire.Message }
	await(t, "it is noted as sent", func() bool {
		s.ok("cleo", "notices", "show", "acme", "--all", "--json").into(t, &shown)
		return len(shown.Messages) == 1 && shown.Messages[0].State == "sent"
	})
	if len(r.Calls()) != 2 {
		t.Errorf("%d calls", len(r.Calls()))
	}
	s.verified("admin")
}
