//go:build !dsvault_pgxstdlib

package catalog

import "dsvault/vault/fault"

// openPostgres stands in until the module github.com/jackc/puddle/v2, which
// pgx/stdlib needs, is in go.mod.
func openPostgres(op, _ string, _ Options) (*DB, error) {
	_ = &postgresDialect
	return nil, fault.New(fault.Invalid, op, "this build has no PostgreSQL").WithHint("use sqlite:PATH")
}
