package catalog

import (
	"context"

	"dsvault/vault/dataset"
)

// agreements reads and writes whole rows; briefAgreements leaves the text out,
// which may be long.
var (
	agreements = table[revised[dataset.Agreement]]{
		name: "agreements", columns: "name, version, hash, created_by, created_at, grace, revision, text",
		into: func(r *revised[dataset.Agreement]) []any { return append(agreementBrief(r), raw{&r.row.Text}) },
		values: func(r *revised[dataset.Agreement]) []any {
			a := &r.row
			return []any{a.Name, int64(a.Version), a.Hash[:], a.By[:], micros(a.At), micros(a.Grace), int64(r.rev), blob(a.Text)}
		},
	}
	briefAgreements = table[revised[dataset.Agreement]]{
		name: "agreements", columns: "name, version, hash, created_by, created_at, grace, revision",
		into: agreementBrief,
	}
)

func agreementBrief(r *revised[dataset.Agreement]) []any {
	a := &r.row
	return []any{&a.Name, &a.Version, fixed(a.Hash[:]), fixed(a.By[:]), moment{&a.At}, moment{&a.Grace}, &r.rev}
}

// AddAgreement adds a version of an agreement; name and version have to be new.
func (tx *Tx) AddAgreement(ctx context.Context, a dataset.Agreement, rev uint64) error {
	return agreements.insert(ctx, tx, "catalog.AddAgreement", "", revised[dataset.Agreement]{a, rev})
}

// Agreement reads one version of an agreement with its text; version 0 is the
// newest.
func (tx *Tx) Agreement(ctx context.Context, name string, version int) (dataset.Agreement, error) {
	r, err := agreements.one(ctx, tx, "catalog.Agreement",
		"WHERE name = $1 AND (version = $2 OR $2 = 0) ORDER BY version DESC LIMIT 1", name, int64(version))
	return r.row, err
}

// Agreements lists every version of every agreement, by name and version,
// without the texts.
func (tx *Tx) Agreements(ctx context.Context) ([]dataset.Agreement, error) {
	list, err := briefAgreements.list(ctx, tx, "catalog.Agreements", "ORDER BY name, version")
	return rowsOf(list), err
}

// AgreementsSince streams the agreements added after revision rev, in the
// order of their revisions, without the texts. The transaction cannot be used
// inside f.
func (tx *Tx) AgreementsSince(ctx context.Context, rev uint64, f func(dataset.Agreement, uint64) error) error {
	return sinceRevised(ctx, tx, &briefAgreements, "catalog.AgreementsSince", rev, f)
}

var signatures = table[revised[dataset.Signature]]{
	name: "signatures", columns: "principal, agreement, version, hash, signed_at, until, withdrawn, revision",
	into: func(r *revised[dataset.Signature]) []any {
		s := &r.row
		return []any{fixed(s.Principal[:]), &s.Agreement, &s.Version, fixed(s.Hash[:]), moment{&s.At}, moment{&s.Until}, moment{&s.Withdrawn}, &r.rev}
	},
	values: func(r *revised[dataset.Signature]) []any {
		s := &r.row
		return []any{s.Principal[:], s.Agreement, int64(s.Version), s.Hash[:], micros(s.At), micros(s.Until), micros(s.Withdrawn), int64(r.rev)}
	},
}

var signaturesUpsert = signatures.upsert("principal, agreement, version")

// PutSignature adds a person's signature under one version of an agreement,
// or replaces it: signed anew, prolonged or withdrawn. The principal and the
// agreement have to be there: storage.ErrNoRow if not.
func (tx *Tx) PutSignature(ctx context.Context, s dataset.Signature, rev uint64) error {
	return signatures.insert(ctx, tx, "catalog.PutSignature", signaturesUpsert, revised[dataset.Signature]{s, rev})
}

// Signatures lists a principal's signatures, by agreement and version.
func (tx *Tx) Signatures(ctx context.Context, principal dataset.PrincipalID) ([]dataset.Signature, error) {
	list, err := signatures.list(ctx, tx, "catalog.Signatures", "WHERE principal = $1 ORDER BY agreement, version", principal[:])
	return rowsOf(list), err
}

// SignaturesSince streams the signatures changed after revision rev, in the
// order of their revisions. The transaction cannot be used inside f.
func (tx *Tx) SignaturesSince(ctx context.Context, rev uint64, f func(dataset.Signature, uint64) error) error {
	return sinceRevised(ctx, tx, &signatures, "catalog.SignaturesSince", rev, f)
}
