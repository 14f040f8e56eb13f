package vault

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

const (
	maxDisclosure = 30 * 24 * time.Hour
	maxWithheld   = 10 * 366 * 24 * time.Hour
)

// Disclose asks that the caller may read shards because a law requires it. It
// takes effect when another admin has approved: then reads for the purpose
// "legal" are allowed, and each names the disclosure. Where it is to be withheld
// from the client for a time, request and approval are recorded in the vault's
// own slot of the log; reads never are anywhere but in the dataset's.
func (v *Vault) Disclose(ctx context.Context, c identity.Caller, req wire.NewDisclosure) (wire.Disclosure, error) {
	t, err := v.target(ctx, req.Dataset)
	if err != nil {
		return wire.Disclosure{}, err
	}
	in := v.intent(c, audit.KindDisclose, t, rbac.Disclose, rbac.Dataset)
	if !t.known || t.scope.Depth() != 3 {
		return wire.Disclosure{}, v.absent(ctx, t, in)
	}
	if err := v.mayAsk(ctx, in); err != nil {
		return wire.Disclosure{}, err
	}
	d, err := v.checkDisclosure(ctx, req, t)
	if err != nil {
		return wire.Disclosure{}, err
	}
	d.Principal = c.Principal
	if d.Terms, err = v.sealWords(ctx, c.Principal, d.ID.String(), req.Reference); err != nil {
		return wire.Disclosure{}, err
	}
	if !d.Withheld.IsZero() {
		root, err := v.root(ctx)
		if err != nil {
			return wire.Disclosure{}, err
		}
		in.Place = root.place()
	}
	in.Object = audit.Object{Kind: audit.ObjectDisclosure, ID: d.ID}
	in.Fields = []audit.Field{shardSetField(d.Shards), audit.BytesField(audit.FieldDocumentHash, d.Document[:]),
		audit.Uint64Field(audit.FieldUntil, uint64(d.Until.UnixMicro()))}
	if !d.Withheld.IsZero() {
		in.Fields = append(in.Fields, audit.Uint64Field(audit.FieldWithheldUntil, uint64(d.Withheld.UnixMicro())))
	}
	in.Note = map[string]string{"dataset": t.scope.String(), "reference": req.Reference}
	in.PolicyChange, in.Gives = true, true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		d.At, d.Revision = tx.Now, tx.Revision
		return tx.AddDisclosure(ctx, d)
	}
	second, err := v.twoPeopleWithheld(ctx, c, &in, map[string]string{
		"shards": d.Shards.String(), "reference": req.Reference, "document": hex.EncodeToString(d.Document[:]),
		"until": timeTerm(d.Until), "withheld-until": timeTerm(d.Withheld),
	}, d.Withheld)
	if err != nil {
		return wire.Disclosure{}, err
	}
	out := wire.Disclosure{ID: d.ID, Dataset: d.Scope, Shards: d.Shards, Reference: req.Reference, Document: d.Document[:],
		Until: d.Until, WithheldUntil: timePtr(d.Withheld), Pending: second.Pending}
	if out.Pending != nil {
		out.ID = dataset.DisclosureID{} // there is none yet
		return out, nil
	}
	d.ApprovedBy = second.By
	_, err = v.ledger.Record(ctx, in)
	return out, err
}

// discloseAsAsked is Disclose for what an approval was given for.
func (v *Vault) discloseAsAsked(ctx context.Context, asker identity.Caller, scope dataset.Scope, terms map[string]string) error {
	req := wire.NewDisclosure{Dataset: scope, Reference: terms["reference"]}
	var err error
	if req.Shards, err = dataset.ParseShardSet(terms["shards"]); err != nil {
		return err
	}
	if req.Until, err = termTime(terms["until"]); err != nil {
		return err
	}
	if req.WithheldUntil, err = termTime(terms["withheld-until"]); err != nil {
		return err
	}
	if req.Document, err = hex.DecodeString(terms["document"]); err != nil {
		return fault.Wrap(fault.Corrupt, "vault.discloseAsAsked", "the terms of a request are damaged", err)
	}
	_, err = v.Disclose(ctx, asker, req)
	return err
}

func (v *Vault) checkDisclosure(ctx context.Context, req wire.NewDisclosure, t target) (storage.Disclosure, error) {
	const op = "vault.Disclose"
	invalid := func(message, hint string) (storage.Disclosure, error) {
		return storage.Disclosure{}, fault.New(fault.Invalid, op, message).WithHint(hint)
	}
	if err := checkText("reference", req.Reference, wire.MaxReason); err != nil {
		return storage.Disclosure{}, err
	}
	until, err := v.until(req.Until)
	if err != nil {
		return storage.Disclosure{}, err
	}
	withheld, err := v.until(req.WithheldUntil)
	if err != nil {
		return storage.Disclosure{}, err
	}
	now := v.now()
	switch {
	case strings.TrimSpace(req.Reference) == "":
		return invalid("a disclosure names the order that requires it", "give its --reference")
	case len(req.Document) != 32:
		return invalid("a disclosure has the SHA-256 of the order", "give the file: --document")
	case len(req.Shards) == 0:
		return invalid("no shards named", "name them with --shards, for example 0-3,7")
	case until.IsZero() || until.Sub(now) > maxDisclosure:
		return invalid("a disclosure ends within 30 days", "give --for, for example 7d")
	case !withheld.IsZero() && withheld.Sub(now) > maxWithheld:
		return invalid("nothing is withheld for more than ten years", "give an earlier --withhold-until")
	}
	d := storage.Disclosure{ID: dataset.NewID[dataset.DisclosureID](v.random), Dataset: t.row.Tag, Scope: t.scope, Shards: req.Shards,
		Document: [32]byte(req.Document), Until: until, Withheld: withheld}
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		_, have, _, _, err := tx.ShardSum(ctx, d.Dataset, d.Shards)
		if err == nil && have != d.Shards.Len() {
			err = fault.New(fault.Invalid, op, "the dataset has no such shard").WithHint("`dsvault ls " + t.scope.String() + "` shows which it has")
		}
		return err
	})
	return d, err
}

// stateLegal completes a read for the purpose "legal" with the disclosure that
// it is part of. Where there is none the decision refuses it.
func (v *Vault) stateLegal(ctx context.Context, c identity.Caller, in *ledger.Intent, f found) error {
	if in.Query.Purpose != dataset.Legal || !f.known {
		return nil
	}
	var list []storage.Disclosure
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		list, err = tx.Disclosures(ctx, c.Principal, f.shard.Dataset, v.now())
		return err
	})
	i := slices.IndexFunc(list, func(d storage.Disclosure) bool { return d.Shards.Has(f.shard.Number) })
	if err != nil || i < 0 {
		return err
	}
	d := list[i]
	if in.Note["reference"], err = v.openWords(ctx, c.Principal, d.ID.String(), d.Terms); err != nil {
		return err
	}
	in.Fields = slices.DeleteFunc(in.Fields, func(f audit.Field) bool { return f.ID == audit.FieldPurpose })
	if v.now().Before(d.Withheld) {
		in.Withheld = true
		in.Note["purpose"], in.Note["disclosure"], in.Note["document"] = dataset.Legal, d.ID.String(), hex.EncodeToString(d.Document[:])
		in.Fields = append(in.Fields, audit.Uint64Field(audit.FieldWithheldUntil, uint64(d.Withheld.UnixMicro())))
		return nil
	}
	delete(in.Note, "purpose")
	in.Fields = append(in.Fields, audit.StringField(audit.FieldPurpose, dataset.Legal), audit.BytesField(audit.FieldDisclosureID, d.ID[:]),
		audit.BytesField(audit.FieldDocumentHash, d.Document[:]))
	return nil
}

// withholds reports whether somebody is not to be told, yet, what is withheld
// below a scope because a law requires it.
func (v *Vault) withholds(ctx context.Context, c identity.Caller, scope dataset.Scope) (bool, error) {
	may, err := v.allowed(ctx, rbac.Query{Actor: c.Principal, Action: rbac.Disclose, Object: rbac.Object{Kind: rbac.Log, Scope: scope, Shard: -1}})
	return !may, err
}

// withheld reports whether a leaf's details are withheld at now.
func withheld(leaf *audit.Leaf, now time.Time) bool {
	until, ok := leaf.Uint64(audit.FieldWithheldUntil)
	return ok && uint64(now.UnixMicro()) < until
}
