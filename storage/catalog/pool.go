package catalog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"
	"time"

	"dsvault/vault/fault"
)

// maxStatements bounds a connection's cache of prepared statements.
const maxStatements = 300

// conn is one connection with its prepared statements. One transaction at a
// time owns it.
type conn struct {
	sql    *sql.Conn
	stmts  map[string]*sql.Stmt
	packer packer
}

func (c *conn) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := c.stmts[query]; s != nil {
		return s, nil
	}
	if len(c.stmts) >= maxStatements {
		c.forget()
	}
	s, err := c.sql.PrepareContext(ctx, query)
	if err == nil {
		c.stmts[query] = s
	}
	return s, err
}

func (c *conn) forget() {
	for _, s := range c.stmts {
		s.Close()
	}
	clear(c.stmts)
}

// close ends the connection itself, rather than giving it back to sql.DB.
func (c *conn) close() {
	c.forget()
	_ = c.sql.Raw(func(any) error { return driver.ErrBadConn })
	c.sql.Close()
}

// pool hands out a fixed number of connections, made when first needed.
type pool struct {
	db     *sql.DB
	free   chan *conn // nil: a place whose connection is still to be made
	shared bool       // another pool closes db
	closed chan struct{}
	once   sync.Once
}

func newPool(db *sql.DB, size int) *pool {
	db.SetMaxOpenConns(size + 1) // one more while migrating
	db.SetMaxIdleConns(1)
	p := &pool{db: db, free: make(chan *conn, size), closed: make(chan struct{})}
	for range size {
		p.free <- nil
	}
	return p
}

func (p *pool) get(ctx context.Context) (*conn, error) {
	select {
	case <-p.closed:
		return nil, fault.New(fault.Unavailable, "catalog.Begin", "the catalog is closed")
	default:
	}
	select {
	case c := <-p.free:
		if c != nil {
			return c, nil
		}
		return p.fill(ctx)
	case <-p.closed:
		return nil, fault.New(fault.Unavailable, "catalog.Begin", "the catalog is closed")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fill makes a connection for a place that the caller holds.
func (p *pool) fill(ctx context.Context) (*conn, error) {
	c, err := p.db.Conn(ctx)
	if err != nil {
		p.free <- nil
		return nil, err
	}
	return &conn{sql: c, stmts: make(map[string]*sql.Stmt)}, nil
}

func (p *pool) put(c *conn) { p.free <- c }

func (p *pool) discard(c *conn) {
	c.close()
	p.free <- nil
}

// close waits a while for the transactions under way, then closes.
func (p *pool) close() error {
	var err error
	p.once.Do(func() {
		close(p.closed)
		patience := time.NewTimer(10 * time.Second)
		defer patience.Stop()
		for range cap(p.free) {
			select {
			case c := <-p.free:
				if c != nil {
					c.close()
				}
			case <-patience.C:
				err = fault.New(fault.Conflict, "catalog.Close", "a transaction is still open")
			}
			if err != nil {
				break
			}
		}
		if p.shared {
			return
		}
		if e := p.db.Close(); err == nil {
			err = e
		}
	})
	return err
}
