package vault

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"time"

	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

const (
	// aloneFor is how long standAlone holds without being renewed: a command that
	// was killed keeps others waiting for that long.
	aloneFor = 15 * time.Second
	// aloneTries is how often a server that was killed just now, which had it for
	// three seconds, is asked for, a second apart.
	aloneTries = 5
	// alonePrefix tells a command that stands alone from a server.
	alonePrefix = "alone/"
)

// standAlone makes sure that no server runs on the catalog, and keeps others
// from signing meanwhile: servers do not open the log, and the context ends if
// that cannot be kept up.
func standAlone(ctx context.Context, db *catalog.DB, logger *slog.Logger, random io.Reader) (alone context.Context, release func(), err error) {
	holder := alonePrefix + dataset.NewID[dataset.RequestID](random).String()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for try := 1; ; try++ {
		held, other, err := takeAlone(ctx, db, holder)
		if err != nil {
			return nil, nil, err
		}
		if held {
			break
		}
		killed := strings.HasPrefix(other, alonePrefix) && time.Duration(try)*time.Second < 2*aloneFor // perhaps
		if try >= aloneTries && !killed {
			return nil, nil, fault.New(fault.Conflict, "vault.standAlone", "a server runs on this catalog, or another such command").
				WithHint("stop every server of this vault first")
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-tick.C:
		}
	}
	alone, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		defer cancel()
		keepAlone(alone, db, logger, holder)
	}()
	return alone, func() {
		cancel()
		<-stopped
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := db.Update(ctx, func(tx *catalog.Tx) error { return tx.DropLease(ctx, electNotary, holder) }); err != nil {
			logger.Warn("a lease is left to run out", "err", err)
		}
	}, nil
}

// takeAlone gives who has it if holder has not.
func takeAlone(ctx context.Context, db *catalog.DB, holder string) (held bool, other string, err error) {
	err = db.Update(ctx, func(tx *catalog.Tx) (err error) {
		if held, err = tx.TakeLease(ctx, electNotary, holder, aloneFor); err != nil || held {
			return err
		}
		if other, err = tx.LeaseHolder(ctx, electNotary); err != nil || db.Engine() != "sqlite" || !strings.HasPrefix(other, alonePrefix) {
			return err
		}
		// Who opens a SQLite catalog has locked its folder: that command is dead.
		if err := tx.DropLease(ctx, electNotary, other); err != nil {
			return err
		}
		held, err = tx.TakeLease(ctx, electNotary, holder, aloneFor)
		return err
	})
	return held, other, err
}

// keepAlone renews what standAlone holds, until ctx ends or it is somebody else's.
func keepAlone(ctx context.Context, db *catalog.DB, logger *slog.Logger, holder string) {
	tick := time.NewTicker(aloneFor / 5)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		held, _, err := takeAlone(ctx, db, holder)
		if err != nil && ctx.Err() == nil {
			logger.Warn("a lease could not be renewed; it is tried again", "err", err)
		}
		if err == nil && !held {
			return
		}
	}
}
