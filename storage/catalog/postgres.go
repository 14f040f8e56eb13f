package catalog

import (
	"github.com/jackc/pgx/v5"
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
	return pools(&postgresDialect, opts.open(stdlib.GetConnector(*writers)), opts.open(stdlib.GetConnector(*readers)), opts.Writers, opts.Readers), nil
}
