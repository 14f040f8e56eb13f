package catalog

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"dsvault/vault/fault"
)

const (
	// applicationID marks our files in SQLite's header: "dsvt".
	applicationID = 0x64737674
	// checkedWhole is the size, in bytes, up to which a file is checked in
	// full when it is opened; a larger one takes too long, and damage in it
	// is found when the page is read.
	checkedWhole = 32 << 20
)

func openSQLite(op, path string, opts Options) (*DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, op, "bad path of the database", err)
	}
	// SQLite would create the file with the umask's mode; its -wal and -shm
	// files take the mode of this one.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.Wrap(fault.Unavailable, op, "the database's folder does not exist", err).
			WithHint("create the folder, or correct the path")
	case err != nil:
		return nil, fault.Wrap(fault.Unavailable, op, "the database's file cannot be opened for writing", err).
			WithHint("check the owner and the mode of the file and its folder")
	}
	file.Close()

	writers, err := sql.Open("sqlite", sqliteDSN(path, "journal_mode(WAL)", "synchronous(FULL)"))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, "cannot open SQLite", err)
	}
	readers, err := sql.Open("sqlite", sqliteDSN(path, "query_only(1)"))
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, "cannot open SQLite", err)
	}
	return pools(&sqliteDialect, writers, readers, 1, opts.Readers), nil
}

func sqliteDSN(path string, pragmas ...string) string {
	query := url.Values{"_pragma": append([]string{
		"busy_timeout(5000)", // milliseconds; for other programs, such as a backup
		"foreign_keys(1)",
		"trusted_schema(0)",
		"fullfsync(1)", // macOS: fsync alone does not reach the disk there
		"cache_size(-8192)",
	}, pragmas...)}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String()
}

// prepareSQLite refuses a file that another program made, and a damaged one.
func prepareSQLite(ctx context.Context, db *sql.DB) error {
	const op = "catalog.Open"
	var app, tables, pages, pageSize int64
	for query, into := range map[string]*int64{
		"PRAGMA application_id":              &app,
		"SELECT count(*) FROM sqlite_schema": &tables,
		"PRAGMA page_count":                  &pages,
		"PRAGMA page_size":                   &pageSize,
	} {
		if err := db.QueryRowContext(ctx, query).Scan(into); err != nil {
			return err
		}
	}
	if app != applicationID {
		if tables > 0 || app != 0 {
			return fault.New(fault.Invalid, op, "the file is another program's SQLite database").
				WithHint("check the path")
		}
		_, err := db.ExecContext(ctx, "PRAGMA application_id = "+strconv.Itoa(applicationID))
		return err
	}
	if pages*pageSize > checkedWhole {
		return nil
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fault.Wrap(fault.Corrupt, op, "the database is damaged", errors.New(verdict)).
			WithHint("keep a copy of the damaged file, and restore a backup")
	}
	return nil
}
