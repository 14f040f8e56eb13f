package vault

import (
	"context"
	"time"

	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// Meter hears what the vault does, to count it. Its methods are called by many
// goroutines and must not block. What it hears names nobody.
type Meter interface {
	ledger.Meter
	// Settled: a change that may take something away is in force on every node,
	// for one of the Settled… constants; how long after it was recorded.
	Settled(how string, took time.Duration)
	// Cut: a running read was cut, for a ledger.Cause; how long before its end the
	// node had last begun to look and found it allowed. It has gone on without
	// being allowed for no longer.
	Cut(cause string, unsure time.Duration)
}

// How a change came to be in force on every node.
const (
	SettledHere     = "here"     // there is no other node
	SettledFollowed = "followed" // the others have no older read open, or have said that they follow
	SettledLapsed   = "lapsed"   // one did not answer: all leases from before are over
	SettledUnheard  = "unheard"  // the caller did not wait
)

type noMeter struct{}

func (noMeter) Recorded(string, string)            {}
func (noMeter) Failed(string)                      {}
func (noMeter) Committed(int, time.Duration, bool) {}
func (noMeter) Settled(string, time.Duration)      {}
func (noMeter) Cut(string, time.Duration)          {}

const (
	// leaseMargin is added to a lease that others hold: clocks of two machines do
	// not run equally fast.
	leaseMargin = 100 * time.Millisecond
	askEvery    = 20 * time.Millisecond // how often a change asks whether the other nodes have followed
)

// settle returns when nothing is read any more, on any node, that rests on what
// was in force before a change of the policy. This node's reads are looked at at
// once. For the others it waits until those that have older reads open have said
// that they follow, but never longer than the leases from before last. The
// change stands, whatever settle returns.
func (v *Vault) settle(ctx context.Context, change ledger.Receipt) error {
	began := time.Now()
	over := time.NewTimer(ledger.Lease + leaseMargin)
	defer over.Stop()
	// Whether the caller goes on waiting is of no concern to this node's reads.
	asking, cancel := context.WithDeadline(context.WithoutCancel(ctx), began.Add(ledger.Lease+leaseMargin))
	defer cancel()
	settled := func(how string) error {
		v.meter.Settled(how, time.Since(began))
		return nil
	}
	looked := v.lookAtReads(asking)
	if v.alone {
		if looked != nil { // nobody else cuts them in time
			v.cutAll(errBlind)
		}
		return settled(SettledHere)
	}
	for {
		behind, err := true, error(nil)
		if looked == nil {
			behind, err = v.ledger.Unfollowed(asking, change)
		} else {
			looked = v.lookAtReads(asking)
		}
		if err == nil && !behind {
			return settled(SettledFollowed)
		}
		select {
		case <-over.C:
			return settled(SettledLapsed)
		case <-ctx.Done():
			v.meter.Settled(SettledUnheard, time.Since(began))
			return fault.Wrap(fault.CodeOf(ctx.Err()), "vault.settle", "the change is recorded; it is in force on every node in 2 seconds", ctx.Err())
		case <-time.After(askEvery):
		}
	}
}
