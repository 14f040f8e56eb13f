package api

import (
	"net/http"
	"strconv"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// logRoutes is the log as C2SP tlog-tiles publishes it. Checkpoint and hashes
// are for anybody, so that witnesses and monitors need no account here; the
// entries are for those who may read the whole log.
func (s *server) logRoutes() []route {
	const get = http.MethodGet
	return []route{
		{method: get, path: "/log/checkpoint", do: s.logCheckpoint, open: true},
		{method: get, path: "/log/tile/entries/*", do: s.logEntries},
		{method: get, path: "/log/tile/*", do: s.logTile, open: true},
	}
}

func (s *server) logCheckpoint(c *call) (any, error) {
	note, err := s.forStrangers(func() ([]byte, error) { return s.vault.LogCheckpoint(c.ctx()) })
	if err != nil {
		return nil, err
	}
	return nil, c.public("text/plain; charset=utf-8", "no-cache", note)
}

// forStrangers reads something for somebody without an account. All of them
// together may read as much at once as one principal; a slow one holds up
// nobody, as what is read is small and is sent after that.
func (s *server) forStrangers(read func() ([]byte, error)) ([]byte, error) {
	release, err := s.slots.take(dataset.PrincipalID{})
	if err != nil {
		return nil, err
	}
	defer release()
	return read()
}

func (s *server) logTile(c *call) (any, error) {
	t, err := c.tile("tile/")
	if err != nil {
		return nil, err
	}
	data, err := s.forStrangers(func() ([]byte, error) { return s.vault.LogTile(c.ctx(), t) })
	if err != nil {
		return nil, err
	}
	return nil, c.public(octets, immutable, data)
}

func (s *server) logEntries(c *call) (any, error) {
	t, err := c.tile("tile/entries/")
	if err != nil {
		return nil, err
	}
	release, err := s.slots.take(c.caller.Principal)
	if err != nil {
		return nil, err
	}
	defer release()
	data, err := s.vault.LogEntries(c.ctx(), c.caller, t)
	if err != nil {
		return nil, err
	}
	return nil, c.public(octets, "no-store", data)
}

// immutable is for what never changes.
const immutable = "public, max-age=31536000, immutable"

// tile reads the rest of the path as the path of a tile. What is none is not
// there.
func (c *call) tile(prefix string) (audit.Tile, error) {
	t, err := audit.ParseTilePath(prefix + c.Param("*"))
	if err != nil || t.Entries != (prefix == "tile/entries/") {
		return t, fault.Wrap(fault.NotFound, "api.tile", "that is not the path of a tile", err).
			WithHint("tiles are named as C2SP tlog-tiles says")
	}
	return t, nil
}

// public writes a whole answer that is not JSON.
func (c *call) public(kind, cache string, data []byte) error {
	h := c.Response().Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	h.Set("Cache-Control", cache)
	c.Response().WriteHeader(http.StatusOK)
	_, err := c.Response().Write(data)
	return err
}
