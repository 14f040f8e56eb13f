package vault

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
)

// remindEvery is how often admins are reminded of an open request, and how long
// before its deadline they are for the first time.
const remindEvery = 7 * 24 * time.Hour

// remind mails to the admins of the vault which requests in the register are due
// within a week, or were due: each once a week while it is open. Which mails were
// written follows from their IDs, so that nothing has to be kept.
func (v *Vault) remind(ctx context.Context) error {
	if v.mailer == nil {
		return nil
	}
	now := v.now()
	var near []storage.RightsRequest
	var admins []storage.Principal
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		if near, err = dueSoon(ctx, tx, now); err != nil || len(near) == 0 {
			return err
		}
		admins, err = adminsOf(ctx, tx, now)
		return err
	})
	if err != nil {
		return err
	}
	var mails []storage.Message
	for _, p := range admins {
		profile, err := v.profile(ctx, p)
		if err != nil {
			return err
		}
		if profile.Email == "" {
			continue
		}
		for _, r := range near {
			m := v.newMessage(storage.ByMail, mailRequestDue)
			m.ID, m.Principal = reminderID(r, p.ID, now), p.ID
			if m, err = v.sealMail(ctx, m, v.requestDue(profile.Email, r, now)); err != nil {
				return err
			}
			mails = append(mails, m)
		}
	}
	return v.db.Update(ctx, func(tx *catalog.Tx) error { return tx.AddMessagesOnce(ctx, mails...) })
}

// dueSoon lists the open requests that are due within a week, or were.
func dueSoon(ctx context.Context, tx *catalog.Tx, now time.Time) (near []storage.RightsRequest, err error) {
	for q := (storage.RightsQuery{Open: true}); ; {
		list, err := tx.RightsRequests(ctx, q)
		if err != nil || len(list) == 0 {
			return near, err
		}
		for _, r := range list {
			q.After = r.ID
			if !now.Before(r.Due.Add(-remindEvery)) {
				near = append(near, r)
			}
		}
	}
}

// adminsOf lists the people who are admins of the whole vault.
func adminsOf(ctx context.Context, tx *catalog.Tx, now time.Time) (admins []storage.Principal, err error) {
	grants, err := tx.Grants(ctx, storage.GrantQuery{At: dataset.Root})
	if err != nil {
		return nil, err
	}
	seen := map[dataset.PrincipalID]bool{}
	for _, g := range grants {
		if g.Role != dataset.Admin || !g.InForce(now) || seen[g.Principal] {
			continue
		}
		seen[g.Principal] = true
		p, err := tx.Principal(ctx, g.Principal)
		if err != nil {
			return nil, missingRow("person", err)
		}
		if p.Disabled.IsZero() && !p.Service {
			admins = append(admins, p)
		}
	}
	return admins, nil
}

// reminderID is the same for one request, one admin and one week. One that was
// put off has weeks of its own.
func reminderID(r storage.RightsRequest, who dataset.PrincipalID, now time.Time) dataset.MessageID {
	week := now.Sub(r.Due.Add(-remindEvery)) / remindEvery
	label := append([]byte("dsvault reminder 1\n"), r.ID[:]...)
	label = append(label, who[:]...)
	label = binary.BigEndian.AppendUint64(label, uint64(r.Due.UnixMicro()))
	label = binary.BigEndian.AppendUint64(label, uint64(week))
	sum := sha256.Sum256(label)
	return dataset.MessageID(sum[:16])
}

func (v *Vault) requestDue(to string, r storage.RightsRequest, now time.Time) letter {
	state := "is due soon"
	if !now.Before(r.Due) {
		state = "is overdue"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "A request in the register of %s %s:\n\n", v.publicURL, state)
	fmt.Fprintf(&b, "    request:  %s\n    kind:     %s\n    received: %s\n    deadline: %s\n",
		r.ID, r.Kind, r.Received.UTC().Format(time.DateOnly), r.Due.UTC().Add(-time.Microsecond).Format(time.DateOnly))
	fmt.Fprintf(&b, "\nIt is open: dsvault request list\nYou get this once a week while it is, as an admin.\n")
	return letter{To: to, Subject: "A request " + state + " at " + v.publicURL, Text: b.String()}
}
