package vault

import (
	"context"
	"encoding/json"
	"errors"
	"time"

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
	maxLinks  = 100                 // of one person that hold at a time
	keepLinks = 30 * 24 * time.Hour // that have expired
	minLink   = 10 * time.Second
)

// linkItem is what a link is of, beside the shard: the person's and the
// client's words, sealed under the person's key.
type linkItem struct {
	Link    dataset.LinkID `json:"link"` // so that no other link's can stand in for it
	Member  string         `json:"member,omitempty"`
	Purpose string         `json:"purpose,omitempty"`
}

// CreateLink makes a link to an item that the caller may read opened now. Each
// use of it is decided anew.
func (v *Vault) CreateLink(ctx context.Context, c identity.Caller, req wire.NewLink) (wire.Link, error) {
	const op = "vault.CreateLink"
	ref, err := dataset.ParseShardRef(req.Shard)
	if err != nil {
		return wire.Link{}, err
	}
	of := Item{Shard: ref, Member: req.Member}
	life := time.Duration(req.Seconds) * time.Second
	if req.Seconds == 0 {
		life = wire.LinkLife
	}
	if req.Seconds < 0 || req.Seconds > int(wire.MaxLinkLife/time.Second) || life < minLink {
		return wire.Link{}, fault.New(fault.Invalid, op, "a link lasts from 10 seconds to 24 hours").WithHint("give --for, for example 15m")
	}
	if req.Purpose == dataset.Legal {
		return wire.Link{}, fault.New(fault.Invalid, op, "what a law requires is not disclosed by a link").WithHint("use `dsvault pull --purpose legal`")
	}
	in, found, err := v.openedIntent(ctx, c, of, req.Purpose)
	if err != nil {
		return wire.Link{}, err
	}
	if of.Member != "" { // a link to nothing is of no use
		if _, err := v.member(ctx, c, in, found.shard, of.Member); err != nil {
			return wire.Link{}, err
		}
	}
	secret, err := identity.NewLinkSecret(v.random)
	if err != nil {
		return wire.Link{}, err
	}
	l := storage.ItemLink{
		ID: dataset.NewID[dataset.LinkID](v.random), Hash: secret.Hash(), Principal: c.Principal, Token: c.Token,
		Dataset: ref.Dataset, Shard: ref.Number, Delivery: dataset.Opened,
	}
	item := linkItem{Link: l.ID, Member: of.Member, Purpose: in.Query.Purpose}
	if l.Item, err = v.sealLink(ctx, c.Principal, item); err != nil {
		return wire.Link{}, err
	}
	until := v.now().Add(life)
	in.Kind = audit.KindLinkCreate
	in.Fields = append(in.Fields, audit.BytesField(audit.FieldLinkID, l.ID[:]), audit.Uint64Field(audit.FieldUntil, uint64(until.UnixMicro())))
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		l.CreatedAt, l.Expires = tx.Now, until
		if err := tx.DropLinks(ctx, c.Principal, tx.Now.Add(-keepLinks)); err != nil {
			return err
		}
		holding, err := tx.Links(ctx, c.Principal, tx.Now, dataset.LinkID{}, maxLinks)
		if err != nil {
			return err
		}
		if len(holding) >= maxLinks {
			return fault.New(fault.Conflict, op, "too many links").WithHint("end some: `dsvault link list`, `dsvault link end LINK`")
		}
		return tx.AddLink(ctx, l)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Link{}, err
	}
	out := wireLink(l, item)
	out.Secret = secret.Expose()
	return out, nil
}

func wireLink(l storage.ItemLink, item linkItem) wire.Link {
	ref := dataset.ShardRef{Dataset: l.Dataset, Number: l.Shard}
	return wire.Link{ID: l.ID, Shard: ref.String(), Member: item.Member, Purpose: item.Purpose, Created: l.CreatedAt.UTC(), Until: l.Expires.UTC()}
}

func (v *Vault) sealLink(ctx context.Context, who dataset.PrincipalID, item linkItem) ([]byte, error) {
	data, err := json.Marshal(item)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "vault.sealLink", "cannot encode a link", err)
	}
	return v.keys.SealProfile(ctx, who, data)
}

func (v *Vault) openLink(ctx context.Context, l storage.ItemLink) (item linkItem, err error) {
	data, err := v.keys.OpenProfile(ctx, l.Principal, l.Item)
	if err != nil {
		return item, err
	}
	if err := json.Unmarshal(data, &item); err != nil || item.Link != l.ID {
		return linkItem{}, fault.Wrap(fault.Corrupt, "vault.openLink", "a link is damaged", err)
	}
	return item, nil
}

// Links lists the caller's own links that hold.
func (v *Vault) Links(ctx context.Context, c identity.Caller, after dataset.LinkID, limit int) (wire.Page[wire.Link], error) {
	page := wire.Page[wire.Link]{Items: []wire.Link{}}
	limit = clip(limit, wire.MaxPage)
	var rows []storage.ItemLink
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		rows, err = tx.Links(ctx, c.Principal, v.now(), after, limit)
		return err
	})
	if err != nil {
		return page, err
	}
	for _, l := range rows {
		item, err := v.openLink(ctx, l)
		if err != nil {
			return page, err
		}
		page.Items = append(page.Items, wireLink(l, item))
	}
	if len(rows) == limit {
		page.Next = rows[limit-1].ID.String()
	}
	return page, nil
}

// EndLink ends one of the caller's own links, and the reads that run on it.
func (v *Vault) EndLink(ctx context.Context, c identity.Caller, id dataset.LinkID) (wire.Revoked, error) {
	var l storage.ItemLink
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		l, err = tx.Link(ctx, id, c.Principal)
		return err
	})
	if errors.Is(err, storage.ErrNoRow) {
		return wire.Revoked{}, ledger.Absent()
	}
	if err != nil {
		return wire.Revoked{}, err
	}
	t, err := v.target(ctx, l.Dataset)
	if err != nil {
		return wire.Revoked{}, err
	}
	in := v.own(c, audit.KindLinkEnd, t)
	in.Object = shardObject(t.row.Tag, l.Shard)
	in.Fields = []audit.Field{audit.BytesField(audit.FieldLinkID, id[:])}
	in.PolicyChange = true // reads rest on it
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		err := tx.EndLink(ctx, id, tx.Now)
		if errors.Is(err, storage.ErrNoRow) {
			return ledger.Absent()
		}
		return err
	}
	r, err := v.ledger.Record(ctx, in)
	if err != nil {
		return wire.Revoked{}, err
	}
	return wire.Revoked{Ended: 1, Revision: r.Revision}, nil
}

// Linked is a link that holds: who reads by it, and what.
type Linked struct {
	Caller  identity.Caller
	item    Item
	purpose string
}

// Linked finds a link by its secret. Whatever is wrong with it is the one
// fault.NotFound.
func (v *Vault) Linked(ctx context.Context, secret string, actor ledger.Actor) (Linked, error) {
	seen := v.world.Revision()
	c, l, err := identity.AuthenticateLink(ctx, v.db, secret, v.now(), actor)
	c.Seen = seen
	if fault.Is(err, fault.NotFound) {
		return Linked{}, ledger.Absent()
	}
	if err != nil {
		return Linked{}, err
	}
	if l.Delivery != dataset.Opened {
		return Linked{}, fault.New(fault.Corrupt, "vault.Linked", "a link of an unknown way of delivery")
	}
	item, err := v.openLink(ctx, l)
	of := Item{Shard: dataset.ShardRef{Dataset: l.Dataset, Number: l.Shard}, Member: item.Member}
	return Linked{Caller: c, item: of, purpose: item.Purpose}, err
}

// OpenLinked admits a read by a link, as Open does for its owner. Who holds
// the link need not be that person: a refusal is recorded, and looks like any
// absent thing.
func (v *Vault) OpenLinked(ctx context.Context, l Linked, choose func(Content) []Span) (*OpenedStream, error) {
	s, err := v.Open(ctx, l.Caller, l.item, l.purpose, choose)
	if fault.Is(err, fault.Forbidden) {
		return nil, ledger.Absent()
	}
	return s, err
}
