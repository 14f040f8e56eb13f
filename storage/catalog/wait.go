package catalog

import (
	"context"
	"sync/atomic"
	"time"
)

// patience is how long a database server may take to give a connection, to answer
// a statement, or to send the next row. On a connection that silently carries
// nothing whoever asks would wait until TCP gives up, which takes a quarter of an
// hour.
const patience = time.Minute

// patient bounds one wait for the server. SQLite answers for itself.
func (db *DB) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if !db.dialect.remote {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, db.patience)
}

// rowWait bounds each wait for the rows of one query, however many there are and
// whatever is done with them in between. A nil one bounds nothing.
type rowWait struct {
	most   time.Duration
	timer  *time.Timer
	late   atomic.Bool
	cancel context.CancelFunc
}

// waitForRows begins with a wait.
func (db *DB) waitForRows(ctx context.Context) (context.Context, *rowWait) {
	if !db.dialect.remote {
		return ctx, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &rowWait{most: db.patience, cancel: cancel}
	w.timer = time.AfterFunc(w.most, func() {
		w.late.Store(true)
		cancel()
	})
	return ctx, w
}

// during runs f while nobody waits.
func (w *rowWait) during(f func() error) error {
	if w == nil {
		return f()
	}
	w.timer.Stop()
	defer w.timer.Reset(w.most)
	return f()
}

// end ends the query's context.
func (w *rowWait) end() {
	if w != nil {
		w.timer.Stop()
		w.cancel()
	}
}

// over reports whether the server has not answered in time.
func (w *rowWait) over() bool { return w != nil && w.late.Load() }

// why is err, of the query, or that the server has not answered in time.
func (w *rowWait) why(err error) error {
	if err != nil && w.over() {
		return context.DeadlineExceeded
	}
	return err
}
