package catalog

import (
	"context"
	"encoding/json"
	"slices"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var scopes = table[storage.ScopeRow]{
	name: "scopes", columns: "slot, path, tag, created_at, created_by",
	into: func(s *storage.ScopeRow) []any {
		return []any{&s.Slot, text{&s.Scope}, fixed(s.Tag[:]), moment{&s.CreatedAt}, fixed(s.CreatedBy[:])}
	},
	values: func(s *storage.ScopeRow) []any {
		return []any{int64(s.Slot), s.Scope.String(), s.Tag[:], micros(s.CreatedAt), s.CreatedBy[:]}
	},
}

// AddScope adds a scope; its slot, path and tag have to be new.
func (tx *Tx) AddScope(ctx context.Context, s storage.ScopeRow) error {
	return scopes.insert(ctx, tx, "catalog.AddScope", "", s)
}

// Scope reads one scope.
func (tx *Tx) Scope(ctx context.Context, scope dataset.Scope) (storage.ScopeRow, error) {
	return scopes.one(ctx, tx, "catalog.Scope", "WHERE path = $1", scope.String())
}

// ScopeBySlot reads the scope of a slot.
func (tx *Tx) ScopeBySlot(ctx context.Context, slot uint64) (storage.ScopeRow, error) {
	return scopes.one(ctx, tx, "catalog.ScopeBySlot", "WHERE slot = $1", int64(slot))
}

// ScopesFrom lists the scopes whose slot is at least slot, in the order in
// which they were made.
func (tx *Tx) ScopesFrom(ctx context.Context, slot uint64, limit int) ([]storage.ScopeRow, error) {
	return scopes.list(ctx, tx, "catalog.ScopesFrom", "WHERE slot >= $1 ORDER BY slot LIMIT $2", int64(slot), page(limit))
}

// ClientsFrom streams the clients whose slot is at least slot, in the order in
// which they were made. The transaction cannot be used inside f.
func (tx *Tx) ClientsFrom(ctx context.Context, slot uint64, f func(storage.ScopeRow) error) error {
	return scopes.each(ctx, tx, "catalog.ClientsFrom", "WHERE slot >= $1 AND path <> '/' AND path NOT LIKE '%/%' ORDER BY slot", []any{int64(slot)}, f)
}

// ScopesUnder lists scope and those below it, ordered by path, from the first
// path greater than after.
func (tx *Tx) ScopesUnder(ctx context.Context, scope dataset.Scope, after string, limit int) ([]storage.ScopeRow, error) {
	var w filter
	w.and("path > " + w.arg(after))
	w.under(scope)
	return scopes.list(ctx, tx, "catalog.ScopesUnder", w.where()+"ORDER BY path LIMIT "+w.arg(page(limit)), w.args...)
}

var projects = table[storage.Project]{
	name: "projects", columns: "slot, path, purposes, region, sensitive, contract, delivery, revision, consent, claims",
	into: func(p *storage.Project) []any {
		return []any{&p.Slot, text{&p.Scope}, text{(*words[string])(&p.Purposes)}, &p.Region, flag{&p.Sensitive}, &p.Contract,
			text{(*words[dataset.Delivery])(&p.Delivery)}, &p.Revision, text{(*words[string])(&p.Consent)}, flag{&p.Claims}}
	},
	values: func(p *storage.Project) []any {
		return []any{int64(p.Slot), p.Scope.String(), words[string](p.Purposes).String(), p.Region, bit(p.Sensitive), p.Contract,
			words[dataset.Delivery](p.Delivery).String(), int64(p.Revision), words[string](p.Consent).String(), bit(p.Claims)}
	},
}

var projectsUpsert = projects.upsert("slot")

// PutProject adds or replaces a project's terms. Its scope has to be there.
func (tx *Tx) PutProject(ctx context.Context, p storage.Project) error {
	return projects.insert(ctx, tx, "catalog.PutProject", projectsUpsert, p)
}

// Project reads one project.
func (tx *Tx) Project(ctx context.Context, scope dataset.Scope) (storage.Project, error) {
	return projects.one(ctx, tx, "catalog.Project", "WHERE path = $1", scope.String())
}

// ProjectsSince streams the projects changed after revision rev, in the order
// of their revisions. The transaction cannot be used inside f.
func (tx *Tx) ProjectsSince(ctx context.Context, rev uint64, f func(storage.Project, uint64) error) error {
	return since(ctx, tx, &projects, "catalog.ProjectsSince", rev, func(p storage.Project) error { return f(p, p.Revision) })
}

// since streams the rows of a table with a revision column.
func since[T any](ctx context.Context, tx *Tx, t *table[T], op string, rev uint64, f func(T) error) error {
	return t.each(ctx, tx, op, "WHERE revision > $1 ORDER BY revision", []any{int64(rev)}, f)
}

// words is a list of strings, kept as a JSON array.
type words[T ~string] = items[T]

// items is a list, kept as a JSON array; an empty one reads as nil.
type items[T any] []T

func (w items[T]) String() string {
	b, err := json.Marshal(slices.Clip(append([]T{}, w...)))
	if err != nil {
		panic("catalog: a list that is not JSON: " + err.Error())
	}
	return string(b)
}

func (w *items[T]) UnmarshalText(b []byte) error {
	*w = nil
	var list []T
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	if len(list) > 0 {
		*w = list
	}
	return nil
}
