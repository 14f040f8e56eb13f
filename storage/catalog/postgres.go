package catalog

import (
	"context"
	"database/sql"

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
	// A node that hangs must not hold the head's lock for ever. Milliseconds.
	writers.RuntimeParams["idle_in_transaction_session_timeout"] = "60000"
	writers.OnNotice = keepWarning
	return pools(&postgresDialect, opts.open(stdlib.GetConnector(*writers)), opts.open(stdlib.GetConnector(*readers)), opts.Writers, opts.Readers), nil
}

// durable refuses a server that may lose what it has acknowledged.
func durable(ctx context.Context, op string, db *sql.DB) error {
	for _, setting := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		var value string
		if err := db.QueryRowContext(ctx, "SELECT current_setting($1)", setting).Scan(&value); err != nil {
			return err
		}
		if value == "off" || setting == "synchronous_commit" && value == "local" {
			return fault.New(fault.Conflict, op, "the PostgreSQL server may lose what it has acknowledged: "+setting+" is "+value).
				WithHint("set " + setting + " to on in the server's configuration, and reload it")
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
