package catalog

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"text/template"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"dsvault/vault/fault"
)

// Migrations are named NNNNN_what.sql, only ever added, and rendered with the
// dialect's words.
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

// moves are what a migration does beyond its SQL, in the same transaction.
var moves = map[int64]func(context.Context, *sql.Tx, *dialect) error{
	9: moveLeaves,
}

// migrations renders every migration for d.
func migrations(d *dialect) ([]*goose.Migration, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var list []*goose.Migration
	for _, name := range names {
		prefix, _, _ := strings.Cut(path.Base(name), "_")
		version, err := strconv.ParseInt(prefix, 10, 64)
		if err != nil {
			return nil, err
		}
		parsed, err := template.New(path.Base(name)).ParseFS(migrationFiles, name)
		if err != nil {
			return nil, err
		}
		var script bytes.Buffer
		if err := parsed.Execute(&script, d); err != nil {
			return nil, err
		}
		list = append(list, goose.NewGoMigration(version, &goose.GoFunc{
			RunTx: func(ctx context.Context, tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, script.String())
				if move := moves[version]; err == nil && move != nil {
					err = move(ctx, tx, d)
				}
				return err
			},
		}, nil))
	}
	return list, nil
}

// migrate brings the schema up to date. On PostgreSQL a session lock lets
// several nodes start at once.
func (db *DB) migrate(ctx context.Context) error {
	const op = "catalog.Open"
	list, err := migrations(db.dialect)
	if err != nil {
		return fault.Wrap(fault.Internal, op, "the embedded migrations are broken", err)
	}
	options := []goose.ProviderOption{goose.WithGoMigrations(list...), goose.WithDisableGlobalRegistry(true)}
	if db.dialect.goose == goose.DialectPostgres {
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 120), lock.WithUnlockTimeout(1, 30))
		if err != nil {
			return fault.Wrap(fault.Internal, op, "cannot make the migration lock", err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(db.dialect.goose, db.writers.db, nil, options...)
	if err != nil {
		return fault.Wrap(fault.Internal, op, "cannot prepare the migrations", err)
	}
	if err := up(ctx, provider); err != nil {
		return err
	}
	// Migrations only add up, so a database with all of ours and one more was
	// written by a newer version, whose rules we do not know.
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return fault.New(fault.Conflict, op, "the database was written by a newer version of dsvault").
			WithHint("run that version, or a later one")
	}
	db.schema = current
	return nil
}

// Schema is the version of the tables: the number of the last migration.
func (db *DB) Schema() int64 { return db.schema }

// up migrates. SQLite has no session lock: of several programs that start on
// one new file, all but one fail on tables that are suddenly there, and look
// again.
func up(ctx context.Context, provider *goose.Provider) error {
	for attempt := 1; ; attempt++ {
		_, err := provider.Up(ctx)
		kind := classOf(err)
		if err == nil || attempt == 5 || kind != unknown && kind != exists && kind != busy {
			return err
		}
	}
}
