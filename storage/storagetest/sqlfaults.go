package storagetest

import (
	"context"
	"database/sql/driver"
	"io"
	"sync"
)

// SQLFaults breaks one statement on its way to a database: the N-th since it
// was armed, whatever it is and whichever connection it takes. COMMIT, ROLLBACK
// and preparing count too. A catalog runs on it by its Wrap option.
type SQLFaults struct {
	// Remote: the connection is gone with the reply, as over a network.
	Remote bool

	mu    sync.Mutex
	left  int // statements until the fault; 0: not armed
	kind  SQLFault
	fired string // the statement that failed; "" for none yet
}

// SQLFault says what happens to the statement.
type SQLFault int

const (
	NotRun    SQLFault = iota // it fails without an effect
	ReplyLost                 // it is run, and reported as failed all the same
)

// Arm has the n-th statement from now on fail, n >= 1.
func (f *SQLFaults) Arm(n int, kind SQLFault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left, f.kind, f.fired = n, kind, ""
}

// Disarm ends it, and gives the statement that has failed; "" if there were
// not so many.
func (f *SQLFaults) Disarm() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = 0
	return f.fired
}

// next counts a statement, and reports whether it is the one to fail.
func (f *SQLFaults) next(statement string) (fails bool, kind SQLFault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		return false, 0
	}
	f.left--
	if f.left > 0 {
		return false, 0
	}
	f.fired = statement
	return true, f.kind
}

// Wrap puts the faults between a driver and its user.
func (f *SQLFaults) Wrap(c driver.Connector) driver.Connector { return faultyConnector{c, f} }

type faultyConnector struct {
	driver.Connector
	faults *SQLFaults
}

func (c faultyConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &faultyConn{conn, c.faults}, nil
}

// statement runs f, unless it is to fail.
func statement[T any](c *faultyConn, text string, f func() (T, error)) (result T, err error) {
	fails, kind := c.faults.next(text)
	if !fails {
		return f()
	}
	if kind == NotRun {
		return result, io.ErrUnexpectedEOF
	}
	done, err := f()
	if c, ok := any(done).(io.Closer); ok && err == nil {
		c.Close() // rows or a statement that nobody gets; SQLite would keep the connection open, and its locks
	}
	if err == nil {
		if c.faults.Remote {
			c.Conn.Close()
		}
		err = io.ErrUnexpectedEOF
	}
	return result, err
}

type faultyConn struct {
	driver.Conn
	faults *SQLFaults
}

func (c *faultyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return statement(c, "prepare: "+query, func() (driver.Stmt, error) {
		s, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
		if err != nil {
			return nil, err
		}
		return &faultyStmt{s, query, c}, nil
	})
}

func (c *faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return statement(c, query, func() (driver.Result, error) {
		return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	})
}

func (c *faultyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return statement(c, query, func() (driver.Rows, error) {
		return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
	})
}

func (c *faultyConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

func (c *faultyConn) Ping(ctx context.Context) error {
	if p, ok := c.Conn.(driver.Pinger); ok {
		return p.Ping(ctx)
	}
	return nil
}

func (c *faultyConn) ResetSession(ctx context.Context) error {
	if r, ok := c.Conn.(driver.SessionResetter); ok {
		return r.ResetSession(ctx)
	}
	return nil
}

func (c *faultyConn) IsValid() bool {
	v, ok := c.Conn.(driver.Validator)
	return !ok || v.IsValid()
}

func (c *faultyConn) CheckNamedValue(v *driver.NamedValue) error {
	if n, ok := c.Conn.(driver.NamedValueChecker); ok {
		return n.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type faultyStmt struct {
	driver.Stmt
	query string
	conn  *faultyConn
}

func (s *faultyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return statement(s.conn, s.query, func() (driver.Result, error) {
		return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
	})
}

func (s *faultyStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return statement(s.conn, s.query, func() (driver.Rows, error) {
		return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
	})
}

func (s *faultyStmt) CheckNamedValue(v *driver.NamedValue) error {
	if n, ok := s.Stmt.(driver.NamedValueChecker); ok {
		return n.CheckNamedValue(v)
	}
	return s.conn.CheckNamedValue(v)
}
