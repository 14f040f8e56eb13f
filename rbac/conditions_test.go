package rbac

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

func sign(who dataset.PrincipalID, name string, version int, until time.Time) SignatureChange {
	return SignatureChange{dataset.Signature{Principal: who, Agreement: name, Version: version, At: epoch, Until: until}}
}

// What the vault, the client and the project require holds together, and for no
// other client.
func TestRequiredAgreements(t *testing.T) {
	w := smallWorld(t)
	q := ask(t, lab, Read, Shard, "acme/signs/b1", 2)
	w.Apply(2, ConditionsChange{Scope: dataset.Root, Requires: []string{"house"}}, ConditionsChange{Scope: scopeOf(t, "acme"), Requires: []string{"nda"}},
		ConditionsChange{Scope: scopeOf(t, "acme/signs"), Requires: []string{"strict", "nda"}},
		ConditionsChange{Scope: scopeOf(t, "beta"), Requires: []string{"other"}}, AgreementChange{Name: "house", Version: 1})
	want := []Unsigned{{"house", true}, {"nda", true}, {"strict", false}}
	d := w.Decide(q)
	if d.Allowed || d.Rule != "DNY-22" || !slices.Equal(d.Unsigned, want) {
		t.Errorf("nothing signed: %+v", d)
	}
	if d := w.Decide(ask(t, owner, Read, Shard, "acme/signs/b1", 2)); !d.Allowed {
		t.Errorf("the owner: %+v", d)
	}
	w.Apply(3, AgreementChange{Name: "strict", Version: 1}, sign(lab, "house", 1, epoch.Add(30*time.Minute)), sign(lab, "strict", 1, time.Time{}))
	if d := w.Decide(q); d.Allowed || !slices.Equal(d.Unsigned, []Unsigned{{"nda", true}}) {
		t.Errorf("one is missing: %+v", d)
	}
	w.Apply(4, sign(lab, "nda", 1, epoch.Add(40*time.Minute)))
	if d := w.Decide(q); !d.Allowed || !d.Until.Equal(epoch.Add(30*time.Minute)) || d.Unsigned != nil {
		t.Errorf("all are signed: %+v", d)
	}
	// A contractor signs "nda" where nothing else is required, and what is required
	// where something is.
	q = ask(t, con, Read, Shard, "acme/signs/b1", 5)
	if d := w.Decide(q); len(d.Unsigned) != 3 || d.Rule != "DNY-19" {
		t.Errorf("a contractor: %+v", d)
	}
	for _, s := range []string{"/", "acme", "acme/signs"} {
		w.Apply(5, ConditionsChange{Scope: scopeOf(t, s)})
	}
	if d := w.Decide(q); !slices.Equal(d.Unsigned, []Unsigned{{"nda", true}}) {
		t.Errorf("a contractor where nothing is required: %+v", d)
	}
	w.Apply(6, sign(con, "nda", 1, time.Time{}))
	if d := w.Decide(q); !d.Allowed {
		t.Errorf("a contractor who has signed: %+v", d)
	}
}

// A signature on an older version counts until the grace of every newer one has
// ended, to the nanosecond, and no longer than it says itself.
func TestGrace(t *testing.T) {
	w := smallWorld(t)
	q := ask(t, con, Read, Shard, "acme/signs/b1", 5)
	w.Apply(2, sign(con, "nda", 1, epoch.Add(100*time.Minute)))
	until := func(want time.Duration) {
		t.Helper()
		q.Now = epoch
		if d := w.Decide(q); !d.Allowed || !d.Until.Equal(epoch.Add(want)) {
			t.Fatalf("%+v, want until %s", d, epoch.Add(want))
		}
		for moment, allowed := range map[time.Duration]bool{want - 1: true, want: false} {
			if q.Now = epoch.Add(moment); w.Decide(q).Allowed != allowed {
				t.Errorf("after %s: allowed is %t", moment, !allowed)
			}
		}
	}
	until(100 * time.Minute)
	w.Apply(3, AgreementChange{"nda", 2, epoch.Add(80 * time.Minute)})
	until(80 * time.Minute)
	w.Apply(4, AgreementChange{"nda", 3, epoch.Add(90 * time.Minute)})
	until(80 * time.Minute)
	w.Apply(5, sign(con, "nda", 2, time.Time{}))
	until(90 * time.Minute)
	w.Apply(6, AgreementChange{"nda", 2, epoch.Add(80 * time.Minute)}) // again
	until(90 * time.Minute)
	w.Apply(7, AgreementChange{Name: "nda", Version: 4}) // without grace
	if q.Now = epoch; w.Decide(q).Allowed {
		t.Error("an older version counts where the newest gives no grace")
	}
	w.Apply(8, sign(con, "nda", 4, epoch.Add(70*time.Minute)))
	until(70 * time.Minute)
}

// Contractors are held to more than staff.
func TestContractorConditions(t *testing.T) {
	const b1 = "acme/signs/b1"
	here := netip.MustParseAddr("192.0.2.9")
	at := func(who dataset.PrincipalID, shard int, now time.Time, from netip.Addr, by dataset.Delivery) Query {
		q := ask(t, who, Read, Shard, b1, shard)
		q.Now, q.Address, q.Delivery = now, from, by
		return q
	}
	for _, c := range []struct {
		name  string
		asked []ConditionsChange // scopes are set below
		q     Query
		rule  string
		until time.Duration // of an allowed read, since epoch
	}{
		{"nothing asked", nil, at(con, 5, epoch, netip.Addr{}, ""), "CON-02", 2 * time.Hour},
		{"a longer grant is allowed", []ConditionsChange{{ContractorMax: 3 * time.Hour}}, at(con, 5, epoch, here, ""), "CON-02", 2 * time.Hour},
		{"a shorter one", []ConditionsChange{{ContractorMax: time.Hour}}, at(con, 5, epoch, here, ""), "CON-02", time.Hour},
		{"its end", []ConditionsChange{{ContractorMax: time.Hour}}, at(con, 5, epoch.Add(time.Hour), here, ""), "DNY-51", 0},
		{"the shortest of all", []ConditionsChange{{ContractorMax: time.Hour}, {ContractorMax: time.Minute}, {ContractorMax: 9 * time.Hour}},
			at(con, 5, epoch, here, ""), "CON-02", time.Minute},
		{"staff", []ConditionsChange{{ContractorMax: time.Minute}}, at(lab, 2, epoch, here, ""), "LAB-03", time.Hour},

		{"in the hours", []ConditionsChange{{Hours: []string{"Thu 00:00-00:50 UTC"}}}, at(con, 5, epoch, here, ""), "CON-02", 50 * time.Minute},
		{"their end", []ConditionsChange{{Hours: []string{"Thu 00:00-00:50 UTC"}}}, at(con, 5, epoch.Add(50*time.Minute), here, ""), "DNY-53", 0},
		{"in the hours of one scope only", []ConditionsChange{{Hours: []string{"Thu 00:00-01:00 UTC"}}, {Hours: []string{"Fri 00:00-01:00 UTC"}}},
			at(con, 5, epoch, here, ""), "DNY-53", 0},
		{"in those of both", []ConditionsChange{{Hours: []string{"Thu 00:00-01:00 UTC"}}, {Hours: []string{"Thu 00:00-00:20 UTC"}}},
			at(con, 5, epoch, here, ""), "CON-02", 20 * time.Minute},
		{"hours that nobody can read", []ConditionsChange{{Hours: []string{"now and then"}}}, at(con, 5, epoch, here, ""), "DNY-53", 0},
		{"staff at night", []ConditionsChange{{Hours: []string{"Fri 00:00-01:00 UTC"}}}, at(lab, 2, epoch, here, ""), "LAB-03", time.Hour},

		{"from the network", []ConditionsChange{{Networks: []string{"203.0.113.0/24", "192.0.2.0/24"}}}, at(con, 5, epoch, here, ""), "CON-02", 2 * time.Hour},
		{"in another form", []ConditionsChange{{Networks: []string{"192.0.2.0/24"}}}, at(con, 5, epoch, netip.MustParseAddr("::ffff:192.0.2.9"), ""), "CON-02", 2 * time.Hour},
		{"from another one", []ConditionsChange{{Networks: []string{"192.0.2.0/24"}}}, at(con, 5, epoch, netip.MustParseAddr("192.0.3.9"), ""), "DNY-54", 0},
		{"from an unknown one", []ConditionsChange{{Networks: []string{"0.0.0.0/0", "::/0"}}}, at(con, 5, epoch, netip.Addr{}, ""), "DNY-54", 0},
		{"from one that another scope does not name", []ConditionsChange{{Networks: []string{"192.0.2.0/24"}}, {Networks: []string{"192.0.2.0/29"}}},
			at(con, 5, epoch, here, ""), "DNY-54", 0},
		{"a network that nobody can read", []ConditionsChange{{Networks: []string{"the office"}}}, at(con, 5, epoch, here, ""), "DNY-54", 0},
		{"staff from anywhere", []ConditionsChange{{Networks: []string{"203.0.113.0/24"}}}, at(lab, 2, epoch, netip.Addr{}, ""), "LAB-03", time.Hour},

		{"opened", nil, at(con, 5, epoch, here, dataset.Opened), "DNY-52", 0},
		{"opened, for contractors too", []ConditionsChange{{}, {}, {ContractorDelivery: []dataset.Delivery{dataset.Opened}}},
			at(con, 5, epoch, here, dataset.Opened), "CON-02", 2 * time.Hour},
		{"opened, says the client", []ConditionsChange{{}, {ContractorDelivery: []dataset.Delivery{dataset.Opened}}}, at(con, 5, epoch, here, dataset.Opened), "DNY-52", 0},
		{"direct, for contractors alone", []ConditionsChange{{}, {}, {ContractorDelivery: []dataset.Delivery{dataset.Direct}}},
			at(con, 5, epoch, here, dataset.Direct), "DNY-44", 0},
		{"staff, opened", nil, at(lab, 2, epoch, here, dataset.Opened), "LAB-03", time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := smallWorld(t)
			g := grantOf(4, con, dataset.Contractor, scopeOf(t, "acme/signs"), epoch.Add(2*time.Hour))
			g.At = epoch
			w.Apply(2, g, sign(con, "nda", 1, time.Time{}))
			for i, change := range c.asked {
				change.Scope = []dataset.Scope{dataset.Root, scopeOf(t, "acme"), scopeOf(t, "acme/signs")}[i]
				w.Apply(3, change)
			}
			d := w.Decide(c.q)
			if d.Allowed != (c.until > 0) || d.Rule != c.rule || d.Allowed && !d.Until.Equal(epoch.Add(c.until)) {
				t.Errorf("%+v (%v)", d, d.Facts)
			}
		})
	}
	// A grant without an end, as an older vault may have given, lets nobody read.
	w := smallWorld(t)
	w.Apply(2, grantOf(4, con, dataset.Contractor, scopeOf(t, "acme/signs"), time.Time{}), sign(con, "nda", 1, time.Time{}))
	if d := w.Decide(at(con, 5, epoch, here, "")); d.Allowed || d.Rule != "DNY-51" {
		t.Errorf("a grant without an end: %+v", d)
	}
}

func TestParseNetwork(t *testing.T) {
	for s, want := range map[string]string{"192.0.2.7/24": "192.0.2.0/24", "192.0.2.7": "192.0.2.7/32", "2001:db8::1/48": "2001:db8::/48", "::1": "::1/128"} {
		if p, err := ParseNetwork(s); err != nil || p.String() != want {
			t.Errorf("%s: %v, %v", s, p, err)
		}
	}
	for _, s := range []string{"", "office", "192.0.2.0/33", "192.0.2", "fe80::1%eth0", "::ffff:192.0.2.0/120", fmt.Sprint(netip.Prefix{})} {
		if _, err := ParseNetwork(s); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", s, err)
		}
	}
}
