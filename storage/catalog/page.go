package catalog

import (
	"context"
	"errors"
	"slices"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

// pageUnder lists rows that w selects, at a scope or below it, that come after one
// of them (the zero ID: from the first on). Each page is one range of an index, or
// two. By time the oldest come first. Otherwise, and if the scope is not the whole
// vault, the rows at the scope itself come first, then those below it by their
// paths; those of one path the oldest first.
func pageUnder[T any](ctx context.Context, tx *Tx, t *table[revised[T]], op string, w filter, under dataset.Scope, byTime bool, after [16]byte, limit int) ([]T, error) {
	var from place
	if after != [16]byte{} {
		var err error
		if from, err = tx.placeOf(ctx, op, t.name, after); err != nil {
			if errors.Is(err, storage.ErrNoRow) { // as after the last one
				err = nil
			}
			return nil, err
		}
	}
	read := func(w filter, order string, limit int64) ([]T, error) {
		list, err := t.list(ctx, tx, op, w.where()+"ORDER BY "+order+" LIMIT "+w.arg(limit), w.args...)
		return rowsOf(list), err
	}
	if byTime || under.IsZero() || under == dataset.Root {
		if from.path != "" {
			w.and("(at, id) > (" + w.arg(from.at) + ", " + w.arg(after[:]) + ")")
		}
		w.under(under)
		return read(w, "at, id", page(limit))
	}
	path, most := under.String(), page(limit)
	var rows []T
	if from.path == "" || from.path == path {
		here := w.clone()
		here.and("path = " + here.arg(path))
		if from.path == path {
			here.and("(at, id) > (" + here.arg(from.at) + ", " + here.arg(after[:]) + ")")
		}
		var err error
		if rows, err = read(here, "at, id", most); err != nil || int64(len(rows)) == most {
			return rows, err
		}
	}
	if from.path > path {
		w.and("(path, at, id) > (" + w.arg(from.path) + ", " + w.arg(from.at) + ", " + w.arg(after[:]) + ")")
	} else {
		w.and("path >= " + w.arg(path+"/"))
	}
	w.and("path < " + w.arg(path+"0")) // the byte after '/'
	below, err := read(w, "path, at, id", most-int64(len(rows)))
	return append(rows, below...), err
}

// place is where a row stands in a list.
type place struct {
	path string
	at   int64
}

func (tx *Tx) placeOf(ctx context.Context, op, table string, id [16]byte) (p place, err error) {
	err = tx.row(ctx, op, "SELECT path, at FROM "+table+" WHERE id = $1", []any{id[:]}, &p.path, &p.at)
	return p, err
}

func (f *filter) clone() filter {
	return filter{conditions: slices.Clone(f.conditions), args: slices.Clone(f.args)}
}
