package catalog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"modernc.org/sqlite" // registers the driver "sqlite", too

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

func openSQLite(ctx context.Context, op, path string, opts Options) (*DB, error) {
	if path == "" {
		return nil, fault.New(fault.Invalid, op, "the database's path is missing").WithHint("write sqlite:PATH")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, op, "bad path of the database", err)
	}
	if err := checkFile(op, path); err != nil {
		return nil, err
	}
	if err := inspect(ctx, op, path); err != nil {
		return nil, err
	}
	writers := opts.open(sqliteConnector(sqliteDSN(path, "journal_mode(WAL)", "synchronous(FULL)",
		// Pages. Busy index pages are then copied back less often.
		"wal_autocheckpoint(4000)")))
	readers := opts.open(sqliteConnector(sqliteDSN(path, "query_only(1)")))
	return pools(&sqliteDialect, writers, readers, 1, opts.Readers), nil
}

// sqliteConnector connects to what a DSN names.
type sqliteConnector string

func (c sqliteConnector) Driver() driver.Driver { return new(sqlite.Driver) }

func (c sqliteConnector) Connect(context.Context) (driver.Conn, error) {
	return c.Driver().Open(string(c))
}

func sqliteDSN(path string, pragmas ...string) string {
	query := url.Values{"_pragma": append([]string{
		"busy_timeout(5000)", // milliseconds; for other programs, such as a backup
		"foreign_keys(1)",
		"trusted_schema(0)",
		"fullfsync(1)",      // macOS: fsync alone does not reach the disk there
		"cache_size(-8192)", // KiB
	}, pragmas...)}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String()
}

// checkFile creates the file, or looks at what SQLite itself would let pass:
// it takes a file of a few bytes for an empty database, and a missing end for
// zeroes.
func checkFile(op, path string) error {
	// SQLite would create the file with the umask's mode; its -wal and -shm
	// files take the mode of this one.
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Unavailable, op, "the database's folder does not exist", err).
			WithHint("create the folder, or correct the path")
	}
	var info fs.FileInfo
	if err == nil {
		defer file.Close()
		info, err = file.Stat()
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, op, "the database's file cannot be opened for writing", err).
			WithHint("check the owner and the mode of the file and its folder")
	}
	if info.Size() == 0 {
		return nil
	}
	header := make([]byte, 100) // https://www.sqlite.org/fileformat.html
	if _, err := file.ReadAt(header, 0); err != nil || string(header[:16]) != "SQLite format 3\x00" {
		return fault.New(fault.Corrupt, op, "the file is not a SQLite database").
			WithHint("check the path; if it is right, restore the file from a backup")
	}
	if log, err := os.Stat(path + "-wal"); err == nil && log.Size() > 0 {
		return nil // the file may lawfully be shorter: the log has the rest
	}
	pageSize := int64(binary.BigEndian.Uint16(header[16:]))
	if pageSize == 1 {
		pageSize = 1 << 16
	}
	pages := int64(binary.BigEndian.Uint32(header[28:]))
	if info.Size() < pages*pageSize {
		return damaged(op, errors.New("the file's end is missing"))
	}
	return nil
}

func damaged(op string, err error) error {
	return fault.Wrap(fault.Corrupt, op, "the database is damaged", err).
		WithHint("keep a copy of the damaged file, and restore a backup")
}

// inspect refuses another program's database and a damaged one, before
// anything is changed in it, and marks a new one as ours.
func inspect(ctx context.Context, op, path string) error {
	db, err := sql.Open("sqlite", sqliteDSN(path))
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil) // another node may be making the tables just now
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var app, tables, pages, pageSize int64
	for query, into := range map[string]*int64{
		"PRAGMA application_id":              &app,
		"SELECT count(*) FROM sqlite_schema": &tables,
		"PRAGMA page_count":                  &pages,
		"PRAGMA page_size":                   &pageSize,
	} {
		if err := tx.QueryRowContext(ctx, query).Scan(into); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
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
		return damaged(op, errors.New(verdict))
	}
	return nil
}
