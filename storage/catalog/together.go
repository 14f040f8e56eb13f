package catalog

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// write is a writing statement. What it tells is only whether it touched a row.
type write struct {
	op, query string
	args      []any
	untouched func() error // what it means if it touched none; nil: nothing
}

// write runs a statement, or keeps it for the end of Together.
func (tx *Tx) write(ctx context.Context, w write) error {
	if tx.gathering && !tx.done && tx.failed == nil {
		tx.gathered = append(tx.gathered, w)
		return nil
	}
	n, err := tx.exec(ctx, w.op, w.query, w.args...)
	if err == nil && n == 0 && w.untouched != nil {
		err = w.untouched()
	}
	return err
}

// Together has the writes of f share one round trip, where the database is a
// server. f only writes; whatever reads, or wants to know how many rows it touched,
// is refused in it. Errors of f's writes may come from Together instead. Any error
// breaks the transaction, so that none of f's writes is committed without the others.
func (tx *Tx) Together(ctx context.Context, f func() error) error {
	if err := tx.usable("catalog.Together", true); err != nil {
		return err
	}
	var err error
	if tx.gathering = tx.c.pipelines(); tx.gathering {
		err = f()
		list := tx.gathered
		tx.gathering, tx.gathered = false, nil
		if err == nil && len(list) > 0 {
			err = tx.send(ctx, list)
		}
	} else {
		err = f()
	}
	if err != nil && tx.failed == nil {
		tx.failed, tx.mendable = err, true
	}
	return err
}

// pipelines reports whether statements can be sent before the last one is answered.
func (c *conn) pipelines() (can bool) {
	_ = c.sql.Raw(func(driver any) error {
		_, can = driver.(*stdlib.Conn)
		return nil
	})
	return can
}

// send sends statements at once. The first that fails is the error, and PostgreSQL
// ignores those behind it.
func (tx *Tx) send(ctx context.Context, list []write) (err error) {
	ctx, cancel := tx.db.patient(ctx)
	defer cancel()
	var batch pgx.Batch
	for _, w := range list {
		// By its text pgx finds what was prepared.
		if _, err := tx.c.prepare(ctx, w.query); err != nil {
			return tx.fail(ctx, w.op, err)
		}
		batch.Queue(w.query, w.args...)
	}
	broken := tx.c.sql.Raw(func(driver any) error {
		results := driver.(*stdlib.Conn).Conn().SendBatch(ctx, &batch)
		defer results.Close() // its error is that of the statement that failed
		for _, w := range list {
			tag, failed := results.Exec()
			if err = tx.fail(ctx, w.op, failed); err == nil && tag.RowsAffected() == 0 && w.untouched != nil {
				err = w.untouched()
			}
			if err != nil {
				return nil
			}
		}
		return nil
	})
	if err == nil {
		err = tx.fail(ctx, "catalog.Together", broken)
	}
	return err
}
