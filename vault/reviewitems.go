package vault

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"time"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/wire"
)

// accessAt collects who has access at a review's scope, why, since when, and when
// they used it last.
func (v *Vault) accessAt(ctx context.Context, r storage.Review) ([]storage.ReviewItem, error) {
	a := access{v: v, review: r, now: v.now(), last: map[lastKey]time.Time{}, unsigned: map[lastAgreement]bool{}}
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		a.standing, err = newStanding(ctx, tx, a.now)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := a.grants(ctx, storage.GrantQuery{Under: r.Scope}); err != nil {
		return nil, err
	}
	decidable := len(a.items)
	if !r.Here {
		if err := a.assignments(ctx); err != nil {
			return nil, err
		}
		decidable = len(a.items)
		if r.Scope != dataset.Root {
			if err := a.grants(ctx, storage.GrantQuery{At: r.Scope.Parent()}); err != nil {
				return nil, err
			}
		}
	}
	if decidable == 0 {
		return nil, errNoAccess
	}
	return a.items, nil
}

// access is a collection of items on its way.
type access struct {
	v        *Vault
	review   storage.Review
	now      time.Time
	standing *standing // of signatures
	items    []storage.ReviewItem
	last     map[lastKey]time.Time
	unsigned map[lastAgreement]bool
}

type lastKey struct {
	who   dataset.PrincipalID
	scope dataset.Scope // zero: anything at all
}

type lastAgreement struct {
	who  dataset.PrincipalID
	name string
}

func (a *access) add(i storage.ReviewItem) error {
	if len(a.items) == wire.MaxReviewItems {
		return fault.New(fault.TooLarge, "vault.StartReview", "more than 20,000 ways of access in one review").WithHint("review the scopes below it one by one")
	}
	i.Review, i.Number = a.review.ID, len(a.items)
	a.items = append(a.items, i)
	return nil
}

func (a *access) grants(ctx context.Context, q storage.GrantQuery) error {
	q.Limit = rowPage
	for {
		var rows []dataset.Grant
		err := a.v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			if rows, err = tx.Grants(ctx, q); err != nil {
				return err
			}
			for _, g := range rows {
				if !g.InForce(a.now) || a.review.Here && g.Scope != a.review.Scope {
					continue
				}
				i := storage.ReviewItem{Kind: storage.ItemGrant, Access: g.ID, Principal: g.Principal, Role: g.Role, Scope: g.Scope,
					Since: g.At, Until: g.Until, By: g.By}
				if !a.review.Scope.Contains(g.Scope) {
					i.Kind = storage.ItemAbove
				}
				err := a.look(ctx, tx, &i, requiredOf(a.standing.conditions, g))
				if err == nil {
					err = a.add(i)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(rows) < q.Limit {
			return err
		}
		q.After = rows[len(rows)-1].ID
	}
}

func (a *access) assignments(ctx context.Context) error {
	q := storage.AssignmentQuery{Under: a.review.Scope, Limit: rowPage}
	for {
		var rows []dataset.Assignment
		err := a.v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			if rows, err = tx.Assignments(ctx, q); err != nil {
				return err
			}
			for _, g := range rows {
				if !g.InForce(a.now) || g.Claim { // a claim ends by itself within days
					continue
				}
				i := storage.ReviewItem{Kind: storage.ItemAssignment, Access: g.ID, Principal: g.Principal, Scope: g.Scope, Shards: g.Shards,
					Since: g.At, Until: g.Until, By: g.By}
				err := a.look(ctx, tx, &i, nil)
				if err == nil {
					err = a.add(i)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(rows) < q.Limit {
			return err
		}
		q.After = rows[len(rows)-1].ID
	}
}

// personal are records of an account's own upkeep, which is no use of access.
var personal = []uint16{uint16(audit.KindLogin), uint16(audit.KindDeviceAdd), uint16(audit.KindDeviceRemove), uint16(audit.KindTokenRotate)}

// look finds out what a reviewer should know of an item.
func (a *access) look(ctx context.Context, tx *catalog.Tx, i *storage.ReviewItem, agreements []string) error {
	var err error
	if i.LastUse, err = a.lastUse(ctx, tx, i.Principal, i.Scope, personal...); err != nil {
		return err
	}
	latest, err := a.lastUse(ctx, tx, i.Principal, dataset.Scope{})
	if err != nil {
		return err
	}
	long := a.now.Add(-unusedAfter)
	i.Findings = []string{}
	if i.LastUse.Before(long) && i.Since.Before(long) {
		i.Findings = append(i.Findings, findUnused)
	}
	p, err := tx.Principal(ctx, i.Principal)
	if err != nil {
		return missingRow("person", err)
	}
	if latest.Before(long) && p.CreatedAt.Before(long) {
		i.Findings = append(i.Findings, findStale)
	}
	if !p.Disabled.IsZero() {
		i.Findings = append(i.Findings, findDisabled)
	}
	for _, name := range agreements {
		lacks, err := a.lacks(ctx, tx, i.Principal, name)
		if err != nil {
			return err
		}
		if lacks {
			i.Findings = append(i.Findings, findUnsigned)
			break
		}
	}
	return nil
}

func (a *access) lastUse(ctx context.Context, tx *catalog.Tx, who dataset.PrincipalID, scope dataset.Scope, except ...uint16) (time.Time, error) {
	key := lastKey{who, scope}
	at, known := a.last[key]
	if !known {
		var err error
		if at, err = tx.LastUse(ctx, who, scope, except...); err != nil {
			return at, err
		}
		a.last[key] = at
	}
	return at, nil
}

// lacks reports whether somebody has no signature in force of an agreement.
func (a *access) lacks(ctx context.Context, tx *catalog.Tx, who dataset.PrincipalID, name string) (bool, error) {
	key := lastAgreement{who, name}
	lacks, known := a.unsigned[key]
	if known {
		return lacks, nil
	}
	list, err := tx.Signatures(ctx, who)
	lacks = !a.standing.status(name, list).InForce()
	a.unsigned[key] = lacks
	return lacks, err
}

// reviewDigest is over the decisions of a review: a line for each item, of its
// number, its kind, the ID of its access in hexadecimal, and the decision.
type reviewDigest struct{ hash.Hash }

func newReviewDigest() reviewDigest { return reviewDigest{sha256.New()} }

func (d reviewDigest) add(i storage.ReviewItem) {
	fmt.Fprintf(d, "%d %s %x %s\n", i.Number, i.Kind, i.Access, i.Decision)
}

func (d reviewDigest) sum() []byte { return d.Sum(nil) }

func (v *Vault) wireReview(ctx context.Context, r storage.Review) (out wire.AccessReview, err error) {
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		out, err = wireReview(ctx, tx, r, v.names(ctx, tx))
		return err
	})
	return out, err
}

func wireReview(ctx context.Context, tx *catalog.Tx, r storage.Review, name func(dataset.PrincipalID) string) (wire.AccessReview, error) {
	n, err := tx.CountReview(ctx, r.ID)
	if err != nil {
		return wire.AccessReview{}, err
	}
	findings, err := tx.CountFindings(ctx, r.ID)
	return wire.AccessReview{
		ID: r.ID, Scope: r.Scope, Here: r.Here, Period: r.Period, State: string(r.State), Started: r.StartedAt.UTC(), By: name(r.StartedBy),
		Deadline: r.Deadline.UTC(), Ended: timePtr(r.EndedAt), Items: r.Items, Undecided: n.Undecided, Kept: n.Kept, Revoked: n.Revoked,
		Expired: n.Expired, Findings: findings, Digest: r.Digest,
	}, err
}

func wireItem(ctx context.Context, tx *catalog.Tx, i storage.ReviewItem, name func(dataset.PrincipalID) string) (wire.ReviewItem, error) {
	w := wire.ReviewItem{
		Number: i.Number, Kind: string(i.Kind), Access: dataset.GrantID(i.Access).String(), Person: name(i.Principal), Role: i.Role, Scope: i.Scope,
		Shards: i.Shards, Since: i.Since.UTC(), Until: timePtr(i.Until), By: name(i.By), LastUse: timePtr(i.LastUse), Findings: i.Findings,
		Decision: string(i.Decision), Decided: timePtr(i.DecidedAt), Reviewer: name(i.DecidedBy),
	}
	if w.Findings == nil {
		w.Findings = []string{}
	}
	if i.Kind == storage.ItemAssignment {
		w.Access = dataset.AssignmentID(i.Access).String()
		return w, nil
	}
	g, err := tx.GrantByID(ctx, i.Access)
	if err == nil {
		w.Reason = g.Reason
	}
	return w, none(err)
}

// ReviewResult is the signed result of a review on its way.
type ReviewResult struct {
	v      *Vault
	review storage.Review
	signed audit.Listing
}

// ReviewResult prepares the signed result of a review that has ended, for those
// who may read who has access there. That it is made is in the log.
func (v *Vault) ReviewResult(ctx context.Context, c identity.Caller, id dataset.ReviewID) (*ReviewResult, error) {
	const op = "vault.ReviewResult"
	r, t, _, err := v.reviewFor(ctx, c, id, audit.KindList, rbac.Read)
	if err != nil {
		return nil, err
	}
	if r.State != storage.ReviewEnded {
		return nil, fault.New(fault.Conflict, op, "the review has not ended").WithHint("`dsvault review finish " + id.String() + "` ends it once every item is decided")
	}
	in := v.intent(c, audit.KindExport, t, rbac.Read, rbac.GrantObj)
	in.Fields = []audit.Field{audit.BytesField(audit.FieldReviewID, r.ID[:])}
	receipt, err := v.ledger.Record(ctx, in)
	if err != nil {
		return nil, err
	}
	signed, err := v.notary.Await(ctx, receipt.Index+1)
	if err != nil {
		return nil, err
	}
	cp, err := v.notary.Read(signed.Note)
	if err != nil {
		return nil, err
	}
	return &ReviewResult{v: v, review: r, signed: audit.Listing{
		Time: receipt.Time.Truncate(time.Second), Query: "review=" + id.String(), Format: wire.ReviewFormat, Before: receipt.Index, Size: cp.Size, Root: cp.Root,
	}}, nil
}

// Send writes the file to w and gives the signed note of it.
func (r *ReviewResult) Send(ctx context.Context, w io.Writer) ([]byte, error) {
	sum := &counter{hash: sha256.New()}
	out := json.NewEncoder(io.MultiWriter(w, sum))
	head, err := r.v.wireReview(ctx, r.review)
	if err != nil {
		return nil, err
	}
	if err := out.Encode(head); err != nil {
		return nil, err
	}
	for after := -1; ; {
		var items []wire.ReviewItem
		err := r.v.db.View(ctx, func(tx *catalog.Tx) error {
			rows, err := tx.ReviewItems(ctx, r.review.ID, false, after, rowPage)
			names := r.v.names(ctx, tx)
			for _, i := range rows {
				item, err := wireItem(ctx, tx, i, names)
				if err != nil {
					return err
				}
				items = append(items, item)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, i := range items {
			after = i.Number
			if err := out.Encode(i); err != nil {
				return nil, err
			}
		}
		r.signed.Records += uint64(len(items))
		if len(items) < rowPage {
			break
		}
	}
	r.signed.Bytes = sum.n
	sum.hash.Sum(r.signed.SHA256[:0])
	return r.v.notary.SignListing(r.signed)
}
