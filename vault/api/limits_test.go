package api

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

func TestFailures(t *testing.T) {
	f := failures{buckets[netip.Prefix]{burst: 3, refill: 0.5}}
	now := time.Unix(1000, 0)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for range 3 {
		if err := f.check(a, now); err != nil {
			t.Fatal(err)
		}
		f.add(a, now)
	}
	err := f.check(a, now)
	var e *fault.Error
	if !errors.As(err, &e) || e.Code != fault.Busy || e.Retry != 2*time.Second {
		t.Errorf("%v", err)
	}
	if err := f.check(b, now); err != nil {
		t.Errorf("a neighbour: %v", err)
	}
	if err := f.check(a, now.Add(e.Retry)); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	// One IPv6 network is one peer.
	for range 3 {
		f.add(netip.MustParseAddr("2001:db8::1"), now)
	}
	if f.check(netip.MustParseAddr("2001:db8::ffff"), now) == nil || f.check(netip.MustParseAddr("2001:db8:0:1::1"), now) != nil {
		t.Error("IPv6 addresses are not taken by /64")
	}
	if f.check(netip.Addr{}, now) != nil {
		t.Error("an unknown address without failures")
	}
}

func TestFailuresStayBounded(t *testing.T) {
	f := failures{buckets[netip.Prefix]{burst: 2, refill: 1}}
	now := time.Unix(1000, 0)
	addr := netip.MustParseAddr("10.0.0.0")
	for range 2 * maxAddresses {
		f.add(addr, now)
		addr = addr.Next()
	}
	if len(f.by) > maxAddresses {
		t.Fatalf("%d addresses", len(f.by))
	}
	if f.check(addr, now) == nil {
		t.Error("beyond the table nobody is counted")
	}
	later := now.Add(time.Minute)
	f.add(addr, later)
	if len(f.by) != 1 {
		t.Errorf("%d addresses are left after they recovered", len(f.by))
	}
}

func TestSlots(t *testing.T) {
	told := -1
	s := slots{what: "transfers", all: 3, each: 2, retry: time.Second, used: func(n int) { told = n }}
	a, b := dataset.PrincipalID{1}, dataset.PrincipalID{2}
	var releases []func()
	for _, who := range []dataset.PrincipalID{a, a, b} {
		release, err := s.take(who)
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	for _, who := range []dataset.PrincipalID{a, b} {
		if _, err := s.take(who); !fault.Is(err, fault.Busy) {
			t.Errorf("%v", err)
		}
	}
	for _, release := range releases {
		release()
	}
	if s.now != 0 || told != 0 || len(s.by) != 0 {
		t.Errorf("%d %d %v", s.now, told, s.by)
	}
}

func TestRates(t *testing.T) {
	r := rates{limit: 2, burst: 3}
	a, b := dataset.PrincipalID{1}, dataset.PrincipalID{2}
	now := time.Unix(1000, 0)
	for range 3 {
		if err := r.take(a, now); err != nil {
			t.Fatal(err)
		}
	}
	err := r.take(a, now)
	var e *fault.Error
	if !errors.As(err, &e) || e.Code != fault.Busy || e.Retry != 500*time.Millisecond {
		t.Errorf("%#v", err)
	}
	if err := r.take(b, now); err != nil {
		t.Errorf("another principal: %v", err)
	}
	now = now.Add(time.Second)
	for range 2 {
		if err := r.take(a, now); err != nil {
			t.Errorf("after a second: %v", err)
		}
	}
	if r.take(a, now) == nil {
		t.Error("more than the limit")
	}
	for i := range maxPrincipals {
		r.take(dataset.PrincipalID{3, byte(i), byte(i >> 8)}, now)
	}
	r.take(a, now)
	if len(r.by) != maxPrincipals+1 { // b was at rest
		t.Errorf("%d principals are kept", len(r.by))
	}
	r.take(dataset.PrincipalID{4}, now.Add(time.Hour))
	if len(r.by) != 1 {
		t.Errorf("%d principals are kept though they have been idle", len(r.by))
	}
}

func TestReadiness(t *testing.T) {
	var r readiness
	asked, answer := 0, error(nil)
	var objects error
	ask := func(context.Context) (error, error) { asked++; return objects, answer }
	now := time.Unix(1000, 0)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 {
		if state, err := r.check(gone, now, ask); err != nil || asked != 1 || state != (ready{"ready", "ok"}) {
			t.Errorf("%v, %v, asked %d times", state, err, asked)
		}
	}
	now, objects = now.Add(readyFor), errors.New("no bucket")
	if state, err := r.check(t.Context(), now, ask); err != nil || state != (ready{"ready", "unavailable"}) {
		t.Errorf("without objects: %v, %v", state, err)
	}
	answer = errors.New("dial tcp 10.0.0.1: refused")
	_, err := r.check(t.Context(), now.Add(readyFor), ask)
	if p := wire.ProblemOf(err, ""); p.Status != 503 || strings.Contains(p.Detail, "10.0.0.1") {
		t.Errorf("%+v", p)
	}
}

func TestAddress(t *testing.T) {
	for _, test := range []struct {
		trust        string // networks of proxies; "-": that of this machine
		remote       string
		forwarded    []string
		proto        string
		want         string
		secure, near bool
	}{
		{"", "192.0.2.1:5", nil, "", "192.0.2.1", false, false},
		{"", "192.0.2.1:5", []string{"198.51.100.1"}, "https", "192.0.2.1", false, false},
		{"", "127.0.0.1:5", []string{"198.51.100.1"}, "https", "127.0.0.1", false, false},
		{"-", "127.0.0.1:5", []string{"198.51.100.1"}, "https", "198.51.100.1", true, false},
		{"-", "[::1]:5", []string{"198.51.100.1"}, "https", "198.51.100.1", true, false},
		{"-", "192.0.2.1:5", []string{"198.51.100.1"}, "https", "192.0.2.1", false, false}, // no proxy of ours
		{"192.0.2.0/24", "192.0.2.1:5", []string{"198.51.100.1, 203.0.113.9"}, "https", "203.0.113.9", true, false},
		{"192.0.2.0/24", "192.0.2.1:5", []string{"198.51.100.1", " 203.0.113.9 "}, "", "203.0.113.9", true, false},
		{"192.0.2.0/24", "192.0.2.1:5", []string{"198.51.100.1"}, "http", "198.51.100.1", false, false},
		{"192.0.2.0/24", "192.0.2.1:5", []string{"198.51.100.1, 203.0.113.9, 192.0.2.2"}, "", "203.0.113.9", true, false}, // two proxies
		{"192.0.2.0/24", "192.0.2.1:5", []string{"192.0.2.7"}, "", "192.0.2.7", true, false},
		{"192.0.2.0/24", "192.0.2.1:5", []string{"nonsense"}, "", "invalid IP", true, false},
		{"192.0.2.0/24", "192.0.2.1:5", []string{"198.51.100.1,"}, "", "invalid IP", true, false},
		{"192.0.2.0/24", "192.0.2.1:5", []string{"nonsense, 203.0.113.9"}, "", "203.0.113.9", true, false},
		{"192.0.2.0/24", "192.0.2.1:5", nil, "", "192.0.2.1", true, false},
		{"192.0.2.0/24", "127.0.0.1:5", []string{"198.51.100.1"}, "https", "127.0.0.1", false, false}, // others were named
		{"192.0.2.0/24", "[2001:db8::1]:5", []string{"198.51.100.1"}, "https", "2001:db8::1", false, false},
		{"192.0.2.0/24", "[::ffff:192.0.2.1]:5", []string{"::ffff:198.51.100.1"}, "https", "198.51.100.1", true, false},
		{"", "[::ffff:192.0.2.1]:5", nil, "", "192.0.2.1", false, false},
		{"", "[fe80::1%eth0]:5", nil, "", "fe80::1", false, false},
		{"-", "@", []string{"198.51.100.1"}, "https", "invalid IP", false, false},
	} {
		s := &server{opts: Options{TrustProxy: test.trust != ""}}
		if test.trust != "" && test.trust != "-" {
			s.opts.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(test.trust)}
		}
		r := &http.Request{RemoteAddr: test.remote, Header: http.Header{"X-Forwarded-For": test.forwarded}}
		if test.proto != "" {
			r.Header.Set("X-Forwarded-Proto", test.proto)
		}
		if got := s.address(r).String(); got != test.want || s.secure(r) != test.secure || local(r) != test.near {
			t.Errorf("%+v: %s %v %v", test, got, s.secure(r), local(r))
		}
	}
}

func TestBearer(t *testing.T) {
	for _, values := range [][]string{nil, {""}, {"Bearer"}, {"Bearer "}, {"Basic x"}, {"Bearer x", "Bearer y"}, {"Bearer " + strings.Repeat("x", 300)}} {
		if token, err := bearer(http.Header{"Authorization": values}); !fault.Is(err, fault.Unauthenticated) || token != "" {
			t.Errorf("%q: %q %v", values, token, err)
		}
	}
	if token, err := bearer(http.Header{"Authorization": {"bearer abc"}}); err != nil || token != "abc" {
		t.Errorf("%q %v", token, err)
	}
}
