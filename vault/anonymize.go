package vault

import (
	"context"
	"encoding/base32"
	"errors"
	"io"
	"strings"
	"unicode"

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

// Anonymize forgets who a person is, for good. In one transaction with its
// record the person's key is destroyed, with which all their sealed details
// are; profile, devices and tokens go; grants and assignments end; the handle
// becomes a pseudonym. What the rows and files still hold of it is cleared away
// before this returns, or later: then the answer says so. No leaf changes.
//
// It can be asked for again, for the pseudonym, to clear away what was left.
func (v *Vault) Anonymize(ctx context.Context, c identity.Caller, handle string) (wire.Anonymized, error) {
	done, _, err := v.forget(ctx, c, handle)
	return done, err
}

// forget is Anonymize; it also says what is kept.
func (v *Vault) forget(ctx context.Context, c identity.Caller, handle string) (out wire.Anonymized, kept []wire.Kept, err error) {
	const op = "vault.Anonymize"
	root, err := v.root(ctx)
	if err != nil {
		return out, nil, err
	}
	in := v.intent(c, audit.KindAnonymize, root, rbac.Anonymize, rbac.Person)
	p, err := v.principal(ctx, c, handle, in)
	if err != nil {
		return out, nil, err
	}
	in.Query.Target = p.ID
	in.Object = audit.Object{Kind: audit.ObjectPerson, ID: p.ID}
	if _, err := v.ledger.Check(ctx, in); err != nil {
		return out, nil, err
	}
	switch {
	case p.ID == c.Principal:
		return out, nil, fault.New(fault.Conflict, op, "one cannot anonymise oneself").WithHint("ask another admin")
	case len(p.Key.Sealed) == 0:
		out.Pseudonym = p.Handle
		out.Cleared = v.clearForgotten(ctx, false)
		err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
			kept, err = v.keptOf(ctx, tx, p.ID)
			return err
		})
		return out, kept, err
	}
	profile, err := v.profile(ctx, p)
	if err != nil {
		return out, nil, err
	}
	a := anonymizing{v: v, who: p.ID, words: []string{p.Handle, profile.Name, profile.Email, profile.Phone}}
	if err := a.look(ctx); err != nil {
		return out, nil, err
	}
	if out.Pseudonym, err = pseudonym(v.random); err != nil {
		return out, nil, err
	}
	in.PolicyChange = true
	in.Apply = func(ctx context.Context, tx *ledger.Tx, in *ledger.Intent) error {
		if err := v.keepAdmin(ctx, tx, p.ID); err != nil {
			return err
		}
		ended, err := a.apply(ctx, tx, out.Pseudonym)
		if errors.Is(err, storage.ErrExists) { // another admin was faster
			err = fault.Wrap(fault.Conflict, op, "this person is being anonymised already", err)
		}
		if err == nil {
			err = v.dropReceiver(ctx, tx, profile.Email)
		}
		if err != nil {
			return err
		}
		if err := tx.CloseErasures(ctx, p.ID, c.Principal, tx.Now); err != nil {
			return err
		}
		if kept, err = v.keptOf(ctx, tx.Tx, p.ID); err != nil {
			return err
		}
		out.Tokens, out.Grants, out.Assignments, out.About = ended.Tokens, ended.Grants, ended.Assignments, len(a.about)
		in.Fields = []audit.Field{audit.Uint64Field(audit.FieldCount, uint64(len(a.about)))}
		return nil
	}
	if _, err := v.ledger.Record(ctx, in); err != nil {
		return wire.Anonymized{}, nil, err
	}
	v.keys.Forget(p.ID)
	out.Cleared = v.clearForgotten(ctx, false)
	return out, kept, nil
}

// pseudonym draws a handle that tells nothing.
func pseudonym(random io.Reader) (string, error) {
	var raw [10]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", fault.Wrap(fault.Internal, "vault.pseudonym", "no randomness", err)
	}
	return "anon-" + strings.ToLower(base32.StdEncoding.EncodeToString(raw[:])), nil
}

// anonymizing is what has to be found of a person before the key goes.
type anonymizing struct {
	v     *Vault
	who   dataset.PrincipalID
	words []string            // what the person is called
	named map[string]bool     // IDs of grants to anybody whose reason names the person
	about []uint64            // other people's records about them
	seen  uint64              // leaves that were looked at
	tags  map[[16]byte][]byte // by slot's tag, the person's
}

// aboutKinds are the kinds of records that can be about somebody and then have
// their handle in the sealed note.
var aboutKinds = []uint16{
	uint16(audit.KindGrant), uint16(audit.KindRevoke), uint16(audit.KindAssign), uint16(audit.KindUnassign), uint16(audit.KindRefused),
	uint16(audit.KindPersonInvite), uint16(audit.KindPersonDisable), uint16(audit.KindPersonEnable), uint16(audit.KindTokenRotate),
	uint16(audit.KindApprovalRequest), uint16(audit.KindApprove), uint16(audit.KindApprovalRefuse),
	uint16(audit.KindPersonUpdate), uint16(audit.KindAgreementWithdraw),
	uint16(audit.KindSubjectExport), uint16(audit.KindSubjectCorrect), uint16(audit.KindRestrict), uint16(audit.KindLift),
	uint16(audit.KindObject), uint16(audit.KindObjectEnd), uint16(audit.KindConsentWithdraw),
	uint16(audit.KindRequestOpen), uint16(audit.KindRequestExtend), uint16(audit.KindRequestClose),
}

// look goes through the log as it is now, some leaves in one snapshot.
func (a *anonymizing) look(ctx context.Context) error {
	if err := a.v.db.View(ctx, func(tx *catalog.Tx) error { return a.mentioned(ctx, tx) }); err != nil {
		return err
	}
	for {
		before, end := a.seen, uint64(0)
		err := a.v.db.View(ctx, func(tx *catalog.Tx) error {
			head, err := tx.Head(ctx)
			if err != nil {
				return err
			}
			end = head.Size
			return a.lookAt(ctx, tx, min(a.seen+maxScan, end))
		})
		if err != nil || a.seen == end || a.seen == before {
			return err
		}
	}
}

// mentioned finds the grants that name the person.
func (a *anonymizing) mentioned(ctx context.Context, tx *catalog.Tx) error {
	a.named = map[string]bool{}
	return tx.GrantReasons(ctx, func(id dataset.GrantID, reason string) {
		if mentions(reason, a.words) {
			a.named[string(id[:])] = true
		}
	})
}

// lookAt notes the records about the person, up to a leaf.
func (a *anonymizing) lookAt(ctx context.Context, tx *catalog.Tx, to uint64) error {
	if to <= a.seen {
		return nil
	}
	err := tx.Leaves(ctx, storage.LeafQuery{From: a.seen, To: to, Kinds: aboutKinds}, func(l storage.Leaf) error {
		leaf, err := audit.ParseLeaf(l.Data)
		if err != nil {
			return damagedRecord(l.Index, err)
		}
		if id, ok := leaf.Bytes(audit.FieldGrantID); ok && a.named[string(id)] {
			a.about = append(a.about, l.Index)
			return nil
		}
		if leaf.Object.Kind == audit.ObjectPerson && leaf.Object.ID == a.who && l.Principal != a.who {
			a.about = append(a.about, l.Index)
			return nil
		}
		subject, ok := leaf.Bytes(audit.FieldSubjectTag)
		if !ok || l.Principal == a.who { // the person's own go with the key
			return nil
		}
		theirs, known := a.tags[leaf.Tag]
		if !known {
			tag, err := a.v.keys.Tag(ctx, a.who, leaf.Tag)
			if err != nil {
				return err
			}
			if a.tags == nil {
				a.tags = map[[16]byte][]byte{}
			}
			theirs = tag[:]
			a.tags[leaf.Tag] = theirs
		}
		if string(subject) == string(theirs) {
			a.about = append(a.about, l.Index)
		}
		return nil
	})
	if err == nil {
		a.seen = to
	}
	return err
}

// apply changes the rows, after a look at the records that came meanwhile.
func (a *anonymizing) apply(ctx context.Context, tx *ledger.Tx, pseudonym string) (catalog.Ended, error) {
	head, err := tx.Head(ctx)
	if err == nil {
		err = a.mentioned(ctx, tx.Tx)
	}
	if err == nil {
		err = a.lookAt(ctx, tx.Tx, head.Size)
	}
	if err != nil {
		return catalog.Ended{}, err
	}
	ended, err := tx.Forget(ctx, storage.Forgotten{Principal: a.who, At: tx.Now, About: a.about}, pseudonym, tx.Revision)
	if err != nil {
		return ended, err
	}
	if err := a.mentioned(ctx, tx.Tx); err != nil { // the person's own reasons are gone by now
		return ended, err
	}
	for id := range a.named {
		if err := tx.SetGrantReason(ctx, dataset.GrantID([]byte(id)), removedReason); err != nil {
			return ended, err
		}
	}
	return ended, nil
}

// removedReason stands where somebody's grant was explained with the name of
// somebody who was anonymised.
const removedReason = "(removed: it named somebody who was anonymised)"

// mentions reports whether text has one of the words as a whole word, whatever
// the case.
func mentions(text string, words []string) bool {
	text = strings.ToLower(text)
	for _, word := range words {
		word = strings.ToLower(strings.TrimSpace(word))
		if word == "" {
			continue
		}
		for rest := text; ; {
			i := strings.Index(rest, word)
			if i < 0 {
				break
			}
			before, after := lastRune(rest[:i]), firstRune(rest[i+len(word):])
			if !inWord(before) && !inWord(after) {
				return true
			}
			rest = rest[i+len(word):]
		}
	}
	return false
}

func inWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' }

func firstRune(s string) rune {
	for _, r := range s {
		return r
	}
	return ' '
}

func lastRune(s string) rune {
	last := ' '
	for _, r := range s {
		last = r
	}
	return last
}

// forgetBatches is how many batches of leaves one transaction clears.
const forgetBatches = 32

// clearForgotten clears away what is left of people who were anonymised, and
// reports whether nothing is. What fails is tried again within the hour. With
// wait everybody who writes waits for it, however long it takes.
func (v *Vault) clearForgotten(ctx context.Context, wait bool) bool {
	clean, err := v.forgetRows(ctx, wait)
	if err != nil && ctx.Err() == nil { // when the node stops nothing has failed
		v.log.WarnContext(ctx, "traces of somebody who was anonymised are left, and will be cleared away later", "err", err)
	}
	return clean && err == nil
}

func (v *Vault) forgetRows(ctx context.Context, wait bool) (clean bool, err error) {
	var list []storage.Forgotten
	err = v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		list, err = tx.ToForget(ctx)
		return err
	})
	if err != nil || len(list) == 0 {
		return err == nil, err
	}
	for _, f := range list {
		for more := true; more; {
			err := v.db.Update(ctx, func(tx *catalog.Tx) (err error) {
				more, err = tx.DropDetails(ctx, f.Principal, forgetBatches)
				return err
			})
			if err != nil {
				return false, err
			}
		}
		for rest := f.About; len(rest) > 0; {
			n := min(len(rest), forgetBatches)
			if err := v.db.Update(ctx, func(tx *catalog.Tx) error { return tx.DropDetailsOf(ctx, rest[:n]) }); err != nil {
				return false, err
			}
			rest = rest[n:]
		}
	}
	if clean, err = v.db.Scrub(ctx, wait); err != nil || !clean {
		return false, err
	}
	return true, v.db.Update(ctx, func(tx *catalog.Tx) error {
		for _, f := range list {
			if err := tx.SetForgotten(ctx, f.Principal); err != nil {
				return err
			}
		}
		return nil
	})
}
