package vault

import (
	"context"
	"errors"
	"sync"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

const (
	checkTick  = 10 * time.Second // how often it is looked whether a check is due, or waits for a node
	checkLease = 6 * time.Second  // how long a dead node keeps others from its checks
	checkRetry = 15 * time.Second // between tries while catalog or storage are away
	checkLimit = 24 * time.Hour   // how long a check waits for them before it fails
	minRate    = 1 << 20          // bytes a second of a scheduled check that reads data
)

// checkers are the checks that this node runs.
type checkers struct {
	wake chan struct{}

	mu      sync.Mutex
	running map[dataset.CheckID]context.CancelFunc // guarded by mu
}

func (c *checkers) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// add notes a check as running here; it is false if it is.
func (c *checkers) add(id dataset.CheckID, stop context.CancelFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[id] != nil {
		return false
	}
	c.running[id] = stop
	return true
}

func (c *checkers) remove(id dataset.CheckID, stop context.CancelFunc) {
	stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, id)
}

func (c *checkers) cancel(id dataset.CheckID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if stop := c.running[id]; stop != nil {
		stop()
	}
}

// holdChecks keeps the checks on one node at a time.
func (v *Vault) holdChecks(ctx context.Context) {
	v.db.Hold(ctx, catalog.Lease{Name: "checks", Holder: v.node, TTL: checkLease, Alone: v.alone, Logger: v.log}, v.keepChecks)
}

// keepChecks goes on with the checks that have not ended, whichever node has run
// them before, and starts the scheduled ones.
func (v *Vault) keepChecks(ctx context.Context) {
	var run sync.WaitGroup
	defer run.Wait()
	tick := time.NewTicker(checkTick)
	defer tick.Stop()
	for {
		if err := v.scheduleChecks(ctx); err != nil && ctx.Err() == nil {
			v.log.WarnContext(ctx, "a scheduled check could not be started", "err", err)
		}
		if err := v.claimChecks(ctx, &run); err != nil && ctx.Err() == nil {
			v.log.WarnContext(ctx, "cannot look for checks to go on with", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-v.checks.wake:
		}
	}
}

// claimChecks runs every check that has not ended and does not run yet.
func (v *Vault) claimChecks(ctx context.Context, run *sync.WaitGroup) error {
	var list []storage.Check
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		list, err = tx.RunningChecks(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for _, c := range list {
		stopping, stop := context.WithCancel(ctx)
		if !v.checks.add(c.ID, stop) {
			stop()
			continue
		}
		c.Node = v.node
		err := v.db.Update(ctx, func(tx *catalog.Tx) error { return tx.ClaimCheck(ctx, c.ID, c.Node) })
		if err != nil {
			v.checks.remove(c.ID, stop)
			if errors.Is(err, storage.ErrNoRow) {
				continue // it has just ended
			}
			return err
		}
		run.Go(func() {
			defer v.checks.remove(c.ID, stop)
			v.runCheck(stopping, c)
		})
	}
	return nil
}

// runCheck goes on with a check until it ends, or this node does. While catalog
// or storage are away it waits.
func (v *Vault) runCheck(ctx context.Context, c storage.Check) {
	r := newCheckRun(v, c)
	log := v.log.With("check", c.ID, "data", c.Data)
	log.Info("checking storage", "objects", c.Objects, "done", c.Checked)
	wait := time.NewTicker(checkRetry)
	defer wait.Stop()
	for {
		err := r.run(ctx)
		switch {
		case err == nil:
			r.c.State, r.c.Problem = storage.CheckFinished, ""
		case ctx.Err() != nil:
			r.leave()
			return
		case errors.Is(err, errLostCheck):
			log.Info("the check is somebody else's, or has ended")
			return
		case v.now().Sub(r.c.MovedAt) > checkLimit, !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Busy):
			r.c.State, r.c.Problem = storage.CheckFailed, problemOf(err)
		default:
			r.c.Problem = problemOf(err)
		}
		if r.c.State != storage.CheckRunning {
			if err = v.endCheck(ctx, r); err == nil {
				return
			}
			r.c.State = storage.CheckRunning
		} else {
			log.Warn("the check waits", "err", err)
			err = r.save(ctx)
		}
		if errors.Is(err, errLostCheck) {
			return
		}
		select {
		case <-ctx.Done():
			r.leave()
			return
		case <-wait.C:
		}
	}
}

// problemOf is what may be shown of an error.
func problemOf(err error) string {
	var e *fault.Error
	if errors.As(err, &e) && e.Code != fault.Internal {
		return e.Message
	}
	return "something went wrong inside the server"
}

// endCheck records the result: in the audit log, in the same transaction as the
// check's row, and for the operator in the server's log.
func (v *Vault) endCheck(ctx context.Context, r *checkRun) error {
	t, err := v.target(ctx, r.c.Scope)
	if err != nil {
		return err
	}
	r.c.EndedAt = v.now()
	_, err = v.ledger.Record(ctx, ledger.Intent{
		Kind: audit.KindCheckEnd, Own: true, Place: t.place(), Object: t.object(), Fields: tally(r.c),
		Apply: func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error { return r.write(ctx, tx.Tx) },
	})
	if err != nil {
		r.c.EndedAt = time.Time{}
		return err
	}
	level := v.log.Info
	if c := r.c; c.Missing > 0 || c.Changed > 0 || c.State == storage.CheckFailed {
		level = v.log.Error
	}
	level("storage was checked", "check", r.c.ID, "state", string(r.c.State), "problem", r.c.Problem, "data", r.c.Data,
		"checked", r.c.Checked, "bytes", r.c.Read, "missing", r.c.Missing, "changed", r.c.Changed,
		"extra", r.c.Extra, "leftovers", r.c.Leftovers, "repaired", r.c.Repaired)
	return nil
}

// scheduleChecks starts the checks of the whole vault that are due: without
// data, and with it, which is spread over half of the time until the next.
func (v *Vault) scheduleChecks(ctx context.Context) error {
	for _, s := range []struct {
		every time.Duration
		data  bool
	}{{v.checkEvery, false}, {v.checkDataEvery, true}} {
		if s.every <= 0 {
			continue
		}
		if err := v.scheduleCheck(ctx, s.every, s.data); err != nil && !errors.Is(err, errNotDue) {
			return err
		}
	}
	return nil
}

var errNotDue = errors.New("not due")

func (v *Vault) scheduleCheck(ctx context.Context, every time.Duration, data bool) error {
	t, err := v.root(ctx)
	if err != nil {
		return err
	}
	// The log's lock makes one node start it: the others find it started.
	due := func(ctx context.Context, tx *catalog.Tx) (storage.Check, error) {
		last, err := tx.LastScheduled(ctx, data)
		if errors.Is(err, storage.ErrNoRow) {
			last, err = storage.Check{State: storage.CheckFinished, StartedAt: t.row.CreatedAt}, nil
		}
		if err == nil && (last.State == storage.CheckRunning || v.now().Sub(last.StartedAt) < every) {
			err = errNotDue
		}
		return last, err
	}
	c := v.newCheck(t, storage.Check{Data: data, Scheduled: true})
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		if _, err := due(ctx, tx); err != nil || !data {
			return err
		}
		_, bytes, err := tx.StoredTotals(ctx, dataset.Root)
		c.Rate = max(int64(float64(bytes)/(every.Seconds()/2)), minRate)
		return err
	})
	if err != nil {
		return err
	}
	in := ledger.Intent{Kind: audit.KindCheckStart, Own: true, Place: t.place(), Object: t.object()}
	_, err = v.addCheck(ctx, in, c, due)
	return err
}
