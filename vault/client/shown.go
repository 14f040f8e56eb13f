package client

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// checkShown names the check that what is shown is what was asked for.
const checkShown = "shown"

// logCheck is one walk through a bundle. What it shows of a record comes from
// the leaf and from the details that the leaf commits to, and from nowhere else.
type logCheck struct {
	opts  audit.BundleOptions
	each  func(wire.Record) error
	under dataset.Scope // what was asked for; zero: whatever the bundle says

	known map[[16]byte]string   // names of slots, by their tags, from an earlier time
	names map[uint64]string     // names of slots, as the records of their creation say
	slots map[string]uint64     // the other way round
	tags  map[[16]byte]struct{} // of the slots that were seen
}

func newLogCheck(pin LogPin, opts VerifyOptions) (*logCheck, error) {
	k := &logCheck{each: opts.Each, known: map[[16]byte]string{}, names: map[uint64]string{0: "/"}, slots: map[string]uint64{"/": 0},
		tags: map[[16]byte]struct{}{}}
	var err error
	if k.opts, err = bundleOptions(pin, opts.Witnesses); err != nil {
		return nil, err
	}
	k.opts.Receipts, k.opts.Others, k.opts.AcceptRecovery = opts.Receipts, opts.Others, opts.AcceptRecovery
	k.opts.Each, k.opts.Progress = k.record, opts.Progress
	if k.opts.Known, err = opts.Known.checkpoint(); err != nil {
		return nil, err
	}
	for name, tag := range opts.Known.Scopes {
		if len(tag) == 16 && opts.Known.Origin == pin.Origin {
			k.known[[16]byte(tag)] = name
		}
	}
	return k, nil
}

func (k *logCheck) run(r io.Reader) (Verified, error) {
	b, err := audit.VerifyBundle(r, k.opts)
	if err != nil {
		return Verified{}, failedCheck(err)
	}
	out, err := k.summary(b)
	if err != nil {
		return Verified{}, failed(err)
	}
	return out, nil
}

// record shows a verified record.
func (k *logCheck) record(r audit.Record) error {
	if k.each == nil && r.Leaf.Seq != 1 {
		return nil
	}
	var personal personal
	if r.Details != nil {
		// What is not JSON names nothing; it is what the leaf commits to all the same.
		_ = json.Unmarshal(r.Details, &personal)
	}
	if r.Leaf.Seq == 1 {
		if err := k.named(r, personal); err != nil {
			return err
		}
	}
	if k.each == nil {
		return nil
	}
	return k.each(shown(r, personal, k.names[r.Leaf.Slot]))
}

// personal is the part of a record's details that is shown.
type personal struct {
	Handle string `json:"handle"`
	Note   struct {
		Scope  string `json:"scope"`
		Person string `json:"person"`
	} `json:"note"`
}

// named keeps what a slot is called. That is committed to in the first record of
// the slot, which tells of its creation.
func (k *logCheck) named(r audit.Record, p personal) error {
	slot, name := r.Leaf.Slot, p.Note.Scope
	k.tags[r.Leaf.Tag] = struct{}{}
	fail := func(format string, args ...any) error {
		return &audit.VerifyError{Check: checkShown, Index: int64(r.Index), Detail: fmt.Sprintf(format, args...)}
	}
	switch r.Leaf.Kind {
	case audit.KindClientCreate, audit.KindProjectCreate, audit.KindDatasetCreate:
	default:
		name = ""
	}
	earlier := k.known[r.Leaf.Tag]
	switch {
	case slot == 0:
		return nil
	case name == "":
		name = earlier
	case earlier != "" && earlier != name:
		return fail("its scope is called %s, and was called %s when it was verified earlier", quoted(name), quoted(earlier))
	}
	if name == "" {
		return nil
	}
	if _, err := dataset.ParseScope(name); err != nil {
		return fail("its scope has no proper name")
	}
	if _, taken := k.slots[name]; taken {
		return fail("its scope is called %s, as another one is", quoted(name))
	}
	k.names[slot], k.slots[name] = name, slot
	return nil
}

func quoted(s string) string { return strconv.QuoteToASCII(s) }

// shown is the record as people read it.
func shown(r audit.Record, p personal, scope string) wire.Record {
	rec := wire.Record{
		Index: r.Index, Hash: r.Hash[:], Time: time.UnixMicro(r.Leaf.Time).UTC(), Kind: r.Leaf.Kind.String(),
		Decision: r.Leaf.Decision.String(), Reason: r.Leaf.Reason, Slot: r.Leaf.Slot, Leaf: append([]byte(nil), r.Data...),
		Detail: r.Leaf.Texts(),
	}
	if r.Leaf.Actor != [16]byte{} {
		rec.Actor = "~" + hex.EncodeToString(r.Leaf.Actor[:])
	}
	if r.Salt != nil {
		salt := *r.Salt
		rec.Salt, rec.Personal = salt[:], append([]byte(nil), r.Details...)
		if p.Handle != "" {
			rec.Actor = p.Handle
		}
	}
	if scope == "" {
		scope = "slot " + strconv.FormatUint(r.Leaf.Slot, 10)
	}
	switch r.Leaf.Object.Kind {
	case audit.ObjectShard:
		rec.Object = scope + "/" + strconv.FormatUint(uint64(r.Leaf.Object.Number), 10)
	case audit.ObjectPerson:
		rec.Object = p.Note.Person
	case audit.ObjectAgreement:
		rec.Object = "agreement version " + strconv.FormatUint(uint64(r.Leaf.Object.Number), 10)
	case audit.ObjectDevice:
		rec.Object = dataset.DeviceID(r.Leaf.Object.ID).String()
	case audit.ObjectUnknown:
	default:
		rec.Object = scope
	}
	return rec
}

// summary checks that the bundle is of the scope that was asked for, and of all
// that is known to be below it.
func (k *logCheck) summary(b audit.Bundle) (Verified, error) {
	fail := func(check, format string, args ...any) (Verified, error) {
		return Verified{}, &audit.VerifyError{Check: check, Index: -1, Detail: fmt.Sprintf(format, args...)}
	}
	scope, err := dataset.ParseScope(b.Header.Scope)
	// What is left in an anchor is of the log as such, and holds no record of it.
	anchored := k.under.IsZero() && scope == dataset.Root && !b.Header.Whole && b.Leaves == 0 && len(b.Slots) == 0
	if err != nil || b.Header.Whole != (scope == dataset.Root) && !anchored {
		return fail(audit.CheckBundle, "its scope makes no sense")
	}
	if !k.under.IsZero() && scope != k.under {
		return fail(checkShown, "it is of %s, not of %s", scope, k.under)
	}
	out := Verified{
		Origin: b.Checkpoint.Origin, Scope: scope, Size: b.Checkpoint.Size, Root: b.Checkpoint.Root[:], Seen: b.Leaves,
		From: b.First, Until: b.Last, Details: b.Details, Bare: b.Bare, Open: b.OpenReads, Witnesses: b.Witnesses,
		Receipts: b.Receipts, Compared: b.Compared, Key: b.Key, Followed: b.Followed, Scopes: []VerifiedScope{},
	}
	if !b.Header.Whole {
		out.Statement, out.Until = &b.Statement.Index, b.Statement.At()
	}
	unnamed := false
	for _, s := range b.Slots {
		name, ok := k.names[s.Slot]
		if ok {
			if at, err := dataset.ParseScope(name); err != nil || !scope.Contains(at) {
				return fail(checkShown, "it holds records of %s, which is not below %s", quoted(name), scope)
			}
		}
		unnamed = unnamed || !ok
		out.Scopes = append(out.Scopes, VerifiedScope{Slot: s.Slot, Tag: s.Tag[:], Name: name, Records: s.Count})
	}
	if _, ok := k.slots[scope.String()]; !ok && !unnamed {
		return fail(checkShown, "it holds no records of %s itself", scope)
	}
	for tag, name := range k.known {
		if b.Checkpoint.Origin != k.opts.Origin {
			break // the loss was accepted
		}
		if at, err := dataset.ParseScope(name); err == nil && scope.Contains(at) {
			if _, seen := k.tags[tag]; !seen {
				return fail(audit.CheckKnown, "it leaves out %s, which was there when it was verified earlier", name)
			}
		}
	}
	if out.Open == nil {
		out.Open = []uint64{}
	}
	if out.Witnesses == nil {
		out.Witnesses = []string{}
	}
	return out, nil
}
