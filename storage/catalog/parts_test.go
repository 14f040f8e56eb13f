package catalog

import (
	"context"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

func testParts(s *fixture) {
	d := s.dataset(1, "acme/signs/batch-1", 1)
	a := storage.Attempt{ID: newID[dataset.AttemptID](), Dataset: d.ID, Key: "v1/parts", PlainSize: 1, Fingerprint: fresh(), StartedAt: day(1), StartedBy: newID[dataset.PrincipalID]()}
	start := func(ctx context.Context, tx *Tx) error { return tx.StartParts(ctx, a.ID, "upload", 8<<20) }
	finish := func(ctx context.Context, tx *Tx) error { return tx.FinishParts(ctx, a.ID) }
	announce := func(list ...storage.AnnouncedPart) func(context.Context, *Tx) error {
		return func(ctx context.Context, tx *Tx) error { return tx.AnnounceParts(ctx, a.ID, list) }
	}
	announced := func() []storage.AnnouncedPart {
		return get(s, func(ctx context.Context, tx *Tx) ([]storage.AnnouncedPart, error) { return tx.Parts(ctx, a.ID) })
	}
	failsWith(s, "start what is not there", s.try(start), storage.ErrNoRow)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.AddAttempt(ctx, a) })
	failsWith(s, "start unclaimed", s.try(start), storage.ErrNoRow)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.ClaimAttempt(ctx, a.ID) })
	failsWith(s, "finish without an upload", s.try(finish), storage.ErrNoRow)
	s.write(start)
	failsWith(s, "start again", s.try(start), storage.ErrNoRow)
	a.SealedSize, a.Upload, a.PartSize = storage.Claimed, "upload", 8<<20
	same(s, "started", get(s, func(ctx context.Context, tx *Tx) (storage.Attempt, error) { return tx.Attempt(ctx, a.ID) }), a)

	one, two := storage.AnnouncedPart{Number: 1, SHA256: fresh()}, storage.AnnouncedPart{Number: 2, SHA256: fresh()}
	s.write(announce(two))
	s.write(announce(one, two))
	failsWith(s, "other bytes", s.try(announce(storage.AnnouncedPart{Number: 3, SHA256: fresh()}, storage.AnnouncedPart{Number: 2, SHA256: fresh()})), storage.ErrExists)
	same(s, "announced", announced(), []storage.AnnouncedPart{one, two})

	s.write(finish)
	failsWith(s, "finish again", s.try(finish), storage.ErrNoRow)
	store := func(ctx context.Context, tx *Tx) error { return tx.StoreAttempt(ctx, a.ID, "e", 9, fresh()) }
	s.write(store)
	failsWith(s, "store again", s.try(store), storage.ErrNoRow)
	s.write(func(ctx context.Context, tx *Tx) error { return tx.DropAttempt(ctx, a.ID) })
	same(s, "dropped", announced(), nil)
}
