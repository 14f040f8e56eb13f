package vault

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"dsvault/rbac"
	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/courier"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/wire"
)

// receivers are where a client's notices go, sealed under the vault's own key.
type receivers struct {
	Mail     []string `json:"mail,omitempty"`
	Webhooks []string `json:"webhooks,omitempty"`
	Secret   string   `json:"secret,omitempty"` // that signs webhook calls
}

// noticesOf is the label of a client's receivers.
func noticesOf(client dataset.Scope) string { return "notices " + client.String() }

func (v *Vault) openReceivers(n storage.Notices) (r receivers, err error) {
	if len(n.Settings) == 0 {
		return r, nil
	}
	data, err := v.keys.OpenOwn(noticesOf(n.Client), n.Settings)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	return r, err
}

func (v *Vault) sealReceivers(n *storage.Notices, r receivers) error {
	data, err := json.Marshal(r)
	if err == nil {
		n.Settings, err = v.keys.SealOwn(noticesOf(n.Client), data)
	}
	return err
}

// noticeIntent is for what somebody wants with a client's notices; they have to
// be allowed to, and the client to exist.
func (v *Vault) noticeIntent(ctx context.Context, c identity.Caller, kind audit.Kind, name string) (ledger.Intent, dataset.Scope, error) {
	client, err := dataset.ParseScope(name)
	if err != nil {
		return ledger.Intent{}, client, err
	}
	t, err := v.target(ctx, client)
	if err != nil {
		return ledger.Intent{}, client, err
	}
	in := v.intent(c, kind, t, rbac.Notify, rbac.Org)
	if !t.known {
		return in, client, v.absent(ctx, t, in)
	}
	_, err = v.ledger.Check(ctx, in)
	return in, client, err
}

// SetNotices changes what a client hears of, and where. Where notices went
// before hears of the change.
func (v *Vault) SetNotices(ctx context.Context, c identity.Caller, name string, req wire.NoticesUpdate) (wire.Notices, error) {
	var out wire.Notices
	in, client, err := v.noticeIntent(ctx, c, audit.KindNoticesSet, name)
	if err != nil {
		return out, err
	}
	if err := v.checkNotices(req); err != nil {
		return out, err
	}
	secret, err := courier.NewSecret(v.random)
	if err != nil {
		return out, err
	}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		n, err := tx.Notices(ctx, client)
		if err := none(err); err != nil {
			return err
		}
		first := n.Client.IsZero()
		if first {
			n = storage.Notices{Client: client, Events: wire.NoticeEvents}
		}
		r, err := v.openReceivers(n)
		if err != nil {
			return err
		}
		if err := v.notifyThese(ctx, tx, n.Client, r, true, wire.NoticeChanged, wire.NoticeData{Scope: client}); err != nil {
			return err
		}
		made := changeReceivers(&n, &r, req, secret)
		n.ChangedAt, n.ChangedBy = tx.Now, c.Principal
		if err := v.sealReceivers(&n, r); err != nil {
			return err
		}
		in.Fields = []audit.Field{
			audit.StringField(audit.FieldEvents, strings.Join(n.Events, " ")),
			audit.Uint64Field(audit.FieldMails, uint64(len(r.Mail))), audit.Uint64Field(audit.FieldWebhooks, uint64(len(r.Webhooks))),
		}
		out = wireNotices(n, r, c.Handle)
		if made {
			out.Secret = secret.Expose()
		}
		return tx.PutNotices(ctx, n)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Notices{}, err
	}
	v.wakeOutbox()
	return out, nil
}

// changeReceivers applies req, and reports whether the secret is the new one.
func changeReceivers(n *storage.Notices, r *receivers, req wire.NoticesUpdate, secret courier.Secret) (made bool) {
	if req.Events != nil {
		n.Events = nil
		for _, event := range wire.NoticeEvents { // in one order, each once
			if slices.Contains(*req.Events, event) {
				n.Events = append(n.Events, event)
			}
		}
	}
	if req.Mail != nil {
		r.Mail = unique(*req.Mail)
	}
	if req.Webhooks != nil {
		r.Webhooks = unique(*req.Webhooks)
	}
	if made = len(r.Webhooks) > 0 && (r.Secret == "" || req.NewSecret); made {
		r.Secret = secret.Expose()
	}
	return made
}

func unique(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

func (v *Vault) checkNotices(req wire.NoticesUpdate) error {
	const op = "vault.SetNotices"
	if req.Mail != nil {
		if len(*req.Mail) > 0 && v.mailer == nil {
			return fault.New(fault.Conflict, op, "this vault sends no mail").WithHint("use --webhook, or have the operator set `serve --smtp`")
		}
		for _, address := range *req.Mail {
			if err := checkEmail(address); err != nil {
				return err
			}
		}
	}
	if req.Webhooks != nil {
		for _, url := range *req.Webhooks {
			if err := v.hooks.Check(url); err != nil {
				return err
			}
		}
	}
	if req.Events != nil {
		for _, event := range *req.Events {
			if !slices.Contains(wire.NoticeEvents, event) {
				return fault.New(fault.Invalid, op, "no such event").WithHint("events are " + strings.Join(wire.NoticeEvents, ", "))
			}
		}
	}
	if req.Mail != nil && len(*req.Mail) > wire.MaxReceivers || req.Webhooks != nil && len(*req.Webhooks) > wire.MaxReceivers {
		return fault.New(fault.TooLarge, op, "a client has at most five addresses and five webhooks")
	}
	return nil
}

func wireNotices(n storage.Notices, r receivers, by string) wire.Notices {
	return wire.Notices{
		Client: n.Client, Mail: append([]string{}, r.Mail...), Webhooks: append([]string{}, r.Webhooks...),
		Events: append([]string{}, n.Events...), Changed: timePtr(n.ChangedAt), By: by,
	}
}

// Notices says what a client hears of, and where.
func (v *Vault) Notices(ctx context.Context, c identity.Caller, name string) (wire.Notices, error) {
	_, client, err := v.noticeIntent(ctx, c, audit.KindList, name)
	if err != nil {
		return wire.Notices{}, err
	}
	n := storage.Notices{Client: client}
	by := ""
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		found, err := tx.Notices(ctx, client)
		if err != nil {
			return none(err)
		}
		n, by = found, v.names(ctx, tx)(found.ChangedBy)
		return nil
	})
	if err != nil {
		return wire.Notices{}, err
	}
	r, err := v.openReceivers(n)
	return wireNotices(n, r, by), err
}

// TestNotices sends a message to wherever a client's notices go.
func (v *Vault) TestNotices(ctx context.Context, c identity.Caller, name string) (wire.NoticesTested, error) {
	out := wire.NoticesTested{Messages: []dataset.MessageID{}}
	in, client, err := v.noticeIntent(ctx, c, audit.KindNoticesTest, name)
	if err != nil {
		return out, err
	}
	in.Apply = func(ctx context.Context, tx *ledger.Tx, _ *ledger.Intent) error {
		out.Messages = out.Messages[:0]
		n, err := tx.Notices(ctx, client)
		if err := none(err); err != nil {
			return err
		}
		r, err := v.openReceivers(n)
		if err != nil {
			return err
		}
		if len(r.Mail)+len(r.Webhooks) == 0 {
			return fault.New(fault.Conflict, "vault.TestNotices", "the client's notices go nowhere").
				WithHint("choose where to: `dsvault notices set " + client.String() + " --mail ADDRESS --webhook URL`")
		}
		list, err := v.noticesTo(tx, client, r, false, wire.NoticeTest, wire.NoticeData{Scope: client})
		for _, m := range list {
			out.Messages = append(out.Messages, m.ID)
		}
		if err != nil {
			return err
		}
		return tx.AddMessages(ctx, list...)
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.NoticesTested{}, err
	}
	v.wakeOutbox()
	return out, nil
}

// Messages lists what was or is to be sent to a client, the newest first.
func (v *Vault) Messages(ctx context.Context, c identity.Caller, name string, after dataset.MessageID, limit int) (wire.Page[wire.Message], error) {
	page := wire.Page[wire.Message]{Items: []wire.Message{}}
	_, client, err := v.noticeIntent(ctx, c, audit.KindList, name)
	if err != nil {
		return page, err
	}
	limit = clip(limit, wire.MaxPage)
	var rows []storage.Message
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		rows, err = tx.Messages(ctx, client, after, limit)
		return err
	})
	for _, m := range rows {
		item := wire.Message{ID: m.ID, Event: m.Event, Channel: string(m.Channel), State: string(m.State), Created: m.CreatedAt,
			Attempts: m.Attempts, Tried: timePtr(m.TriedAt), Problem: m.Problem}
		if m.State == storage.MessageWaiting {
			item.Due = timePtr(m.Due)
		}
		page.Items = append(page.Items, item)
	}
	if len(rows) == limit {
		page.Next = rows[limit-1].ID.String()
	}
	return page, err
}

// dropReceiver takes an address out of what every client has chosen.
func (v *Vault) dropReceiver(ctx context.Context, tx *ledger.Tx, address string) error {
	if address == "" {
		return nil
	}
	for after := ""; ; {
		list, err := tx.AllNotices(ctx, after, 0)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, n := range list {
			after = n.Client.String()
			r, err := v.openReceivers(n)
			if err != nil {
				return err
			}
			kept := slices.DeleteFunc(slices.Clone(r.Mail), func(to string) bool { return strings.EqualFold(to, address) })
			if len(kept) == len(r.Mail) {
				continue
			}
			r.Mail = kept
			if err := v.sealReceivers(&n, r); err != nil {
				return err
			}
			if err := tx.PutNotices(ctx, n); err != nil {
				return err
			}
		}
	}
}
