package vault

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"

	"dsvault/rbac"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/wire"
)

// Listing is a file with records of the log on its way.
type Listing struct {
	v      *Vault
	caller identity.Caller
	scan   logScan
	format string
	signed audit.Listing
}

// ListLog prepares a file with the records that q selects, for those who may
// export the log there. That it is made is in the log; the file has the records
// before that. asked is the question as it was put, which is signed with it.
func (v *Vault) ListLog(ctx context.Context, c identity.Caller, q LogQuery, format, asked string) (*Listing, error) {
	const op = "vault.ListLog"
	if format != wire.FormatJSONL && format != wire.FormatCSV {
		return nil, fault.New(fault.Invalid, op, "there is no such format").WithHint("ask for jsonl or csv")
	}
	t, err := v.target(ctx, q.Under)
	if err != nil {
		return nil, err
	}
	in := v.intent(c, audit.KindExport, t, rbac.Export, rbac.Log)
	if !t.known {
		return nil, v.absent(ctx, t, in)
	}
	if len(q.Kinds) > maxKinds {
		return nil, fault.New(fault.Invalid, op, "too many kinds")
	}
	var who dataset.PrincipalID
	if q.Actor != "" {
		p, err := v.principal(ctx, c, q.Actor, in)
		if err != nil {
			return nil, err
		}
		who = p.ID
	}
	in.Object = audit.Object{Kind: audit.ObjectLog, ID: t.row.Tag}
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
	return &Listing{
		v: v, caller: c, format: format,
		scan: logScan{query: q, under: t.scope, who: who, to: receipt.Index, limit: listingStep},
		signed: audit.Listing{
			Time: receipt.Time.Truncate(time.Second), Query: asked, Format: format, Before: receipt.Index, Size: cp.Size, Root: cp.Root,
		},
	}, nil
}

// listingStep is how many records of a listing are read in one snapshot.
const listingStep = 500

// Send writes the file to w and gives the signed note of it. It holds no
// snapshot while w takes its time.
func (l *Listing) Send(ctx context.Context, w io.Writer) ([]byte, error) {
	sum := &counter{hash: sha256.New()}
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10)
	write := jsonLines(out)
	if l.format == wire.FormatCSV {
		var err error
		if write, err = csvLines(out); err != nil {
			return nil, err
		}
	}
	for more := true; more; {
		records, err := l.next(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			if err := write(r); err != nil {
				return nil, err
			}
		}
		l.signed.Records += uint64(len(records))
		more = l.scan.more
	}
	if err := out.Flush(); err != nil {
		return nil, err
	}
	l.signed.Bytes = sum.n
	sum.hash.Sum(l.signed.SHA256[:0])
	return l.v.notary.SignListing(l.signed)
}

// next reads the next records.
func (l *Listing) next(ctx context.Context) (records []wire.Record, err error) {
	l.scan.found, l.scan.more = nil, false
	err = l.v.db.View(ctx, func(tx *catalog.Tx) error {
		if err := l.scan.run(ctx, tx); err != nil {
			return err
		}
		r := l.v.newReader(ctx, l.caller, tx)
		for _, leaf := range l.scan.found {
			rec, err := r.record(leaf)
			if err != nil {
				return err
			}
			records = append(records, rec)
		}
		return nil
	})
	l.scan.query.Cursor.From = l.scan.next
	return records, err
}

func jsonLines(w io.Writer) func(wire.Record) error {
	enc := json.NewEncoder(w)
	return func(r wire.Record) error { return enc.Encode(r) }
}

func csvLines(w io.Writer) (func(wire.Record) error, error) {
	out := csv.NewWriter(w)
	if err := out.Write(wire.ListingColumns); err != nil {
		return nil, err
	}
	return func(r wire.Record) error {
		kind := r.Kind
		if wanted := r.Detail[audit.FieldRefusedKind.String()]; wanted != "" {
			kind = wanted
		}
		detail, err := json.Marshal(r.Detail)
		if err != nil {
			return err
		}
		cells := []string{strconv.FormatUint(r.Index, 10), r.Time.UTC().Format(time.RFC3339Nano), r.Actor, kind, r.Decision,
			r.Object, r.Reason, strconv.FormatUint(r.Slot, 10), r.Hash.String(), string(detail)}
		for i := range cells {
			cells[i] = noFormula(cells[i])
		}
		err = out.Write(cells)
		out.Flush()
		return err
	}, nil
}

// noFormula keeps a spreadsheet from computing a cell.
func noFormula(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
