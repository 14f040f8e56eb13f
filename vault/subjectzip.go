package vault

import (
	"archive/zip"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// exportVersion is that of the format of the ZIP.
const exportVersion = 1

const exportReadme = `This is a copy of all that the vault holds about one person.

Each subject is there twice, as NAME.json (an array of objects) and as NAME.csv
(comma-separated, UTF-8, the first line names the columns). Both hold the same.
Times are RFC 3339 in UTC; an empty text, or null in JSON, is "none".

export.json    what this is: format, version, whose it is, when it was made, how
               many rows each subject has
profile        handle, name, addresses, company, region, and when the person was invited
roles          roles that were given, where, until when, by whom and why
assignments    shards of datasets that were assigned
signatures     agreements that were signed: version, SHA-256 of the text, until when
choices        consents to purposes and objections to them
requests       requests in the register, with their reasons and answers
devices        keys that data is sealed to (the public half; nobody has the other)
tokens         logins: when they were made, and when they end (not the secrets)
links          links to single items that the person made
mails          mails to the person that wait, or were sent or given up lately
log            what the person did: each record of the audit log, with the details
               that are kept sealed beside it (address, program, words of the request)
about          records that others made about the person: roles, assignments, access

What is held for longer than the account, and why, is in docs/rights.md of dsvault.
`

// section is one subject of a copy.
type section struct {
	name    string
	columns []string
	rows    func(ctx context.Context, add func(cells ...any) error) error
}

func (e *SubjectExport) sections() []section {
	return []section{
		{"profile", []string{"id", "handle", "kind", "name", "email", "phone", "company", "job_title", "region", "created", "created_by", "disabled", "restricted"}, e.profileRows},
		{"roles", []string{"role", "scope", "given", "by", "until", "ended", "reason"}, e.roleRows},
		{"assignments", []string{"dataset", "shards", "given", "by", "until", "ended"}, e.assignmentRows},
		{"signatures", []string{"agreement", "version", "sha256", "signed", "until", "withdrawn"}, e.signatureRows},
		{"choices", []string{"kind", "purpose", "given", "ended"}, e.choiceRows},
		{"requests", []string{"id", "kind", "state", "received", "deadline", "extended", "identity", "opened", "opened_by", "closed", "closed_by",
			"outcome", "handed_over", "reason", "extension", "answer"}, e.requestRows},
		{"devices", []string{"id", "name", "public_key", "registered"}, e.deviceRows},
		{"tokens", []string{"id", "kind", "made", "expires", "ended"}, e.tokenRows},
		{"links", []string{"id", "shard", "file", "purpose", "made", "until", "ended"}, e.linkRows},
		{"mails", []string{"id", "event", "made", "state", "tried"}, e.mailRows},
		{"log", []string{"index", "time", "kind", "decision", "object", "reason", "fields", "details"}, e.logRows},
		{"about", []string{"index", "time", "kind", "decision", "object", "reason", "fields"}, e.aboutRows},
	}
}

// view reads rows in one snapshot, and gives them to add after it.
func (e *SubjectExport) view(ctx context.Context, add func(cells ...any) error,
	read func(tx *catalog.Tx, name func(dataset.PrincipalID) string, row func(cells ...any)) error) error {
	var rows [][]any
	err := e.v.db.View(ctx, func(tx *catalog.Tx) error {
		return read(tx, e.v.names(ctx, tx), func(cells ...any) { rows = append(rows, cells) })
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := add(row...); err != nil {
			return err
		}
	}
	return nil
}

func (e *SubjectExport) profileRows(ctx context.Context, add func(cells ...any) error) error {
	profile, err := e.v.profile(ctx, e.who)
	if err != nil {
		return err
	}
	return e.view(ctx, add, func(_ *catalog.Tx, name func(dataset.PrincipalID) string, row func(cells ...any)) error {
		kind := "person"
		if e.who.Service {
			kind = "service"
		}
		row(e.who.ID.String(), e.who.Handle, kind, profile.Name, profile.Email, profile.Phone, profile.Company, profile.JobTitle, e.who.Region, e.who.CreatedAt, name(e.who.CreatedBy),
			e.who.Disabled, e.who.Restricted)
		return nil
	})
}

func (e *SubjectExport) roleRows(ctx context.Context, add func(cells ...any) error) error {
	q := storage.GrantQuery{Principal: e.who.ID, IncludeEnded: true, Limit: wire.MaxPage}
	for more := true; more; {
		err := e.view(ctx, add, func(tx *catalog.Tx, name func(dataset.PrincipalID) string, row func(cells ...any)) error {
			list, err := tx.Grants(ctx, q)
			for _, g := range list {
				row(string(g.Role), g.Scope.String(), g.At, name(g.By), g.Until, g.Revoked, g.Reason)
				q.After = g.ID
			}
			more = len(list) == q.Limit
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *SubjectExport) assignmentRows(ctx context.Context, add func(cells ...any) error) error {
	q := storage.AssignmentQuery{Principal: e.who.ID, IncludeEnded: true, Limit: wire.MaxPage}
	for more := true; more; {
		err := e.view(ctx, add, func(tx *catalog.Tx, name func(dataset.PrincipalID) string, row func(cells ...any)) error {
			list, err := tx.Assignments(ctx, q)
			for _, a := range list {
				row(a.Scope.String(), a.Shards.String(), a.At, name(a.By), a.Until, a.Ended)
				q.After = a.ID
			}
			more = len(list) == q.Limit
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *SubjectExport) signatureRows(ctx context.Context, add func(cells ...any) error) error {
	return e.view(ctx, add, func(tx *catalog.Tx, _ func(dataset.PrincipalID) string, row func(cells ...any)) error {
		list, err := tx.Signatures(ctx, e.who.ID)
		for _, s := range list {
			row(s.Agreement, s.Version, fmt.Sprintf("%x", s.Hash), s.At, s.Until, s.Withdrawn)
		}
		return err
	})
}

func (e *SubjectExport) choiceRows(ctx context.Context, add func(cells ...any) error) error {
	return e.view(ctx, add, func(tx *catalog.Tx, _ func(dataset.PrincipalID) string, row func(cells ...any)) error {
		list, err := tx.Choices(ctx, e.who.ID)
		for _, c := range list {
			row(string(c.Kind), c.Purpose, c.At, c.Ended)
		}
		return err
	})
}

func (e *SubjectExport) requestRows(ctx context.Context, add func(cells ...any) error) error {
	q := storage.RightsQuery{Principal: e.who.ID, Limit: wire.MaxPage}
	for more := true; more; {
		err := e.view(ctx, add, func(tx *catalog.Tx, name func(dataset.PrincipalID) string, row func(cells ...any)) error {
			list, err := tx.RightsRequests(ctx, q)
			for _, r := range list {
				words, err := e.v.openRequestWords(ctx, r)
				if err != nil {
					return err
				}
				w := e.v.wireRequest(r, words, name)
				row(w.ID.String(), string(w.Kind), w.State, w.Received, w.Deadline, r.Extended, string(w.Identity), w.Opened, w.OpenedBy,
					r.ClosedAt, w.ClosedBy, string(w.Outcome), r.HandedAt, w.Reason, w.Extension, w.Answer)
				q.After = r.ID
			}
			more = len(list) == q.Limit
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *SubjectExport) deviceRows(ctx context.Context, add func(cells ...any) error) error {
	return e.view(ctx, add, func(tx *catalog.Tx, _ func(dataset.PrincipalID) string, row func(cells ...any)) error {
		list, err := tx.Devices(ctx, e.who.ID)
		for _, d := range list {
			row(d.ID.String(), d.Name, d.Recipient, d.CreatedAt)
		}
		return err
	})
}

func (e *SubjectExport) tokenRows(ctx context.Context, add func(cells ...any) error) error {
	return e.view(ctx, add, func(tx *catalog.Tx, _ func(dataset.PrincipalID) string, row func(cells ...any)) error {
		list, err := tx.Tokens(ctx, e.who.ID)
		for _, t := range list {
			row(t.ID.String(), string(t.Kind), t.CreatedAt, t.Expires, t.Ended)
		}
		return err
	})
}

// mailRows are without the texts: of what was sent none is kept, and what waits
// may have a one-time token in it.
func (e *SubjectExport) mailRows(ctx context.Context, add func(cells ...any) error) error {
	return e.view(ctx, add, func(tx *catalog.Tx, _ func(dataset.PrincipalID) string, row func(cells ...any)) error {
		list, err := tx.MessagesTo(ctx, e.who.ID)
		for _, m := range list {
			row(m.ID.String(), m.Event, m.CreatedAt, string(m.State), m.TriedAt)
		}
		return err
	})
}

func (e *SubjectExport) linkRows(ctx context.Context, add func(cells ...any) error) error {
	var after dataset.LinkID
	for more := true; more; {
		err := e.view(ctx, add, func(tx *catalog.Tx, _ func(dataset.PrincipalID) string, row func(cells ...any)) error {
			list, err := tx.AllLinks(ctx, e.who.ID, after)
			for _, l := range list {
				item, err := e.v.openLink(ctx, l)
				if err != nil {
					return err
				}
				shard := dataset.ShardRef{Dataset: l.Dataset, Number: l.Shard}
				row(l.ID.String(), shard.String(), item.Member, item.Purpose, l.CreatedAt, l.Expires, l.Ended)
				after = l.ID
			}
			more = len(list) == catalog.MaxPage
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *SubjectExport) logRows(ctx context.Context, add func(cells ...any) error) error {
	return e.ownRecords(ctx, func(r wire.Record) error {
		fields, err := json.Marshal(r.Detail)
		if err != nil {
			return fault.Wrap(fault.Internal, "vault.SubjectExport", "cannot encode a record", err)
		}
		return add(r.Index, r.Time, r.Kind, r.Decision, r.Object, r.Reason, json.RawMessage(fields), json.RawMessage(r.Personal))
	})
}

// aboutRows leave out who made the record, and the object where it is another
// person.
func (e *SubjectExport) aboutRows(ctx context.Context, add func(cells ...any) error) error {
	return e.othersRecords(ctx, func(r wire.Record) error {
		fields, err := json.Marshal(r.Detail)
		if err != nil {
			return fault.Wrap(fault.Internal, "vault.SubjectExport", "cannot encode a record", err)
		}
		return add(r.Index, r.Time, r.Kind, r.Decision, r.Object, r.Reason, json.RawMessage(fields))
	})
}

// describe ends the copy with what it is.
func (e *SubjectExport) describe(z *zip.Writer, sections []section, counts []int) error {
	out, err := e.create(z, "export.json")
	if err != nil {
		return err
	}
	rows := map[string]int{}
	for i, s := range sections {
		rows[s.name] = counts[i]
	}
	doc, err := json.MarshalIndent(struct {
		Format  string         `json:"format"`
		Version int            `json:"version"`
		Vault   string         `json:"vault"`
		Person  string         `json:"person"`
		Made    time.Time      `json:"made"`
		Record  uint64         `json:"record"` // index of the record of this copy in the log
		Rows    map[string]int `json:"rows"`
	}{"dsvault-subject-export", exportVersion, e.v.origin, e.who.Handle, e.at, e.index, rows}, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, "vault.SubjectExport", "cannot encode the description", err)
	}
	_, err = out.Write(append(doc, '\n'))
	return err
}

// rowWriter writes rows of one form. Cells are text, numbers, times, or JSON.
type rowWriter interface {
	row(cells []any) error
	end() error
}

type jsonRows struct {
	w       io.Writer
	columns []string
	begun   bool
}

func newJSONRows(w io.Writer, columns []string) rowWriter { return &jsonRows{w: w, columns: columns} }

func (j *jsonRows) row(cells []any) error {
	line := []byte(",\n")
	if !j.begun {
		line = []byte("[\n")
		j.begun = true
	}
	for i, name := range j.columns {
		separator := byte(',')
		if i == 0 {
			separator = '{'
		}
		line = append(line, separator)
		cell := cells[i]
		if t, ok := cell.(time.Time); ok && t.IsZero() {
			cell = nil
		}
		if raw, ok := cell.(json.RawMessage); ok && len(raw) == 0 {
			cell = nil
		}
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		value, err := json.Marshal(cell)
		if err != nil {
			return fault.Wrap(fault.Corrupt, "vault.SubjectExport", "a value cannot be written as JSON", err)
		}
		line = append(append(append(line, key...), ':'), value...)
	}
	_, err := j.w.Write(append(line, '}'))
	return err
}

func (j *jsonRows) end() error {
	text := "\n]\n"
	if !j.begun {
		text = "[]\n"
	}
	_, err := io.WriteString(j.w, text)
	return err
}

type csvRows struct {
	w *csv.Writer
}

func newCSVRows(w io.Writer, columns []string) rowWriter {
	c := csv.NewWriter(w)
	c.Write(columns) // an error comes back from Flush
	return csvRows{c}
}

func (c csvRows) row(cells []any) error {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		switch v := cell.(type) {
		case time.Time:
			if !v.IsZero() {
				texts[i] = v.UTC().Format(time.RFC3339Nano)
			}
		case json.RawMessage:
			texts[i] = string(v)
		default:
			texts[i] = fmt.Sprint(v)
		}
	}
	return c.w.Write(texts)
}

func (c csvRows) end() error {
	c.w.Flush()
	return c.w.Error()
}
