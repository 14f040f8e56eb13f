package vault

import (
	"context"
	"encoding/json"
	"errors"
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

// ReportQuery says what an audit report is about.
type ReportQuery struct {
	Under       dataset.Scope
	From, Until time.Time // the time; Until is not included
	IdleDays    int       // without what counts as activity before somebody is idle
}

const (
	maxReportSpan = 400 * 24 * time.Hour
	maxIdleDays   = 3660
)

// Report sums up the log below a scope over some time, for those who may read
// it there; that is recorded as looking is. It goes through the records once,
// and keeps a row for each dataset and person, not for each record.
func (v *Vault) Report(ctx context.Context, c identity.Caller, q ReportQuery) (wire.AuditReport, error) {
	const op = "vault.Report"
	var out wire.AuditReport
	switch {
	case q.From.IsZero() || !q.Until.After(q.From) || q.Until.Sub(q.From) > maxReportSpan:
		return out, fault.New(fault.Invalid, op, "the time of a report has a beginning and an end, at most 400 days apart")
	case q.IdleDays < 1 || q.IdleDays > maxIdleDays:
		return out, fault.New(fault.Invalid, op, "idle is from 1 to 3660 days")
	}
	t, err := v.target(ctx, q.Under)
	if err != nil {
		return out, err
	}
	in := v.intent(c, audit.KindLogRead, t, rbac.Read, rbac.Log)
	if !t.known {
		return out, v.absent(ctx, t, in)
	}
	in.Fields = []audit.Field{audit.StringField(audit.FieldAction, "report")}
	receipt, err := v.ledger.Record(ctx, in)
	if err != nil {
		return out, err
	}
	hides, err := v.withholds(ctx, c, t.scope)
	if err != nil {
		return out, err
	}
	r := newReport(v, c, t.scope, q, hides, receipt)
	if err := r.readLog(ctx); err != nil {
		return out, err
	}
	if err := r.readHolders(ctx); err != nil {
		return out, err
	}
	if err := r.readReviews(ctx); err != nil {
		return out, err
	}
	return r.finish(), nil
}

// report is one on its way. Maps are keyed by what ends up in one row.
type report struct {
	v      *Vault
	caller identity.Caller
	hides  bool // what is withheld
	scope  dataset.Scope
	query  ReportQuery
	made   time.Time
	end    uint64 // of the records that are looked at
	out    wire.AuditReport

	reads    map[readsKey]*wire.ReportReads
	open     map[uint64]readsKey // reads without their end
	refusals map[refusalKey]*refusalCount
	verified map[string]*wire.ReportVerified
	left     map[string]int
	names    map[dataset.PrincipalID]string
	scopes   map[uint64]string
	standing *standing
}

// person is who a record is by: a principal, or a pseudonym.
type person struct {
	id  dataset.PrincipalID
	tag [16]byte // if there is no id
}

type readsKey struct {
	slot uint64
	who  person
}

type refusalKey struct{ kind, reason string }

type refusalCount struct {
	count  int
	people map[person]struct{}
}

func newReport(v *Vault, c identity.Caller, scope dataset.Scope, q ReportQuery, hides bool, receipt ledger.Receipt) *report {
	r := &report{v: v, caller: c, hides: hides, scope: scope, query: q, made: receipt.Time, end: receipt.Index,
		reads: map[readsKey]*wire.ReportReads{}, open: map[uint64]readsKey{}, refusals: map[refusalKey]*refusalCount{},
		verified: map[string]*wire.ReportVerified{}, left: map[string]int{},
		names: map[dataset.PrincipalID]string{}, scopes: map[uint64]string{}}
	r.out = wire.AuditReport{Scope: scope, From: q.From.UTC(), Until: q.Until.UTC(), Made: receipt.Time, IdleDays: q.IdleDays,
		Reads: []wire.ReportReads{}, Refusals: []wire.ReportRefusals{}, Changes: []wire.ReportChange{}, Idle: []wire.ReportIdle{},
		Checks: []wire.ReportCheck{}, Verified: []wire.ReportVerified{}, Signed: []wire.ReportAgreement{}, Reviews: []wire.AccessReview{}}
	return r
}

// readLog goes through the records, some in one snapshot.
func (r *report) readLog(ctx context.Context) error {
	var from, to uint64
	err := r.v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		if from, err = tx.LeafSince(ctx, r.query.From.UnixMicro()); err != nil {
			return err
		}
		to, err = tx.LeafSince(ctx, r.query.Until.UnixMicro())
		return err
	})
	to = min(to, r.end)
	for err == nil && from < to {
		next := min(from+maxScan, to)
		var later []storage.Leaf // what needs more than the leaf
		err = r.v.db.View(ctx, func(tx *catalog.Tx) error {
			q := storage.LeafQuery{From: from, To: next, Under: r.scope}
			err := tx.Leaves(ctx, q, func(l storage.Leaf) error { return r.add(l, &later) })
			if err != nil {
				return err
			}
			return r.resolve(ctx, tx, later)
		})
		from = next
	}
	return err
}

// add counts one record, or puts it off until the transaction can be used.
func (r *report) add(l storage.Leaf, later *[]storage.Leaf) error {
	leaf, err := audit.ParseLeaf(l.Data)
	if err != nil {
		return damagedRecord(l.Index, err)
	}
	r.out.Records++
	who := person{id: l.Principal}
	if r.hides && withheld(&leaf, r.made) {
		who = person{}
	}
	if who.id.IsZero() {
		who.tag = leaf.Actor
	}
	if leaf.Decision == audit.Refused {
		r.refused(leaf, who)
		return nil
	}
	switch leaf.Kind {
	case audit.KindRead:
		r.read(l.Index, leaf, readsKey{leaf.Slot, who})
	case audit.KindReadEnd:
		r.readEnd(leaf, readsKey{leaf.Slot, who})
	case audit.KindGrant, audit.KindRevoke, audit.KindAssign, audit.KindUnassign, audit.KindCheckEnd:
		*later = append(*later, l)
	case audit.KindLogRead:
		if _, ok := leaf.Bytes(audit.FieldNonce); ok { // proofs were fetched
			*later = append(*later, l)
		}
	}
	return nil
}

func (r *report) refused(leaf audit.Leaf, who person) {
	kind, _ := leaf.Uint64(audit.FieldRefusedKind)
	reason, _, _ := strings.Cut(leaf.Reason, "; ")
	key := refusalKey{audit.Kind(kind).String(), reason}
	n := r.refusals[key]
	if n == nil {
		if len(r.refusals) == wire.MaxReport {
			r.left["refusals"]++
			return
		}
		n = &refusalCount{people: map[person]struct{}{}}
		r.refusals[key] = n
	}
	n.count++
	n.people[who] = struct{}{}
}

func (r *report) read(index uint64, leaf audit.Leaf, key readsKey) {
	row := r.reads[key]
	if row == nil {
		if len(r.reads) == wire.MaxReport {
			r.left["reads"]++
			return
		}
		row = &wire.ReportReads{}
		r.reads[key] = row
	}
	row.Reads++
	row.Open++
	row.Last = time.UnixMicro(leaf.Time).UTC()
	r.open[index] = key
}

// readEnd adds what a read has sent. One that began before the report's time is
// counted by its bytes.
func (r *report) readEnd(leaf audit.Leaf, key readsKey) {
	index, _ := leaf.Uint64(audit.FieldRefIndex)
	if began, known := r.open[index]; known { // a crash ends reads in nobody's name
		key = began
		r.reads[key].Open--
		delete(r.open, index)
	}
	row := r.reads[key]
	if row == nil {
		if key.who == (person{}) || len(r.reads) == wire.MaxReport {
			r.left["reads"]++
			return
		}
		row = &wire.ReportReads{Last: time.UnixMicro(leaf.Time).UTC()}
		r.reads[key] = row
	}
	sent, _ := leaf.Uint64(audit.FieldBytesSent)
	if cause, _ := leaf.Text(audit.FieldCause); cause == string(ledger.Crashed) {
		row.AtMost += sent
		return
	}
	row.Bytes += sent
}

// resolve adds the records that need names.
func (r *report) resolve(ctx context.Context, tx *catalog.Tx, list []storage.Leaf) error {
	rd := r.v.newReader(ctx, r.caller, tx)
	for _, l := range list {
		rec, err := rd.record(l)
		if err != nil {
			return err
		}
		leaf, err := audit.ParseLeaf(l.Data)
		if err != nil {
			return damagedRecord(l.Index, err)
		}
		switch leaf.Kind {
		case audit.KindCheckEnd:
			r.check(rec, leaf)
		case audit.KindLogRead:
			r.verify(rec)
		default:
			r.change(rec)
		}
	}
	return nil
}

func (r *report) check(rec wire.Record, leaf audit.Leaf) {
	if len(r.out.Checks) == wire.MaxReport {
		r.left["checks"]++
		return
	}
	number := func(id audit.FieldID) uint64 {
		n, _ := leaf.Uint64(id)
		return n
	}
	extent, _ := leaf.Text(audit.FieldExtent)
	state, _ := leaf.Text(audit.FieldCause)
	r.out.Checks = append(r.out.Checks, wire.ReportCheck{
		Index: rec.Index, Time: rec.Time, Scope: rec.Object, Extent: extent, State: state, Checked: number(audit.FieldCount),
		Missing: number(audit.FieldMissing), Changed: number(audit.FieldChanged), Extra: number(audit.FieldExtra), Repaired: number(audit.FieldRepaired),
	})
}

func (r *report) verify(rec wire.Record) {
	row := r.verified[rec.Actor]
	if row == nil {
		if len(r.verified) == wire.MaxReport {
			r.left["verified"]++
			return
		}
		row = &wire.ReportVerified{Person: rec.Actor}
		r.verified[rec.Actor] = row
	}
	row.Times++
	row.Last = rec.Time
}

func (r *report) change(rec wire.Record) {
	if len(r.out.Changes) == wire.MaxReport {
		r.left["changes"]++
		return
	}
	var personal struct {
		Note struct {
			Person string `json:"person"`
		} `json:"note"`
	}
	// Details that were destroyed leave the pseudonym.
	if json.Unmarshal(rec.Personal, &personal) != nil || personal.Note.Person == "" {
		personal.Note.Person = "~" + rec.Detail[audit.FieldSubjectTag.String()]
	}
	r.out.Changes = append(r.out.Changes, wire.ReportChange{
		Index: rec.Index, Time: rec.Time, Kind: rec.Kind, By: rec.Actor, Person: personal.Note.Person, Scope: rec.Object,
		Role: rec.Detail[audit.FieldRole.String()], Shards: rec.Detail[audit.FieldShardSet.String()],
	})
}

// scopeOf gives the name of a slot.
func (r *report) scopeOf(ctx context.Context, tx *catalog.Tx, slot uint64) (string, error) {
	name, known := r.scopes[slot]
	if !known {
		row, err := tx.ScopeBySlot(ctx, slot)
		if err != nil && !errors.Is(err, storage.ErrNoRow) {
			return "", err
		}
		name = row.Scope.String()
		r.scopes[slot] = name
	}
	return name, nil
}
