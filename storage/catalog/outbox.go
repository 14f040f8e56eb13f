package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var outbox = table[storage.Message]{
	name: "outbox", columns: "id, path, principal, channel, event, content, created_at, due, until, state, attempts, tried_at, problem",
	into: func(m *storage.Message) []any {
		return []any{fixed(m.ID[:]), maybeScope{&m.Client}, fixed(m.Principal[:]), &m.Channel, &m.Event, raw{&m.Content},
			moment{&m.CreatedAt}, moment{&m.Due}, moment{&m.Until}, &m.State, &m.Attempts, moment{&m.TriedAt}, &m.Problem}
	},
	values: func(m *storage.Message) []any {
		return []any{m.ID[:], m.Client.String(), m.Principal[:], string(m.Channel), m.Event, blob(m.Content),
			micros(m.CreatedAt), micros(m.Due), micros(m.Until), string(m.State), int64(m.Attempts), micros(m.TriedAt), m.Problem}
	},
}

// maybeScope scans a scope; the empty text is the zero scope.
type maybeScope struct{ to *dataset.Scope }

func (s maybeScope) Scan(value any) error {
	if value == "" {
		*s.to = dataset.Scope{}
		return nil
	}
	return text{s.to}.Scan(value)
}

// AddMessages adds messages that are to be sent.
func (tx *Tx) AddMessages(ctx context.Context, list ...storage.Message) error {
	return outbox.insert(ctx, tx, "catalog.AddMessages", "", list...)
}

// AddMessagesOnce adds those of the messages whose ID is not there yet.
func (tx *Tx) AddMessagesOnce(ctx context.Context, list ...storage.Message) error {
	return outbox.insert(ctx, tx, "catalog.AddMessagesOnce", " ON CONFLICT (id) DO NOTHING", list...)
}

// Message reads one message.
func (tx *Tx) Message(ctx context.Context, id dataset.MessageID) (storage.Message, error) {
	return outbox.one(ctx, tx, "catalog.Message", "WHERE id = $1", id[:])
}

// DueMessages lists messages that are to be tried at now, at most each of one
// client and channel, so that none of these holds up the others.
func (tx *Tx) DueMessages(ctx context.Context, now time.Time, each, limit int) ([]storage.Message, error) {
	return outbox.list(ctx, tx, "catalog.DueMessages", "WHERE id IN (SELECT id FROM (SELECT id,"+
		" ROW_NUMBER() OVER (PARTITION BY path, channel ORDER BY due, id) AS place"+
		" FROM outbox WHERE state = $1 AND due <= $2) AS ranked WHERE place <= $3) ORDER BY due, id LIMIT $4",
		string(storage.MessageWaiting), micros(now), int64(each), page(limit))
}

// SetMessage writes what became of a message: storage.ErrNoRow if it waits no
// more, because it was sent or given up meanwhile.
func (tx *Tx) SetMessage(ctx context.Context, m storage.Message) error {
	return tx.change(ctx, "catalog.SetMessage",
		"UPDATE outbox SET content = $2, due = $3, state = $4, attempts = $5, tried_at = $6, problem = $7 WHERE id = $1 AND state = $8",
		m.ID[:], blob(m.Content), micros(m.Due), string(m.State), int64(m.Attempts), micros(m.TriedAt), m.Problem, string(storage.MessageWaiting))
}

// Messages lists the messages for a client, the newest first, from the one
// before the given one (zero: the newest of all).
func (tx *Tx) Messages(ctx context.Context, client dataset.Scope, before dataset.MessageID, limit int) ([]storage.Message, error) {
	var w filter
	w.and("path = " + w.arg(client.String()))
	if !before.IsZero() {
		w.and("(created_at, id) < (SELECT created_at, id FROM outbox WHERE id = " + w.arg(before[:]) + ")")
	}
	return outbox.list(ctx, tx, "catalog.Messages", w.where()+"ORDER BY created_at DESC, id DESC LIMIT "+w.arg(page(limit)), w.args...)
}

// MessagesTo lists the mails to a person, the newest first, at most MaxPage.
func (tx *Tx) MessagesTo(ctx context.Context, who dataset.PrincipalID) ([]storage.Message, error) {
	return outbox.list(ctx, tx, "catalog.MessagesTo", "WHERE principal = $1 ORDER BY created_at DESC, id DESC LIMIT $2", who[:], page(0))
}

// DropMessages removes messages that were sent before one time, and dead ones
// that were given up before another.
func (tx *Tx) DropMessages(ctx context.Context, sent, dead time.Time) error {
	_, err := tx.exec(ctx, "catalog.DropMessages", "DELETE FROM outbox WHERE state = $1 AND tried_at < $2 OR state = $3 AND tried_at < $4",
		string(storage.MessageSent), micros(sent), string(storage.MessageDead), micros(dead))
	return err
}

// CountMessages counts the messages that were tried in vain and wait to be tried
// again, and those that were given up.
func (tx *Tx) CountMessages(ctx context.Context) (late, dead int, err error) {
	err = tx.row(ctx, "catalog.CountMessages", "SELECT count(CASE WHEN state = $1 AND attempts > 0 THEN 1 END),"+
		" count(CASE WHEN state = $2 THEN 1 END) FROM outbox",
		[]any{string(storage.MessageWaiting), string(storage.MessageDead)}, &late, &dead)
	return late, dead, err
}
