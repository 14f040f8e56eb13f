package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

func testConditions(s *fixture) {
	s.scopeRow(0, "/")
	s.scopeRow(1, "acme")
	s.scopeRow(2, "acme/signs")
	s.scopeRow(3, "acme-2")
	root := storage.Conditions{Scope: scope("/"), Requires: []string{"nda", "house"}, Revision: 3}
	signs := storage.Conditions{Slot: 2, Scope: scope("acme/signs"), ContractorMax: 90 * 24 * time.Hour, ContractorDelivery: []dataset.Delivery{dataset.Opened},
		Hours: []string{"Mon-Fri 08:00-18:00 Europe/Berlin"}, Networks: []string{"192.0.2.0/24", "2001:db8::/48"},
		Transfers: []dataset.Transfer{{Region: "us", Basis: dataset.BasisSCC, Reference: `SCC "7"`}, {Region: "uk", Basis: dataset.BasisAdequacy}}, Revision: 2}
	other := storage.Conditions{Slot: 3, Scope: scope("acme-2"), Revision: 1}
	for _, c := range []storage.Conditions{root, signs, other} {
		s.write(func(ctx context.Context, tx *Tx) error { return tx.PutConditions(ctx, c) })
	}
	at := func(path string) []storage.Conditions {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Conditions, error) {
			return tx.Conditions(ctx, scope(path))
		})
	}
	under := func(path string) []storage.Conditions {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.Conditions, error) {
			return tx.ConditionsUnder(ctx, scope(path))
		})
	}
	same(s, "at a project", at("acme/signs"), []storage.Conditions{root, signs})
	same(s, "at a dataset", at("acme/signs/batch-1"), []storage.Conditions{root, signs})
	same(s, "at a client", at("acme"), []storage.Conditions{root})
	same(s, "at the vault", at("/"), []storage.Conditions{root})
	same(s, "below a client", under("acme"), []storage.Conditions{signs})
	same(s, "everywhere", under("/"), []storage.Conditions{root, other, signs})
	rows, revs := caughtUp(s, 1, (*Tx).ConditionsSince)
	same(s, "since 1", rows, []storage.Conditions{signs, root})
	same(s, "revisions", revs, []uint64{2, 3})
	signs.Hours, signs.ContractorMax, signs.Revision = nil, 0, 9
	s.write(func(ctx context.Context, tx *Tx) error { return tx.PutConditions(ctx, signs) })
	same(s, "changed", at("acme/signs"), []storage.Conditions{root, signs})
	orphan := storage.Conditions{Slot: 9, Scope: scope("beta")}
	failsWith(s, "without a scope", s.try(func(ctx context.Context, tx *Tx) error { return tx.PutConditions(ctx, orphan) }), storage.ErrNoRow)
}

// testMovedConditions: the agreement that a project named is required after the
// migration, and nodes that follow the catalog learn of it.
func testMovedConditions(s *fixture) {
	old := s.before(11)
	db := old.rawDB()
	for slot, path := range []string{"/", "acme/signs", "acme/lamps"} {
		old.rawExec(db, "INSERT INTO scopes (slot, path, tag, created_at, created_by) VALUES ($1, $2, $3, 1, $3)", int64(slot), path, []byte(path + "0123456789abcdef")[:16])
	}
	for slot, agreement := range map[int64]string{1: "nda", 2: ""} {
		path := []string{1: "acme/signs", 2: "acme/lamps"}[slot]
		old.rawExec(db, "INSERT INTO projects (slot, path, purposes, region, sensitive, agreement, contract, revision) VALUES ($1, $2, '[]', '', 0, $3, '', 7)",
			slot, path, agreement)
	}
	db.Close()
	old.db = open(s.T, old.url)
	rows, revs := caughtUp(old, 0, (*Tx).ConditionsSince)
	same(s, "conditions", rows, []storage.Conditions{{Slot: 1, Scope: scope("acme/signs"), Requires: []string{"nda"}, Revision: 7}})
	same(s, "revisions", revs, []uint64{7})
}
