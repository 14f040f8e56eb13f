package vault

import (
	"context"
	"sync"
	"time"

	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
)

// streams is the set of running reads.
type streams struct {
	mu      sync.Mutex
	set     map[*reading]struct{} // guarded by mu
	drained chan struct{}         // guarded by mu; closed by remove when set is empty
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

// cut ends the reads of certain callers, whose token does not hold any more.
func (s *streams) cut(whose func(identity.Caller) bool) {
	for _, st := range s.all() {
		if whose(st.caller) {
			st.cancel(errRevoked)
		}
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

// cutEnded cuts the reads whose token another node has ended. Those that this
// node ends it cuts at once.
func (v *Vault) cutEnded(ctx context.Context, running []*reading) error {
	if v.alone {
		return nil
	}
	ids := make([]dataset.TokenID, 0, len(running))
	for _, s := range running {
		ids = append(ids, s.caller.Token)
	}
	var ended map[dataset.TokenID]bool
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		ended, err = tx.EndedTokens(ctx, ids)
		return err
	})
	for _, s := range running {
		if ended[s.caller.Token] {
			s.cancel(errRevoked)
		}
	}
	return err
}

const (
	recheckEvery = time.Second      // how often running reads are decided again
	maxBlind     = 3                // rechecks in a row that may fail before running reads are cut
	drainWithin  = 10 * time.Second // how long Close waits for running reads to end
)

// watchStreams cuts the reads that are not allowed any more. It first follows
// the catalog, where another node may have changed the policy.
func (v *Vault) watchStreams(ctx context.Context) {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	blind := 0
	for {
		select {
		case <-ctx.Done():
			for _, s := range v.streams.all() {
				s.cancel(fault.New(fault.Unavailable, "vault.Send", "the server is shutting down"))
			}
			return
		case <-tick.C:
		}
		running := v.streams.all()
		if len(running) == 0 && !v.writes.any() {
			continue
		}
		if err := v.notary.Halted(); err != nil {
			for _, s := range running {
				s.cancel(err)
			}
			continue
		}
		if err := v.ledger.CatchUp(ctx); err != nil {
			v.log.Warn("cannot follow the policy", "err", err)
			if blind++; blind >= maxBlind {
				for _, s := range running {
					s.cancel(fault.Wrap(fault.Unavailable, "vault.Send", "whether the read is still allowed cannot be told", err))
				}
			}
			continue
		}
		blind = 0
		if err := v.cutEnded(ctx, running); err != nil {
			v.log.Warn("cannot look whose tokens have ended", "err", err)
		}
		v.cutWrites()
		for _, s := range running {
			if s.permit.Recheck() != nil {
				s.cancel(errRevoked)
			}
		}
	}
}
