package vault

import (
	"context"
	"errors"
	"sync"
	"time"

	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/ledger"
)

// streams is the set of running reads.
type streams struct {
	mu      sync.Mutex
	set     map[*reading]struct{} // guarded by mu
	drained chan struct{}         // guarded by mu; closed by remove when set is empty
	looked  chan struct{}         // guarded by mu; closed when running reads were renewed
}

func (s *streams) add(st *reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = make(map[*reading]struct{})
	}
	s.set[st] = struct{}{}
}

func (s *streams) remove(st *reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, st)
	if len(s.set) == 0 && s.drained != nil {
		close(s.drained)
		s.drained = nil
	}
}

// wait returns when no read is running, or after drainWithin.
func (s *streams) wait() {
	s.mu.Lock()
	if len(s.set) == 0 {
		s.mu.Unlock()
		return
	}
	drained := make(chan struct{})
	s.drained = drained
	s.mu.Unlock()
	late := time.NewTimer(drainWithin)
	defer late.Stop()
	select {
	case <-drained:
	case <-late.C:
	}
}

func (s *streams) all() []*reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*reading, 0, len(s.set))
	for st := range s.set {
		list = append(list, st)
	}
	return list
}

// left is how long the first lease of all goes on; ok is false if no read runs
// that was not cut.
func (s *streams) left() (left time.Duration, ok bool) {
	for _, st := range s.all() {
		if st.ctx.Err() != nil {
			continue
		}
		if l := st.permit.Left(); !ok || l < left {
			left, ok = l, true
		}
	}
	return left, ok
}

// next gives what is closed at the end of the next look that succeeds.
func (s *streams) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looked == nil {
		s.looked = make(chan struct{})
	}
	return s.looked
}

// renewed tells those who wait for a look that there was one.
func (s *streams) renewed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looked != nil {
		close(s.looked)
		s.looked = nil
	}
}

// loggedOut gives those of some reads whose token has ended, or the link that
// they are by.
func (v *Vault) loggedOut(ctx context.Context, running ...*reading) (out []*reading, err error) {
	if len(running) == 0 {
		return nil, nil
	}
	ids := make([]dataset.TokenID, 0, len(running))
	for _, s := range running {
		ids = append(ids, s.caller.Token)
	}
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		out = nil
		ended, err := tx.EndedTokens(ctx, ids)
		if err != nil {
			return err
		}
		for _, s := range running {
			over := ended[s.caller.Token]
			if link := s.caller.Link; !over && !link.IsZero() {
				l, err := tx.Link(ctx, link, s.caller.Principal)
				if none(err) != nil {
					return err
				}
				over = err != nil || !l.Ended.IsZero()
			}
			if over {
				out = append(out, s)
			}
		}
		return nil
	})
	return out, err
}

const (
	lookEvery   = 250 * time.Millisecond // how often running reads are decided again
	lookAtLeast = time.Second            // that the catalog has to answer a node that was held up
	drainWithin = 10 * time.Second       // how long Close waits for running reads to end
)

// lookAtReads makes sure of the running reads. It follows the catalog, where another
// node may have changed the policy, cuts what is not allowed any more, gives
// what goes on new leases, and tells the other nodes.
func (v *Vault) lookAtReads(ctx context.Context) error {
	seen, err := v.ledger.Look(ctx)
	if err != nil {
		return err
	}
	running := v.streams.all() // what comes later is decided on what was seen
	out, err := v.loggedOut(ctx, running...)
	if err != nil {
		return err
	}
	for _, s := range out {
		s.cancel(errRevoked)
	}
	v.cutWrites()
	for _, s := range running {
		if err := s.permit.Renew(seen); errors.Is(err, ledger.ErrLapsed) {
			s.cancel(errBlind)
		} else if err != nil {
			s.cancel(errRevoked)
		}
	}
	v.streams.renewed()
	if err := v.ledger.Follow(ctx, seen); err != nil && ctx.Err() == nil {
		v.log.WarnContext(ctx, "other nodes are not told how far this one has followed the policy", "err", err)
	}
	return nil
}

// watchStreams looks every now and then whether the running reads are still
// allowed. If it cannot, they are cut once their leases are over.
func (v *Vault) watchStreams(ctx context.Context) {
	defer close(v.unwatched)
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	lost := false // the last look has failed
	for {
		wait := lookEvery
		if left, ok := v.streams.left(); ok && lost {
			wait = min(wait, left)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			v.cutAll(errClosing)
			return
		case <-timer.C:
		case <-v.lookNow:
		}
		if lost {
			v.cutLapsed()
		}
		running := len(v.streams.all())
		if v.alone && running == 0 && !v.writes.any() {
			lost = false
			continue
		}
		if err := v.notary.Halted(); err != nil {
			v.cutAll(err)
			continue
		}
		err := v.lookInTime(ctx)
		switch {
		case err == nil && lost:
			v.log.InfoContext(ctx, "the policy is followed again")
		case err != nil && !lost && ctx.Err() == nil:
			v.log.WarnContext(ctx, "cannot follow the policy", "err", err)
		}
		if lost = err != nil; lost {
			v.cutLapsed()
		}
	}
}

// lookInTime is lookAtReads, as long as the running reads have leases.
func (v *Vault) lookInTime(ctx context.Context) error {
	left, ok := v.streams.left()
	switch {
	case !ok:
		left = ledger.Lease
	case left == 0: // nothing is sent until the look has succeeded
		left = lookAtLeast
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	return v.lookAtReads(ctx)
}

// cutLapsed cuts the reads whose leases are over.
func (v *Vault) cutLapsed() {
	for _, s := range v.streams.all() {
		if s.permit.Left() == 0 {
			s.cancel(errBlind)
		}
	}
}

func (v *Vault) cutAll(why error) {
	for _, s := range v.streams.all() {
		s.cancel(why)
	}
}
