package vault

import (
	"archive/zip"
	"context"
	"errors"
	"io"
	"time"

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

// SubjectExport is all that is held about one person, on its way.
type SubjectExport struct {
	Sealed bool   // it is an age file, of the ZIP
	Name   string // of the file

	v     *Vault
	c     identity.Caller
	who   storage.Principal
	to    seal.Recipient // if it is sealed
	index uint64         // of the record that it is given out
	at    time.Time      // of that record
	about []uint64       // records of others about the person
}

// ExportSubject admits a copy of all that is held about somebody, sealed to a
// device key of theirs; or in clear for a request in the register, once. When it
// returns, the copy is in the log; no byte of it has been written yet.
func (v *Vault) ExportSubject(ctx context.Context, c identity.Caller, handle string, req wire.NewSubjectExport) (*SubjectExport, error) {
	in, p, err := v.subject(ctx, c, handle, audit.KindSubjectExport, rbac.Export, rbac.Subject)
	if err != nil {
		return nil, err
	}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return nil, err
	}
	e := &SubjectExport{v: v, c: c, who: p, Sealed: req.Request.IsZero(), Name: p.Handle + "-export.zip"}
	if e.Sealed {
		e.Name += ".age"
		device, err := v.deviceOf(ctx, p, req.Device)
		if err != nil {
			return nil, err
		}
		if e.to, err = seal.ParseRecipient(device.Recipient); err != nil {
			return nil, fault.Wrap(fault.Corrupt, "vault.ExportSubject", "a device key is damaged", err)
		}
		in.Fields = append(in.Fields, audit.StringField(audit.FieldDelivery, string(dataset.Sealed)), audit.BytesField(audit.FieldDeviceID, device.ID[:]))
	} else {
		in.Fields = append(in.Fields, audit.StringField(audit.FieldDelivery, string(dataset.Opened)), audit.BytesField(audit.FieldRequestID, req.Request[:]))
		in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
			return handOver(ctx, tx, p.ID, req.Request)
		}
	}
	r, err := v.ledger.Record(ctx, in)
	if err != nil {
		return nil, err
	}
	e.index, e.at = r.Index, r.Time
	a := anonymizing{v: v, who: p.ID}
	if err := a.look(ctx); err != nil {
		return nil, err
	}
	e.about = a.about
	return e, nil
}

// deviceOf finds a device key of a person that is in use; the zero ID is the one
// that was registered last.
func (v *Vault) deviceOf(ctx context.Context, p storage.Principal, id dataset.DeviceID) (storage.Device, error) {
	const op = "vault.ExportSubject"
	var list []storage.Device
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		list, err = tx.Devices(ctx, p.ID)
		return err
	})
	if err != nil {
		return storage.Device{}, err
	}
	for i := len(list) - 1; i >= 0; i-- {
		if id.IsZero() || list[i].ID == id {
			return list[i], nil
		}
	}
	if id.IsZero() {
		return storage.Device{}, fault.New(fault.Conflict, op, p.Handle+" has no device key that a copy could be sealed to").
			WithHint("they log in first; or hand a copy over: open a request, then --once --request ID")
	}
	return storage.Device{}, fault.New(fault.Invalid, op, "that is not a device key of theirs")
}

// handOver notes at a request that a copy is handed over for it.
func handOver(ctx context.Context, tx *ledger.Tx, who dataset.PrincipalID, id dataset.RightsID) error {
	const op = "vault.handOver"
	r, err := tx.RightsRequest(ctx, id)
	if errors.Is(err, storage.ErrNoRow) || err == nil && r.Principal != who {
		return fault.New(fault.NotFound, op, "there is no such request of theirs").WithHint("`dsvault request list` shows what there is")
	}
	switch {
	case err != nil:
		return err
	case !r.ClosedAt.IsZero():
		return fault.New(fault.Conflict, op, "the request is closed").WithHint("open a new one if there is more to it")
	case r.Kind != dataset.AccessRequest && r.Kind != dataset.PortabilityRequest:
		return fault.New(fault.Conflict, op, "the request does not ask for a copy").WithHint("a request of the kind access or portability does")
	case r.Identity == dataset.NotChecked:
		return fault.New(fault.Conflict, op, "nobody has made sure who asks").WithHint("open the request with --identity document, or person")
	case !r.HandedAt.IsZero():
		return fault.New(fault.Conflict, op, "a copy was handed over for this request already").
			WithHint("that can be done once; if it was lost on the way, open a new request")
	}
	r.HandedAt = tx.Now
	return tx.PutRightsRequest(ctx, r)
}

// Send writes the copy to w. A failure leaves it without an end, and then it does
// not open.
func (e *SubjectExport) Send(ctx context.Context, w io.Writer) error {
	if e.to.IsZero() {
		return e.write(ctx, w)
	}
	sealed, err := seal.Seal(w, e.to)
	if err != nil {
		return err
	}
	if err := e.write(ctx, sealed); err != nil {
		return err
	}
	return sealed.Close()
}

func (e *SubjectExport) write(ctx context.Context, w io.Writer) error {
	z := zip.NewWriter(w)
	head, err := e.create(z, "README.txt")
	if err == nil {
		_, err = io.WriteString(head, exportReadme)
	}
	if err != nil {
		return err
	}
	sections := e.sections()
	counts := make([]int, len(sections))
	for i, s := range sections {
		for _, f := range []struct {
			ending string
			form   func(io.Writer, []string) rowWriter
		}{{".json", newJSONRows}, {".csv", newCSVRows}} {
			out, err := e.create(z, s.name+f.ending)
			if err != nil {
				return err
			}
			rows := f.form(out, s.columns)
			counts[i] = 0
			err = s.rows(ctx, func(cells ...any) error {
				counts[i]++
				if len(cells) != len(s.columns) {
					return fault.New(fault.Internal, "vault.SubjectExport", "a row of "+s.name+" does not fit its columns")
				}
				return rows.row(cells)
			})
			if err == nil {
				err = rows.end()
			}
			if err != nil {
				return err
			}
		}
	}
	if err := e.describe(z, sections, counts); err != nil {
		return err
	}
	return z.Close()
}

func (e *SubjectExport) create(z *zip.Writer, name string) (io.Writer, error) {
	return z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: e.at})
}

// ownRecords streams the records of what the person did, before this copy.
func (e *SubjectExport) ownRecords(ctx context.Context, f func(wire.Record) error) error {
	q := storage.LeafQuery{To: e.index, Principal: e.who.ID, Limit: wire.MaxPage}
	for q.From < q.To {
		page, err := e.records(ctx, q)
		if err != nil {
			return err
		}
		for _, rec := range page {
			if err := f(rec); err != nil {
				return err
			}
			q.From = rec.Index + 1
		}
		if len(page) < q.Limit {
			return nil
		}
	}
	return nil
}

// othersRecords streams the records of others about the person.
func (e *SubjectExport) othersRecords(ctx context.Context, f func(wire.Record) error) error {
	for _, index := range e.about {
		if index == e.index {
			continue
		}
		page, err := e.records(ctx, storage.LeafQuery{From: index, To: index + 1})
		if err != nil {
			return err
		}
		for _, rec := range page {
			if err := f(rec); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *SubjectExport) records(ctx context.Context, q storage.LeafQuery) ([]wire.Record, error) {
	var page []wire.Record
	err := e.v.db.View(ctx, func(tx *catalog.Tx) error {
		var leaves []storage.Leaf
		err := tx.Leaves(ctx, q, func(l storage.Leaf) error {
			leaves = append(leaves, l)
			return nil
		})
		if err != nil {
			return err
		}
		r := e.v.newReader(ctx, e.c, tx)
		for _, l := range leaves {
			rec, err := r.record(l)
			if err != nil {
				return err
			}
			page = append(page, rec)
		}
		return nil
	})
	return page, err
}
