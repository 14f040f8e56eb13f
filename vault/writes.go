package vault

import (
	"context"
	"sync"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// writes is the set of requests that are putting bytes of a dataset.
type writes struct {
	mu  sync.Mutex
	set map[*writing]struct{} // guarded by mu
}

type writing struct {
	dataset dataset.DatasetID
	scope   dataset.Scope
	cancel  context.CancelCauseFunc
}

// writing notes that a request is about to put bytes of a dataset. It has to be
// noted before its attempt is claimed: an erasure ends the claim of those that
// come later. The context ends when the dataset is erased; end is called once
// the store's answer is there.
func (v *Vault) writing(ctx context.Context, id dataset.DatasetID, scope dataset.Scope) (_ context.Context, end func()) {
	w := &writing{dataset: id, scope: scope}
	ctx, w.cancel = context.WithCancelCause(ctx)
	v.writes.mu.Lock()
	defer v.writes.mu.Unlock()
	if v.writes.set == nil {
		v.writes.set = map[*writing]struct{}{}
	}
	v.writes.set[w] = struct{}{}
	return ctx, func() {
		w.cancel(nil)
		v.writes.mu.Lock()
		defer v.writes.mu.Unlock()
		delete(v.writes.set, w)
	}
}

// cutWrites ends the requests that put bytes of erased datasets.
func (v *Vault) cutWrites() {
	v.writes.mu.Lock()
	defer v.writes.mu.Unlock()
	for w := range v.writes.set {
		if v.world.Erased(w.scope) {
			w.cancel(fault.New(fault.Gone, "vault.writing", "the dataset was erased meanwhile"))
		}
	}
}

// writesTo reports whether a request of this node is still putting bytes of a
// dataset.
func (v *Vault) writesTo(id dataset.DatasetID) bool {
	v.writes.mu.Lock()
	defer v.writes.mu.Unlock()
	for w := range v.writes.set {
		if w.dataset == id {
			return true
		}
	}
	return false
}

// any reports whether a request of this node is putting bytes.
func (s *writes) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.set) > 0
}

// erasedMeanwhile is err, or what has ended the context of writing.
func erasedMeanwhile(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); fault.Is(cause, fault.Gone) {
		return cause
	}
	return err
}
