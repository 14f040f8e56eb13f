package vault

import (
	"context"
	"errors"
	"maps"
	"slices"

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

const maxPurposes = 20

// CreateClient makes a client.
func (v *Vault) CreateClient(ctx context.Context, c identity.Caller, req wire.NewClient) (wire.Entry, error) {
	note, err := checkConditions(req.Scope, &req.Conditions)
	if err != nil {
		return wire.Entry{}, err
	}
	conditions := func(ctx context.Context, tx *ledger.Tx, row storage.ScopeRow) error {
		if len(note) == 0 {
			return nil
		}
		return putConditions(ctx, tx, row.Slot, row.Scope, req.Conditions)
	}
	row, err := v.createScope(ctx, c, req.Scope, 1, rbac.Org, audit.KindClientCreate, nil, note, conditions)
	return wire.Entry{Scope: row.Scope, Kind: "client", Created: row.CreatedAt}, err
}

// CreateProject makes a project with its terms.
func (v *Vault) CreateProject(ctx context.Context, c identity.Caller, req wire.NewProject) (wire.Entry, error) {
	p := storage.Project{
		Purposes: req.Purposes, Consent: req.Consent, Region: req.Region, Sensitive: req.Sensitive,
		Contract: req.Contract, Delivery: req.Delivery, Claims: req.Claims,
	}
	if err := checkTerms(&p); err != nil {
		return wire.Entry{}, err
	}
	if err := checkWhole(p); err != nil {
		return wire.Entry{}, err
	}
	if _, err := v.storeFor(p.Region); err != nil {
		return wire.Entry{}, err
	}
	note, err := checkConditions(req.Scope, &req.Conditions)
	if err != nil {
		return wire.Entry{}, err
	}
	terms := func(ctx context.Context, tx *ledger.Tx, row storage.ScopeRow) error {
		if len(note) > 0 {
			if err := putConditions(ctx, tx, row.Slot, row.Scope, req.Conditions); err != nil {
				return err
			}
		}
		p.Slot, p.Scope, p.Revision = row.Slot, row.Scope, tx.Revision
		return tx.PutProject(ctx, p)
	}
	row, err := v.createScope(ctx, c, req.Scope, 2, rbac.Project, audit.KindProjectCreate, []audit.Field{allowedDelivery(p)}, note, terms)
	return projectEntry(p, row), err
}

// CreateDataset makes a dataset with an age identity of its own, or gives the
// one that is there: a push that was interrupted goes on with it.
func (v *Vault) CreateDataset(ctx context.Context, c identity.Caller, scope dataset.Scope) (wire.Dataset, error) {
	if d, err := v.uploadable(ctx, c, scope); err == nil {
		return v.wireDataset(ctx, d, true)
	} else if !errors.Is(err, errNoDataset) {
		return wire.Dataset{}, err
	}
	recipient, wrapped, err := v.keys.NewDatasetKey()
	if err != nil {
		return wire.Dataset{}, err
	}
	var d storage.Dataset
	add := func(ctx context.Context, tx *ledger.Tx, row storage.ScopeRow) error {
		p, err := tx.Project(ctx, row.Scope.Parent())
		if err != nil {
			return missingRow("project", err)
		}
		store, err := v.storeFor(p.Region)
		if err != nil {
			return err
		}
		d = storage.Dataset{
			ID: row.Tag, Slot: row.Slot, Scope: row.Scope, Tag: row.Tag, State: dataset.Active, Recipient: recipient,
			Salt: v.salt(), Store: store, Revision: tx.Revision, CreatedAt: tx.Now, CreatedBy: c.Principal,
		}
		if err := tx.AddDataset(ctx, d); err != nil {
			return err
		}
		return tx.PutDatasetKey(ctx, d.ID, wrapped)
	}
	if _, err := v.createScope(ctx, c, scope, 3, rbac.Dataset, audit.KindDatasetCreate, nil, nil, add); err != nil {
		if fault.Is(err, fault.Conflict) { // somebody was faster; the upload goes into theirs
			if d, again := v.uploadable(ctx, c, scope); again == nil {
				return v.wireDataset(ctx, d, true)
			}
		}
		return wire.Dataset{}, err
	}
	return v.wireDataset(ctx, d, true)
}

func (v *Vault) salt() [32]byte {
	a, b := dataset.NewID[dataset.RequestID](v.random), dataset.NewID[dataset.RequestID](v.random)
	return [32]byte(slices.Concat(a[:], b[:]))
}

// createScope makes a scope of a given depth under an existing one. Its own
// slot of the log begins with the record of its creation.
func (v *Vault) createScope(ctx context.Context, c identity.Caller, scope dataset.Scope, depth int, obj rbac.Kind, kind audit.Kind,
	fields []audit.Field, note map[string]string, more func(context.Context, *ledger.Tx, storage.ScopeRow) error) (storage.ScopeRow, error) {
	const op = "vault.createScope"
	if scope.Depth() != depth {
		return storage.ScopeRow{}, fault.New(fault.Invalid, op, "that is not the name of a "+string(obj)).
			WithHint("clients are CLIENT, projects CLIENT/PROJECT, datasets CLIENT/PROJECT/DATASET")
	}
	t, err := v.target(ctx, scope)
	if err != nil {
		return storage.ScopeRow{}, err
	}
	in := v.intent(c, kind, t, rbac.Create, obj)
	switch {
	case t.known:
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return storage.ScopeRow{}, err
		}
		return storage.ScopeRow{}, exists(op, scope, nil)
	case t.row.Scope != scope.Parent():
		return storage.ScopeRow{}, v.absent(ctx, t, in)
	}
	row := storage.ScopeRow{Scope: scope, Tag: dataset.NewID[dataset.DatasetID](v.random), CreatedBy: c.Principal}
	in.Place = ledger.Place{Tag: row.Tag}
	in.Object = target{scope: scope, row: row, known: true}.object()
	in.Note = map[string]string{"scope": scope.String()}
	maps.Copy(in.Note, note)
	in.Fields, in.PolicyChange, in.Gives = fields, true, true
	parent := ledger.Place{Slot: t.row.Slot, Tag: t.row.Tag}
	in.Refused = &parent // a refusal belongs to the scope that exists
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		row.Slot, row.CreatedAt = tx.NewSlot(), tx.Now
		in.Place.Slot = row.Slot
		if err := tx.AddScope(ctx, row); err != nil {
			if errors.Is(err, storage.ErrExists) {
				return exists(op, scope, err)
			}
			return err
		}
		if more != nil {
			return more(ctx, tx, row)
		}
		return nil
	}
	_, err = v.ledger.Record(ctx, in)
	return row, err
}

func exists(op string, scope dataset.Scope, err error) error {
	return fault.Wrap(fault.Conflict, op, scope.String()+" is there already", err).WithHint("choose another name")
}

// List gives the scopes below one that the caller may know of, in path order.
func (v *Vault) List(ctx context.Context, c identity.Caller, under dataset.Scope, after string, limit int) (wire.Page[wire.Entry], error) {
	page := wire.Page[wire.Entry]{Items: []wire.Entry{}}
	t, err := v.target(ctx, under)
	if err != nil {
		return page, err
	}
	limit = clip(limit, wire.MaxPage)
	// Rows that the caller may not see are passed over; the work for one page
	// is bounded, and Next goes on from wherever it stopped.
	for scanned := 0; scanned < 20*wire.MaxPage; {
		var rows []storage.ScopeRow
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			if rows, err = tx.ScopesUnder(ctx, t.scope, after, wire.MaxPage); err != nil {
				return err
			}
			glass, err := v.emergencies(ctx, tx)
			if err != nil {
				return err
			}
			for _, row := range rows {
				after = row.Scope.String()
				if row.Scope == dataset.Root {
					continue
				}
				if seen, err := v.visible(ctx, c, row.Scope); err != nil {
					return err
				} else if !seen {
					continue
				}
				e, err := v.entry(ctx, tx, c, row)
				if err != nil {
					return err
				}
				for at, until := range glass {
					if at.Contains(row.Scope) && (e.BreakGlass == nil || e.BreakGlass.Before(until)) {
						e.BreakGlass = timePtr(until)
					}
				}
				page.Items = append(page.Items, e)
				if len(page.Items) == limit {
					break
				}
			}
			return nil
		})
		if err != nil {
			return page, err
		}
		scanned += len(rows)
		if len(page.Items) == limit {
			page.Next = after
			return page, nil
		}
		if len(rows) < wire.MaxPage {
			return v.orAbsent(ctx, c, t, page)
		}
	}
	page.Next = after
	return page, nil
}

// orAbsent turns an empty listing of a scope that the caller may not see, or
// that does not exist, into the one answer for both.
func (v *Vault) orAbsent(ctx context.Context, c identity.Caller, t target, page wire.Page[wire.Entry]) (wire.Page[wire.Entry], error) {
	if len(page.Items) > 0 || t.scope == dataset.Root {
		return page, nil
	}
	in := v.intent(c, audit.KindList, t, rbac.Read, recordKind(t.scope))
	if !t.known {
		return page, v.absent(ctx, t, in)
	}
	_, err := v.ledger.Check(ctx, in)
	return page, err
}

// visible reports whether the caller may know of a scope.
func (v *Vault) visible(ctx context.Context, c identity.Caller, scope dataset.Scope) (bool, error) {
	d, err := v.decide(ctx, rbac.Query{Actor: c.Principal, Action: rbac.Read,
		Object: rbac.Object{Kind: recordKind(scope), Scope: scope, Shard: -1}})
	return d.Allowed || d.Visible, err
}

func (v *Vault) entry(ctx context.Context, tx *catalog.Tx, c identity.Caller, row storage.ScopeRow) (wire.Entry, error) {
	keeping := v.world.Keeping(row.Scope)
	e := wire.Entry{Scope: row.Scope, Created: row.CreatedAt, Held: keeping.Held, Expires: timePtr(keeping.Expires)}
	switch row.Scope.Depth() {
	case 1:
		e.Kind = "client"
	case 2:
		p, err := tx.Project(ctx, row.Scope)
		if err != nil {
			return e, missingRow("project", err)
		}
		entry := projectEntry(p, row)
		entry.Held = e.Held
		return entry, nil
	case 3:
		e.Kind = "dataset"
		d, err := tx.Dataset(ctx, row.Scope)
		if err != nil {
			return e, missingRow("dataset", err)
		}
		e.State, e.Complete, e.Version = d.State, d.Complete, d.Version
		if e.Shards, e.Size, _, err = sizeOf(ctx, tx, d); err != nil {
			return e, err
		}
		mine, err := v.shardsOf(ctx, tx, c.Principal, row.Scope)
		if err != nil {
			return e, err
		}
		e.Assigned = mine.String()
	}
	return e, nil
}

// missingRow says that a row which another row promises is not there.
func missingRow(what string, err error) error {
	if errors.Is(err, storage.ErrNoRow) {
		return fault.Wrap(fault.Corrupt, "vault.entry", "a "+what+" has no record", err).
			WithHint("the catalog is damaged; restore it from a backup")
	}
	return err
}

// shardsOf joins a principal's assignments of a dataset that are in force.
func (v *Vault) shardsOf(ctx context.Context, tx *catalog.Tx, who dataset.PrincipalID, scope dataset.Scope) (dataset.ShardSet, error) {
	rows, err := tx.Assignments(ctx, storage.AssignmentQuery{Principal: who, Under: scope})
	var set dataset.ShardSet
	for _, a := range rows {
		if a.InForce(v.now()) {
			set = set.Union(a.Shards)
		}
	}
	return set, err
}
