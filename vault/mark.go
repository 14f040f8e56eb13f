package vault

import (
	"context"
	"encoding/json"
	"io"
	"strings"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/fault"
)

// markKey is the object by which a store names the vault that it belongs to.
const (
	markKey = "vault"
	maxMark = 512
)

// storeMark is what a store says of itself. A store that a vault was moved to has
// an ID, which the catalog has, too: so the one that it was moved from is told
// from it. It is unfinished until the catalog says so.
type storeMark struct {
	owner      string
	id         string // 32 hex digits; empty: nothing was ever moved to it
	unfinished bool
}

// markOwner names a vault, by its log, and a region.
func markOwner(origin, region string) string {
	if region == "" {
		return origin
	}
	return origin + "\nregion " + region
}

const (
	markID         = "\nstore "
	markUnfinished = "\nunfinished"
)

func (m storeMark) text() string {
	text := m.owner
	if m.id != "" {
		text += markID + m.id
	}
	if m.unfinished {
		text += markUnfinished
	}
	return text
}

func parseMark(text string) (m storeMark) {
	text, m.unfinished = strings.CutSuffix(text, markUnfinished)
	m.owner, m.id, _ = strings.Cut(text, markID)
	return m
}

// readMark is storage.ErrNoObject for a store that has none.
func readMark(ctx context.Context, objects storage.Objects, key string) (storeMark, error) {
	r, err := objects.Open(ctx, key, 0, -1, "")
	if err != nil {
		return storeMark{}, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxMark))
	return parseMark(string(text)), err
}

func writeMark(ctx context.Context, objects storage.Objects, key string, m storeMark) error {
	_, err := objects.Put(ctx, key, strings.NewReader(m.text()), int64(len(m.text())))
	return err
}

// metaStores is where the catalog keeps storeIDs, as JSON.
const metaStores = "stores"

// storeIDs says by region where objects were moved to; a region that is not in
// Now is where it was at first.
type storeIDs struct {
	Now       map[string]string `json:"now"`
	Next      map[string]string `json:"next"`      // being copied to
	Switching map[string]bool   `json:"switching"` // all are there: ETags change to those of Next
}

func readStores(ctx context.Context, tx *catalog.Tx) (s storeIDs, err error) {
	text, err := tx.Meta(ctx, metaStores)
	if err == nil && json.Unmarshal(text, &s) != nil {
		err = fault.New(fault.Corrupt, "vault.readStores", "the catalog's note of its object stores is damaged").
			WithHint("restore a backup of the catalog")
	}
	if s.Now == nil {
		s.Now = map[string]string{}
	}
	if s.Next == nil {
		s.Next = map[string]string{}
	}
	if s.Switching == nil {
		s.Switching = map[string]bool{}
	}
	return s, none(err)
}

func (s storeIDs) write(ctx context.Context, tx *catalog.Tx) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fault.Wrap(fault.Internal, "vault.storeIDs", "cannot encode", err)
	}
	return tx.SetMeta(ctx, metaStores, text)
}
