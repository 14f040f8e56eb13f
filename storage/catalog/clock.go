package catalog

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// clockSlack is how far a node's clock may be from the database's and still
	// counts as right.
	clockSlack = 2 * time.Second
	clockEvery = 5 * time.Second // how often they are compared
	clockLimit = 5 * time.Second // for one comparison
	clockWarns = 10 * time.Minute
)

// Clock is the time of all nodes that share a database. It is the node's own
// clock; where that is wrong by more than two seconds, it is put right by the
// database's, and the operator is told.
type Clock struct {
	db    *DB
	now   func() time.Time
	log   *slog.Logger
	apart atomic.Int64 // nanoseconds that now is ahead of the database's clock; 0 within the slack
	told  time.Time    // when it was last said, by now

	stop context.CancelFunc
	done chan struct{}
}

// FollowClock compares now with the database's clock, at once and then every
// few seconds, until Close.
func (db *DB) FollowClock(ctx context.Context, now func() time.Time, logger *slog.Logger) (*Clock, error) {
	c := &Clock{db: db, now: now, log: logger, done: make(chan struct{})}
	if err := c.compare(ctx); err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.Background())
	c.stop = stop
	go c.follow(running)
	return c, nil
}

// Close ends the comparing; Now goes on.
func (c *Clock) Close() {
	c.stop()
	<-c.done
}

// Now is the time.
func (c *Clock) Now() time.Time { return c.now().Add(-c.Apart()) }

// Apart is how far the node's own clock is ahead of the database's, and 0 within
// two seconds.
func (c *Clock) Apart() time.Duration { return time.Duration(c.apart.Load()) }

func (c *Clock) follow(ctx context.Context) {
	defer close(c.done)
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := c.compare(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("the clock could not be compared with the database's", "err", err)
		}
	}
}

func (c *Clock) compare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clockLimit)
	defer cancel()
	var before, there, after time.Time
	err := c.db.View(ctx, func(tx *Tx) (err error) {
		before = c.now()
		there, err = tx.Now(ctx)
		after = c.now()
		return err
	})
	if err != nil {
		return err
	}
	c.note(before, there, after)
	return nil
}

// note takes one comparison: the database's clock showed there at some time
// between before and after.
func (c *Clock) note(before, there, after time.Time) {
	took := after.Sub(before)
	apart := before.Add(took / 2).Sub(there)
	known := c.Apart()
	switch {
	case (apart - known).Abs() <= clockSlack+took/2: // as before, as far as can be told
		apart = known
	case apart.Abs() <= clockSlack:
		apart = 0
	}
	c.apart.Store(int64(apart))
	switch {
	case apart == 0 && known != 0:
		c.log.Info("the clock of this machine is right again")
		c.told = time.Time{}
	case apart != 0 && (apart != known || after.Sub(c.told).Abs() >= clockWarns):
		c.log.Warn("the clock of this machine is wrong; the database's counts", "ahead", apart.Round(time.Millisecond),
			"hint", "set the clocks of all machines by NTP")
		c.told = after
	}
}
