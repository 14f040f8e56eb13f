package vault

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/courier"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// electOutbox is what the node that sends is elected to.
const electOutbox = "outbox"

const (
	outboxTick  = 2 * time.Second // how often it is looked what is due
	sendAtOnce  = 8               // messages on their way
	dueEach     = 4               // of one client and channel that are taken at a time
	dueAtOnce   = 64
	keepSent    = 7 * 24 * time.Hour
	keepDead    = 30 * 24 * time.Hour
	dropEvery   = time.Hour
	markTimeout = 30 * time.Second
)

// retryAfter is how long to wait after each failed try. After the last one a
// message is dead: about three days after the first.
var retryAfter = [...]time.Duration{
	5 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour,
	4 * time.Hour, 8 * time.Hour, 12 * time.Hour, 24 * time.Hour, 24 * time.Hour,
}

// content is what a message holds, sealed. Its ID is there so that no other's
// can stand in for it.
type content struct {
	ID   dataset.MessageID `json:"id"`
	Mail *letter           `json:"mail,omitempty"`
	Hook *hookCall         `json:"hook,omitempty"`

	Former bool `json:"former,omitempty"` // it goes to where a client's notices went before
}

// letter is a mail.
type letter struct {
	To      string `json:"to"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// hookCall is a webhook call. The secret that signs it is looked up when it is
// made.
type hookCall struct {
	URL    string          `json:"url"`
	Body   json.RawMessage `json:"body"`
	Secret string          `json:"secret,omitempty"` // if it is not to be looked up
}

// mailTo makes the message with a mail to a person, sealed under their key.
func (v *Vault) mailTo(ctx context.Context, who dataset.PrincipalID, event string, l letter) (storage.Message, error) {
	m := v.newMessage(storage.ByMail, event)
	m.Principal = who
	return v.sealMail(ctx, m, l)
}

// sealMail puts a mail into a message to a person.
func (v *Vault) sealMail(ctx context.Context, m storage.Message, l letter) (storage.Message, error) {
	data, err := json.Marshal(content{ID: m.ID, Mail: &l})
	if err == nil {
		m.Content, err = v.keys.SealProfile(ctx, m.Principal, data)
	}
	return m, err
}

func (v *Vault) newMessage(by storage.Channel, event string) storage.Message {
	now := v.now()
	return storage.Message{
		ID: dataset.NewID[dataset.MessageID](v.random), Channel: by, Event: event,
		CreatedAt: now, Due: now, State: storage.MessageWaiting,
	}
}

// ownMessage is the label of a message that is sealed under the vault's own key.
const ownMessage = "message"

func (v *Vault) openMessage(ctx context.Context, m storage.Message) (content, error) {
	var out content
	var data []byte
	var err error
	if m.Principal.IsZero() {
		data, err = v.keys.OpenOwn(ownMessage, m.Content)
	} else {
		data, err = v.keys.OpenProfile(ctx, m.Principal, m.Content)
	}
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(data, &out); err != nil || out.ID != m.ID {
		return content{}, fault.Wrap(fault.Corrupt, "vault.openMessage", "a message is damaged", err)
	}
	return out, nil
}

// wakeOutbox has this node look at once, if it is the one that sends.
func (v *Vault) wakeOutbox() {
	select {
	case v.outbox <- struct{}{}:
	default: // it will look anyway
	}
}

// keepOutbox sends what is due, on one node at a time.
func (v *Vault) keepOutbox(ctx context.Context) {
	tick := time.NewTicker(outboxTick)
	defer tick.Stop()
	var dropped time.Time
	for {
		n, err := v.sendDue(ctx)
		if now := v.now(); err == nil && now.Sub(dropped) >= dropEvery {
			dropped = now
			err = errors.Join(v.db.Update(ctx, func(tx *catalog.Tx) error {
				return tx.DropMessages(ctx, now.Add(-keepSent), now.Add(-keepDead))
			}), v.remind(ctx))
		}
		if err != nil && ctx.Err() == nil {
			v.log.WarnContext(ctx, "the outbox waits", "err", err)
		}
		if err == nil && n > 0 {
			continue // there may be more
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-v.outbox:
		}
	}
}

// sendDue tries what is due and gives how many messages that were.
func (v *Vault) sendDue(ctx context.Context) (int, error) {
	var list []storage.Message
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		list, err = tx.DueMessages(ctx, v.now(), dueEach, dueAtOnce)
		return err
	})
	if err != nil {
		return 0, err
	}
	var send errgroup.Group
	send.SetLimit(sendAtOnce)
	for _, m := range list {
		send.Go(func() error { return v.sendMessage(ctx, m) })
	}
	return len(list), send.Wait()
}

// sendMessage tries one message and writes what became of it. If the node dies
// in between, the message is sent once more, under the same ID.
func (v *Vault) sendMessage(ctx context.Context, m storage.Message) error {
	err := v.bring(ctx, m)
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // it was not the receiver's fault
	}
	m.TriedAt = v.now()
	m.Attempts++
	switch {
	case err == nil:
		m.State, m.Content, m.Problem = storage.MessageSent, nil, ""
	case postpone(&m, err):
		m.Problem = problemOf(err)
	default:
		m.State, m.Content, m.Problem = storage.MessageDead, nil, problemOf(err)
		v.log.WarnContext(ctx, "a message is given up", "message", m.ID, "channel", m.Channel, "event", m.Event, "attempts", m.Attempts, "problem", m.Problem)
	}
	mark, cancel := context.WithTimeout(context.WithoutCancel(ctx), markTimeout)
	defer cancel()
	return none(v.db.Update(mark, func(tx *catalog.Tx) error { return tx.SetMessage(mark, m) }))
}

// postpone sets when a message is tried again, if that is worth it and in time.
func postpone(m *storage.Message, err error) bool {
	if !fault.Is(err, fault.Unavailable) || m.Attempts > len(retryAfter) {
		return false
	}
	m.Due = m.TriedAt.Add(retryAfter[m.Attempts-1])
	return m.Until.IsZero() || m.Due.Before(m.Until)
}

// bring takes one message to its receiver.
func (v *Vault) bring(ctx context.Context, m storage.Message) error {
	const op = "vault.bring"
	if !m.Until.IsZero() && !v.now().Before(m.Until) {
		return fault.New(fault.Conflict, op, "it came to nothing in time")
	}
	out, err := v.openMessage(ctx, m)
	if err != nil {
		return err
	}
	secret, err := v.wanted(ctx, m, out)
	if err != nil {
		return err
	}
	switch {
	case out.Hook != nil:
		return v.hook(ctx, m, *out.Hook, secret)
	case out.Mail != nil && v.mailer != nil:
		return v.mailer.Send(ctx, courier.Mail{
			ID: m.ID.String(), To: out.Mail.To, Subject: out.Mail.Subject, Text: out.Mail.Text, Date: m.CreatedAt,
		})
	case out.Mail != nil:
		return fault.New(fault.Conflict, op, "this vault sends no mail any more")
	}
	return fault.New(fault.Corrupt, op, "a message without content")
}
