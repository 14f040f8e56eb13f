package catalog

import (
	"context"
	"database/sql"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var principals = table[storage.Principal]{
	name: "principals", columns: "id, handle, service, disabled, region, key_epoch, key_sealed, profile, revision, created_at, created_by, restricted",
	into: func(p *storage.Principal) []any {
		return []any{fixed(p.ID[:]), &p.Handle, flag{&p.Service}, moment{&p.Disabled}, &p.Region, &p.Key.Epoch, raw{&p.Key.Sealed},
			raw{&p.Profile}, &p.Revision, moment{&p.CreatedAt}, fixed(p.CreatedBy[:]), moment{&p.Restricted}}
	},
	values: func(p *storage.Principal) []any {
		return []any{p.ID[:], p.Handle, bit(p.Service), micros(p.Disabled), p.Region, int64(p.Key.Epoch), blob(p.Key.Sealed),
			blob(p.Profile), int64(p.Revision), micros(p.CreatedAt), p.CreatedBy[:], micros(p.Restricted)}
	},
}

// AddPrincipal adds a person or a service; the handle has to be new. A key that
// is sealed to an epoch which is being destroyed is fault.Unavailable.
func (tx *Tx) AddPrincipal(ctx context.Context, p storage.Principal) error {
	if err := tx.checkEpoch(ctx, p.Key); err != nil {
		return err
	}
	return principals.insert(ctx, tx, "catalog.AddPrincipal", "", p)
}

// Principal reads one principal.
func (tx *Tx) Principal(ctx context.Context, id dataset.PrincipalID) (storage.Principal, error) {
	return principals.one(ctx, tx, "catalog.Principal", "WHERE id = $1", id[:])
}

// PrincipalByHandle reads one principal.
func (tx *Tx) PrincipalByHandle(ctx context.Context, handle string) (storage.Principal, error) {
	return principals.one(ctx, tx, "catalog.PrincipalByHandle", "WHERE handle = $1", handle)
}

// Principals lists principals with handles greater than after, in order.
func (tx *Tx) Principals(ctx context.Context, after string, limit int) ([]storage.Principal, error) {
	return principals.list(ctx, tx, "catalog.Principals", "WHERE handle > $1 ORDER BY handle LIMIT $2", after, page(limit))
}

// Handles gives the handles of principals. Those that are not there are left out.
func (tx *Tx) Handles(ctx context.Context, people []dataset.PrincipalID) (map[dataset.PrincipalID]string, error) {
	const op = "catalog.Handles"
	names := make(map[dataset.PrincipalID]string, len(people))
	return names, inChunks(people, func(some []dataset.PrincipalID) error {
		return tx.each(ctx, op, false, "SELECT id, handle FROM principals WHERE id IN ("+placeholders(1, len(some))+")", idArgs(some), func(rows *sql.Rows) error {
			var id dataset.PrincipalID
			var name string
			err := scan(rows, op, fixed(id[:]), &name)
			names[id] = name
			return err
		})
	})
}

// SetDisabled disables a principal at a time, or enables it (zero time).
func (tx *Tx) SetDisabled(ctx context.Context, id dataset.PrincipalID, at time.Time, rev uint64) error {
	return tx.change(ctx, "catalog.SetDisabled",
		"UPDATE principals SET disabled = $2, revision = $3 WHERE id = $1", id[:], micros(at), int64(rev))
}

// SetProfile replaces a principal's wrapped key and the profile sealed under it.
func (tx *Tx) SetProfile(ctx context.Context, id dataset.PrincipalID, key storage.WrappedKey, profile []byte, rev uint64) error {
	return tx.change(ctx, "catalog.SetProfile",
		"UPDATE principals SET key_epoch = $2, key_sealed = $3, profile = $4, revision = $5 WHERE id = $1",
		id[:], int64(key.Epoch), blob(key.Sealed), blob(profile), int64(rev))
}

// PrincipalsSince streams the principals changed after revision rev, in the
// order of their revisions. The transaction cannot be used inside f.
func (tx *Tx) PrincipalsSince(ctx context.Context, rev uint64, f func(storage.Principal, uint64) error) error {
	return since(ctx, tx, &principals, "catalog.PrincipalsSince", rev, func(p storage.Principal) error { return f(p, p.Revision) })
}

var tokens = table[storage.Token]{
	name: "tokens", columns: "id, hash, principal, kind, created_at, expires, ended",
	into: func(t *storage.Token) []any {
		return []any{fixed(t.ID[:]), fixed(t.Hash[:]), fixed(t.Principal[:]), &t.Kind, moment{&t.CreatedAt}, moment{&t.Expires}, moment{&t.Ended}}
	},
	values: func(t *storage.Token) []any {
		return []any{t.ID[:], t.Hash[:], t.Principal[:], string(t.Kind), micros(t.CreatedAt), micros(t.Expires), micros(t.Ended)}
	},
}

// AddToken adds a token; its hash has to be new.
func (tx *Tx) AddToken(ctx context.Context, t storage.Token) error {
	return tokens.insert(ctx, tx, "catalog.AddToken", "", t)
}

// TokenByHash reads a token by the SHA-256 of its secret; it may have expired
// or ended.
func (tx *Tx) TokenByHash(ctx context.Context, hash [32]byte) (storage.Token, error) {
	return tokens.one(ctx, tx, "catalog.TokenByHash", "WHERE hash = $1", hash[:])
}

// Token reads a token by its ID; it may have expired or ended.
func (tx *Tx) Token(ctx context.Context, id dataset.TokenID) (storage.Token, error) {
	return tokens.one(ctx, tx, "catalog.Token", "WHERE id = $1", id[:])
}

// EndToken ends a token: storage.ErrNoRow if it is not there or has ended
// already, so that of two that use up a one-time token, one succeeds.
func (tx *Tx) EndToken(ctx context.Context, id dataset.TokenID, at time.Time) error {
	return tx.change(ctx, "catalog.EndToken", "UPDATE tokens SET ended = $2 WHERE id = $1 AND ended = 0", id[:], micros(at))
}

// EndTokens ends a principal's tokens, except one, and says how many.
func (tx *Tx) EndTokens(ctx context.Context, principal dataset.PrincipalID, except dataset.TokenID, at time.Time) (int, error) {
	n, err := tx.exec(ctx, "catalog.EndTokens", "UPDATE tokens SET ended = $3 WHERE principal = $1 AND id <> $2 AND ended = 0",
		principal[:], except[:], micros(at))
	return int(n), err
}

var devices = table[storage.Device]{
	name: "devices", columns: "id, principal, recipient, name, created_at, removed",
	into: func(d *storage.Device) []any {
		return []any{fixed(d.ID[:]), fixed(d.Principal[:]), &d.Recipient, &d.Name, moment{&d.CreatedAt}, moment{&d.Removed}}
	},
	values: func(d *storage.Device) []any {
		return []any{d.ID[:], d.Principal[:], d.Recipient, d.Name, micros(d.CreatedAt), micros(d.Removed)}
	},
}

// AddDevice adds a device key.
func (tx *Tx) AddDevice(ctx context.Context, d storage.Device) error {
	return devices.insert(ctx, tx, "catalog.AddDevice", "", d)
}

// Device reads one device, in use or removed.
func (tx *Tx) Device(ctx context.Context, id dataset.DeviceID) (storage.Device, error) {
	return devices.one(ctx, tx, "catalog.Device", "WHERE id = $1", id[:])
}

// Devices lists a principal's devices in use, the oldest first, at most MaxPage.
func (tx *Tx) Devices(ctx context.Context, principal dataset.PrincipalID) ([]storage.Device, error) {
	return devices.list(ctx, tx, "catalog.Devices", "WHERE principal = $1 AND removed = 0 ORDER BY created_at, id LIMIT $2", principal[:], page(0))
}

// RemoveDevice takes a device out of use: storage.ErrNoRow if it is not there
// or was removed already.
func (tx *Tx) RemoveDevice(ctx context.Context, id dataset.DeviceID, at time.Time) error {
	return tx.change(ctx, "catalog.RemoveDevice", "UPDATE devices SET removed = $2 WHERE id = $1 AND removed = 0", id[:], micros(at))
}
