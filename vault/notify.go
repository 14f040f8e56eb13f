package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/courier"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

// notify tells a client that something has happened at or below it, if it wants
// to hear of such an event: the messages are written in the transaction of the
// record, by its Apply, and sent later. What happens at "/" concerns every client.
// data names no person and no file; its client, scope and record are set here.
func (v *Vault) notify(ctx context.Context, tx *ledger.Tx, event string, at dataset.Scope, data wire.NoticeData) error {
	data.Scope = at
	if at != dataset.Root {
		n, err := tx.Notices(ctx, at.At(1))
		if errors.Is(err, storage.ErrNoRow) {
			return nil
		}
		if err != nil {
			return err
		}
		return v.notifyClient(ctx, tx, n, event, data)
	}
	for after := ""; ; {
		list, err := tx.AllNotices(ctx, after, 0)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, n := range list {
			if err := v.notifyClient(ctx, tx, n, event, data); err != nil {
				return err
			}
			after = n.Client.String()
		}
	}
}

func (v *Vault) notifyClient(ctx context.Context, tx *ledger.Tx, n storage.Notices, event string, data wire.NoticeData) error {
	if !slices.Contains(n.Events, event) {
		return nil
	}
	r, err := v.openReceivers(n)
	if err != nil {
		return err
	}
	return v.notifyThese(ctx, tx, n.Client, r, false, event, data)
}

// notifyThese is notify for certain receivers.
func (v *Vault) notifyThese(ctx context.Context, tx *ledger.Tx, client dataset.Scope, r receivers, former bool, event string, data wire.NoticeData) error {
	list, err := v.noticesTo(tx, client, r, former, event, data)
	if err != nil {
		return err
	}
	return tx.AddMessages(ctx, list...)
}

// noticesTo makes the messages, one for each receiver. Those to former receivers
// carry the secret that signs them: it may be another one by then.
func (v *Vault) noticesTo(tx *ledger.Tx, client dataset.Scope, r receivers, former bool, event string, data wire.NoticeData) ([]storage.Message, error) {
	var list []storage.Message
	index := tx.Index
	data.Client, data.Record = client, &index
	body, err := json.Marshal(wire.Notice{Type: event, Timestamp: tx.Now, Data: data})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "vault.notify", "cannot encode a notice", err)
	}
	add := func(by storage.Channel, out content) error {
		m := v.newMessage(by, event)
		m.Client, m.CreatedAt, m.Due = client, tx.Now, tx.Now
		out.ID, out.Former = m.ID, former
		sealed, err := json.Marshal(out)
		if err == nil {
			m.Content, err = v.keys.SealOwn(ownMessage, sealed)
		}
		list = append(list, m)
		return err
	}
	for _, address := range r.Mail {
		err = errors.Join(err, add(storage.ByMail, content{Mail: v.noticeMail(address, event, tx, data)}))
	}
	for _, url := range r.Webhooks {
		call := hookCall{URL: url, Body: body}
		if former {
			call.Secret = r.Secret
		}
		err = errors.Join(err, add(storage.ByWebhook, content{Hook: &call}))
	}
	return list, err
}

// headlines of notices, in mails.
var headlines = map[string]string{
	wire.NoticePurpose:  "data was read for a new purpose",
	wire.NoticeGrant:    "a role was given",
	wire.NoticeHold:     "a legal hold was changed",
	wire.NoticeGlass:    "an admin reads in an emergency",
	wire.NoticeErasure:  "data was erased",
	wire.NoticeDeadline: "something ends soon",
	wire.NoticeTest:     "this is a test",
	wire.NoticeChanged:  "where notices go was changed",
}

func (v *Vault) noticeMail(to, event string, tx *ledger.Tx, data wire.NoticeData) *letter {
	var b strings.Builder
	where := data.Scope.String()
	if data.Scope == dataset.Root {
		where = "the whole vault"
	}
	fmt.Fprintf(&b, "At %s, %s:\n\n", where, headlines[event])
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "    %-9s%s\n", name+":", value)
		}
	}
	line("time", mailTime(tx.Now))
	line("what", data.What)
	line("purpose", data.Purpose)
	line("role", string(data.Role))
	if data.Until != nil {
		line("until", mailTime(*data.Until))
	}
	line("record", fmt.Sprint(*data.Record))
	fmt.Fprintf(&b, `
The audit log says who did it: dsvault log %[1]s
You get this because %[1]s asked for it: dsvault notices show %[1]s
(%[2]s)
`, data.Client, v.publicURL)
	return &letter{To: to, Subject: data.Client.String() + ": " + headlines[event], Text: b.String()}
}

// hook makes a webhook call of a message, if the client still wants it there.
func (v *Vault) hook(ctx context.Context, m storage.Message, call hookCall, secret string) error {
	if call.Secret != "" {
		secret = call.Secret
	}
	key, err := courier.ParseSecret(secret)
	if err != nil {
		return err
	}
	return v.hooks.Send(ctx, courier.Hook{ID: m.ID.String(), URL: call.URL, Body: call.Body, Secret: key, At: v.now()})
}

// wanted gives the secret that signs a client's webhook calls. A message whose
// receiver was taken away since is fault.Conflict.
func (v *Vault) wanted(ctx context.Context, m storage.Message, out content) (secret string, err error) {
	if m.Client.IsZero() || out.Former {
		return "", nil
	}
	var n storage.Notices
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		n, err = tx.Notices(ctx, m.Client)
		return err
	})
	if err != nil {
		return "", missingRow("client's notices", err)
	}
	r, err := v.openReceivers(n)
	if err != nil {
		return "", err
	}
	if out.Mail != nil && slices.Contains(r.Mail, out.Mail.To) || out.Hook != nil && slices.Contains(r.Webhooks, out.Hook.URL) {
		return r.Secret, nil
	}
	return "", fault.New(fault.Conflict, "vault.wanted", "it is not wanted there any more")
}

// purposeAt is a purpose in a project.
type purposeAt struct {
	project dataset.Scope
	purpose string
}

// watchPurpose has a read note its purpose, if this node does not know it yet,
// and tell the client if nobody has read for it before. The read goes on even if
// that fails. known is to be called once the read is admitted. What is withheld
// because a law requires it has no purpose in its record, and makes no notice.
func (v *Vault) watchPurpose(in *ledger.Intent) (known func()) {
	at := purposeAt{project: in.Query.Object.Scope.Parent()}
	for _, f := range in.Fields {
		if f.ID == audit.FieldPurpose {
			at.purpose = string(f.Value)
		}
	}
	if _, seen := v.purposes.Load(at); seen || at.purpose == "" || in.Apply != nil {
		return func() {}
	}
	noted := false
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		err := tx.Savepoint(ctx, func() error {
			isNew, err := tx.KnowPurpose(ctx, at.project, at.purpose, tx.Now)
			if err == nil && isNew {
				err = v.notify(ctx, tx, wire.NoticePurpose, at.project, wire.NoticeData{Purpose: at.purpose})
			}
			return err
		})
		if noted = err == nil; !noted {
			v.log.WarnContext(ctx, "a client could not be told of a new purpose", "err", err)
		}
		return nil
	}
	return func() {
		if noted {
			v.purposes.Store(at, struct{}{})
			v.wakeOutbox()
		}
	}
}
