package vault

import (
	"context"
	"sync"
	"time"

	"dsvault/storage/catalog"
)

// choreLease is how long a dead node keeps others from the chores.
const choreLease = 6 * time.Second

// choreTick is how often chores are looked at; a variable for the tests.
var choreTick = 10 * time.Second

// chores is the periodic work that one node at a time does.
type chores struct {
	wake  chan struct{}
	swept chan struct{} // closed once what former processes have left was swept
	mu    sync.Mutex    // one round at a time
}

func (c *chores) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// chore is one kind of periodic work. It does what is due by now, keeps its place
// in rows, and can be called again at any time, after any interruption.
type chore struct {
	name string
	do   func(context.Context) error
}

// allChores are done in this order.
func (v *Vault) allChores() []chore {
	return []chore{
		{"erase again what a restored catalog brought back", v.eraseRestored},
		{"warn of coming expiries", v.warnOfExpiry},
		{"erase what has expired", v.eraseExpired},
		{"go on with erasures", v.advanceErasures},
		{"destroy old epochs of keys", v.destroyEpochs},
		{"drop results that have expired", v.expireResults},
		{"drop details of old records", v.expireDetails},
		{"anonymise people who are not active", v.expirePeople},
		{"end access reviews at their deadline", v.endReviews},
		{"start the quarter's access reviews", v.startReviews},
	}
}

// holdChores keeps the chores on one node at a time. They can wait for the first
// sweep, which cannot.
func (v *Vault) holdChores(ctx context.Context) {
	select {
	case <-v.chores.swept:
	case <-ctx.Done():
		return
	}
	v.db.Hold(ctx, catalog.Lease{Name: "chores", Holder: v.node, TTL: choreLease, Alone: v.alone, Logger: v.log}, func(ctx context.Context) {
		tick := time.NewTicker(choreTick)
		defer tick.Stop()
		for {
			v.Chores(ctx)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			case <-v.chores.wake:
			}
		}
	})
}

// Chores does once what is due by now, whichever node is elected. What fails is
// tried again at the next round.
func (v *Vault) Chores(ctx context.Context) {
	v.chores.mu.Lock()
	defer v.chores.mu.Unlock()
	for _, c := range v.allChores() {
		if err := c.do(ctx); err != nil && ctx.Err() == nil {
			v.log.WarnContext(ctx, "a chore will be tried again", "chore", c.name, "err", err)
		}
	}
}
