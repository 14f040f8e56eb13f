package vault

import (
	"context"
	"errors"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// ResultQuery selects returned work of a dataset.
type ResultQuery struct {
	Shard  int    // -1: of every shard
	State  string // empty: any
	Latest bool   // only the newest of each author on each shard
	After  string
	Limit  int
}

// Results lists returned work: all of it to the owner and the reviewers, to an
// annotator their own.
func (v *Vault) Results(ctx context.Context, c identity.Caller, scope dataset.Scope, q ResultQuery) (wire.Page[wire.Work], error) {
	page := wire.Page[wire.Work]{Items: []wire.Work{}}
	sel := storage.WorkQuery{First: 0, Last: dataset.MaxShards, State: storage.WorkState(q.State), Latest: q.Latest, Limit: clip(q.Limit, wire.MaxPage)}
	switch sel.State {
	case "", storage.WorkSubmitted, storage.WorkAccepted, storage.WorkSentBack:
	default:
		return page, fault.New(fault.Invalid, "vault.Results", "no such state of work").WithHint("states are submitted, accepted and sent-back")
	}
	if q.Shard >= 0 {
		sel.First, sel.Last = q.Shard, q.Shard
	}
	if q.After != "" {
		after, err := dataset.ParseID[dataset.WorkID](q.After)
		if err != nil {
			return page, err
		}
		sel.After = after
	}
	t, err := v.target(ctx, scope)
	if err != nil {
		return page, err
	}
	in := v.intent(c, audit.KindList, t, rbac.Read, rbac.Annotation)
	if !t.known || scope.Depth() != 3 {
		return page, v.absent(ctx, t, in)
	}
	p, err := v.projectOf(ctx, t.scope)
	if err != nil {
		return page, err
	}
	if len(p.Purposes) > 0 {
		in.Query.Purpose = p.Purposes[0] // nothing is read yet
	}
	all, err := v.allowed(ctx, in.Query)
	if err != nil {
		return page, err
	}
	if !all {
		in.Query.Object.Owner, sel.Author = c.Principal, c.Principal
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return page, err
		}
	}
	sel.Dataset = t.row.Tag
	var rows []storage.Work
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		rows, err = tx.ListWork(ctx, sel)
		names := v.names(ctx, tx)
		for _, w := range rows {
			page.Items = append(page.Items, wireWork(w, names))
		}
		return err
	})
	if err != nil {
		return page, err
	}
	for i, w := range rows { // not in the View: a key may take another
		if page.Items[i].Reason, err = v.reasonOf(ctx, w); err != nil {
			return page, err
		}
	}
	if len(rows) == sel.Limit {
		page.Next = rows[len(rows)-1].ID.String()
	}
	return page, nil
}

// reasonOf opens why work was sent back; what was destroyed with its author's
// key, or is damaged, stays empty.
func (v *Vault) reasonOf(ctx context.Context, w storage.Work) (string, error) {
	if len(w.Note) == 0 {
		return "", nil
	}
	plain, err := v.keys.OpenProfile(ctx, w.Author, w.Note)
	switch {
	case errors.Is(err, ledger.ErrForgotten):
		return "", nil
	case fault.Is(err, fault.Unavailable), fault.Is(err, fault.Canceled):
		return "", err
	case err != nil:
		v.log.WarnContext(ctx, "the reason why work was sent back does not open", "work", w.ID, "err", err)
	}
	return string(plain), nil
}

func (v *Vault) projectOf(ctx context.Context, ds dataset.Scope) (p storage.Project, err error) {
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		p, err = tx.Project(ctx, ds.Parent())
		return missingRow("project", err)
	})
	return p, err
}

// findWork finds returned work of a dataset.
func (v *Vault) findWork(ctx context.Context, t target, id dataset.WorkID) (w storage.Work, known bool, err error) {
	if !t.known || t.scope.Depth() != 3 {
		return w, false, nil
	}
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		w, err = tx.Work(ctx, id)
		known = err == nil && w.Dataset == t.row.Tag
		return none(err)
	})
	return w, known, err
}

// ReadResult admits a read of returned work, sealed to the caller's device key.
// It is recorded as a read of the shard that names the work; when it returns, the
// read is in the log and no byte has left storage yet.
func (v *Vault) ReadResult(ctx context.Context, c identity.Caller, scope dataset.Scope, id dataset.WorkID, device dataset.DeviceID, purpose string) (*ShardStream, error) {
	if err := checkText("purpose", purpose, 63); err != nil {
		return nil, err
	}
	t, err := v.target(ctx, scope)
	if err != nil {
		return nil, err
	}
	in := v.intent(c, audit.KindRead, t, rbac.Read, rbac.Annotation)
	in.Note = map[string]string{"object": scope.String() + " " + id.String()}
	w, known, err := v.findWork(ctx, t, id)
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, v.absent(ctx, t, in)
	}
	p, err := v.projectOf(ctx, t.scope)
	if err != nil {
		return nil, err
	}
	in.Query.Object.Shard, in.Query.Object.Owner = w.Number, w.Author
	in.Object = shardObject(w.Dataset, w.Number)
	in.Note["object"] = dataset.ShardRef{Dataset: scope, Number: w.Number}.String()
	stateTerms(&in, p, purpose)
	to, err := v.readerKey(ctx, c, device)
	if err != nil { // but nobody learns of it who may not read
		if _, refused := v.ledger.Check(ctx, in); refused != nil {
			err = refused
		}
		return nil, err
	}
	if err := v.resultKept(ctx, in, w); err != nil {
		return nil, err
	}
	part, err := wholeShard(w.Stored())
	if err != nil {
		return nil, err
	}
	size := int64(seal.HeaderSize()) + part.size
	in.Access = &ledger.Access{Dataset: w.Dataset, Shard: w.Number, MaxBytes: size}
	in.Fields = append(in.Fields,
		audit.StringField(audit.FieldDelivery, string(dataset.Sealed)), audit.BytesField(audit.FieldDeviceID, device[:]),
		audit.Uint64Field(audit.FieldMaxBytes, uint64(size)), audit.StringField(audit.FieldContent, "result"), audit.BytesField(audit.FieldWorkID, w.ID[:]))
	r, err := v.admit(ctx, c, in, w.Stored())
	if err != nil {
		return nil, err
	}
	s := &ShardStream{reading: r, Size: size, part: part}
	if s.header, err = s.rewrap(part.header, to); err == nil {
		err = s.prepareManifest(to)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// resultKept refuses work whose retention is over, to those who may read it.
func (v *Vault) resultKept(ctx context.Context, in ledger.Intent, w storage.Work) error {
	over := false
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		over, err = resultOver(ctx, tx, w, v.now())
		return err
	})
	if err != nil || !over {
		return err
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return err
	}
	return fault.New(fault.Gone, "vault.ReadResult", "the retention of this result is over").
		WithHint("`dsvault retention list " + w.Scope.String() + "` shows how long results are kept")
}

// readerKey gives the recipient of a device key of the caller's that is in use.
func (v *Vault) readerKey(ctx context.Context, c identity.Caller, id dataset.DeviceID) (seal.Recipient, error) {
	const op = "vault.readerKey"
	var d storage.Device
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		d, err = tx.Device(ctx, id)
		return none(err)
	})
	if err != nil {
		return seal.Recipient{}, err
	}
	if d.Principal != c.Principal || !d.Removed.IsZero() {
		return seal.Recipient{}, fault.New(fault.Invalid, op, "that is not a device key of yours").
			WithHint("register this machine's key with `dsvault login`")
	}
	to, err := seal.ParseRecipient(d.Recipient)
	if err != nil {
		err = fault.Wrap(fault.Corrupt, op, "a device key is damaged", err)
	}
	return to, err
}

// JudgeWork accepts returned work or sends it back; nobody judges their own. What
// is accepted ends its author's claim of the shard.
func (v *Vault) JudgeWork(ctx context.Context, c identity.Caller, scope dataset.Scope, id dataset.WorkID, req wire.Judgement) (wire.Work, error) {
	const op = "vault.JudgeWork"
	t, err := v.target(ctx, scope)
	if err != nil {
		return wire.Work{}, err
	}
	in := v.intent(c, audit.KindReview, t, rbac.Review, rbac.Annotation)
	w, known, err := v.findWork(ctx, t, id)
	if err != nil {
		return wire.Work{}, err
	}
	if !known {
		return wire.Work{}, v.absent(ctx, t, in)
	}
	in.Query.Object.Shard, in.Query.Object.Owner = w.Number, w.Author
	in.Object = shardObject(w.Dataset, w.Number)
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return wire.Work{}, err
	}
	if err := checkText("reason", req.Reason, wire.MaxReason); err != nil {
		return wire.Work{}, err
	}
	w.State = storage.WorkAccepted
	if !req.Accept {
		if req.Reason == "" {
			return wire.Work{}, fault.New(fault.Invalid, op, "nobody can mend what they are not told").WithHint("say why it is sent back: --reason")
		}
		w.State = storage.WorkSentBack
	}
	if req.Reason != "" {
		w.Note, err = v.keys.SealProfile(ctx, w.Author, []byte(req.Reason))
		if err != nil && !errors.Is(err, ledger.ErrForgotten) {
			return wire.Work{}, err
		}
		in.Note = map[string]string{"reason": req.Reason}
	}
	tag, err := v.keys.Tag(ctx, w.Author, t.row.Tag)
	if err == nil {
		in.Fields = append(in.Fields, audit.BytesField(audit.FieldSubjectTag, tag[:]))
	} else if !errors.Is(err, ledger.ErrForgotten) {
		return wire.Work{}, err
	}
	in.Fields = append(in.Fields, audit.BytesField(audit.FieldWorkID, w.ID[:]), audit.StringField(audit.FieldJudgement, string(w.State)))
	in.PolicyChange = req.Accept
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		w.DecidedAt, w.DecidedBy = tx.Now, c.Principal
		err := tx.DecideWork(ctx, w)
		if errors.Is(err, storage.ErrNoRow) {
			return fault.Wrap(fault.Conflict, op, "this work was judged already, or its author has returned newer work", err).
				WithHint("`dsvault results ls " + scope.String() + "` shows how things stand")
		}
		if err != nil || !req.Accept {
			return err
		}
		a, ok, err := claimOf(ctx, tx.Tx, dataset.ShardRef{Dataset: scope, Number: w.Number}, w.Author)
		if err != nil || !ok {
			return err
		}
		return tx.EndAssignment(ctx, a.ID, tx.Now, tx.Revision)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Work{}, err
	}
	out, err := v.wireWork(ctx, w)
	out.Reason = req.Reason
	return out, err
}
