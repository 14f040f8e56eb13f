package catalog

import (
	"context"
	"database/sql"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"dsvault/vault/fault"
)

func openPostgres(op, url string, opts Options) (*DB, error) {
	writers, err := pgx.ParseConfig(url)
	if err != nil {
		// The cause may hold the password.
		return nil, fault.New(fault.Invalid, op, "not a PostgreSQL URL").
			WithHint("write postgres://USER:PASSWORD@HOST:PORT/DATABASE")
	}
	writers.RuntimeParams["application_name"] = "dsvault"
	readers := writers.Copy()
	// What is acknowledged has to be on disk, whatever the server's default is.
	writers.RuntimeParams["synchronous_commit"] = "on"
	// A node that hangs must not hold the head's lock for long. Milliseconds.
	writers.RuntimeParams["idle_in_transaction_session_timeout"] = "10000"
	writers.OnNotice = keepWarning
	return pools(&postgresDialect, opts.open(stdlib.GetConnector(*writers)), opts.open(stdlib.GetConnector(*readers)), opts.Writers, opts.Readers), nil
}

// durable refuses a server that may lose what it has acknowledged. Of what a
// session may set for itself both are looked at: what the writers have, and what
// the server gives by itself, as it does to the readers.
func durable(ctx context.Context, op string, db *DB) error {
	for _, look := range []struct {
		from    *sql.DB
		setting string
		bad     []string
	}{
		{db.writers.db, "fsync", []string{"off"}},
		{db.writers.db, "full_page_writes", []string{"off"}},
		{db.writers.db, "synchronous_commit", []string{"off", "local"}},
		{db.readers.db, "synchronous_commit", []string{"off"}},
	} {
		var value string
		if err := look.from.QueryRowContext(ctx, "SELECT current_setting($1)", look.setting).Scan(&value); err != nil {
			return err
		}
		if slices.Contains(look.bad, value) {
			return fault.New(fault.Conflict, op, "the PostgreSQL server may lose what it has acknowledged: "+look.setting+" is "+value).
				WithHint("set " + look.setting + " to on in the server's configuration, and reload it")
		}
	}
	return nil
}

const warningKey = "dsvault-warning"

// keepWarning remembers that the server warned, until takeWarning asks.
func keepWarning(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized == "WARNING" {
		c.CustomData()[warningKey] = n.Code + " " + n.Message
	}
}

// takeWarning gives the last warning on a connection since it was last asked,
// "" for none.
func takeWarning(c *sql.Conn) (warning string) {
	_ = c.Raw(func(driver any) error {
		if d, ok := driver.(*stdlib.Conn); ok {
			data := d.Conn().PgConn().CustomData()
			warning, _ = data[warningKey].(string)
			delete(data, warningKey)
		}
		return nil
	})
	return warning
}
