package ledger

import (
	"slices"
	"strings"

	"dsvault/rbac"
)

// Hint says what the refused person can do: about the first fact that would
// have helped, in the order in which people can do something about it.
func Hint(d rbac.Decision) string {
	reasons := strings.Join(d.Reasons, "\n")
	for _, h := range []struct {
		holds bool
		text  string
	}{
		{d.Facts.Has(rbac.Conflict), "two of your roles exclude each other; ask an admin to revoke one"},
		{d.Facts.Has(rbac.SelfGranted), "nobody reads what they granted themselves; ask another admin to assign it"},
		{d.Facts.Has(rbac.Paused), "the processing of your data is restricted; `dsvault subject lift me` ends that"},
		{names(reasons, d, rbac.Frozen, "frozen"), "the processing of that person's data is restricted; it has to be lifted first: `dsvault subject lift PERSON`"},
		{d.Facts.Has(rbac.Unconsented), "this purpose rests on your consent: `dsvault consent give PURPOSE`"},
		{d.Facts.Has(rbac.Objected), "you have objected to this purpose; `dsvault subject object me --purpose PURPOSE --end` takes that back"},
		{d.Erased, "its keys are destroyed, and nobody can read it any more: `dsvault erasure list SCOPE` shows the erasure"},
		{strings.Contains(reasons, "denies: hold"), "a legal hold stops this: `dsvault hold list SCOPE` shows it"},
		{d.Rule == "DNY-14", "nobody reviews their own work; ask another reviewer"},
		{d.Facts.Has(rbac.Expired), "the dataset's retention has ended; nobody reads it any more"},
		{d.Facts.Has(rbac.Legal) && !d.Facts.Has(rbac.Disclosed), "what a law requires takes two people and the order: `dsvault disclose DATASET`"},
		{onlyHeld(d), "a legal hold stops this: `dsvault hold list SCOPE` shows it; until it is released only the client reads, and whom a law requires to"},
		{lacks(d, reasons, rbac.NDA, "nda"), unsigned(d)},
		{denied(reasons, "overlong"), "a contractor's grant has to end, and sooner than this one; ask an admin for a new one"},
		{denied(reasons, "offhours"), "contractors read only in the hours that the project names: `dsvault conditions PROJECT` shows them"},
		{denied(reasons, "offnetwork"), "contractors read only from the networks that the project names: `dsvault conditions PROJECT` shows them"},
		{denied(reasons, "staffonly"), "contractors get data sealed: use `dsvault pull`, or ask the project's client or an admin to allow another way"},
		{lacks(d, reasons, rbac.Claimable, "claimable"), "the project is not open to claims: ask its client or an admin for `dsvault project update PROJECT --claims`, or for an assignment"},
		{lacks(d, reasons, rbac.Assigned, "assigned"), "ask an admin to assign it to you"},
		{lacks(d, reasons, rbac.DataGrant, "datagrant"), "admins read data only where another admin has assigned it to them"},
		{lacks(d, reasons, rbac.Purpose, "purpose"), "state a purpose that the project allows: --purpose"},
		{lacks(d, reasons, rbac.Delivery, "delivery"), "the project does not allow this way of delivery: use `dsvault pull`, which is sealed, or ask its client or an admin to allow it"},
		{lacks(d, reasons, rbac.Region, "region"), "the data stays in the project's region, and no transfer basis is named for yours; ask the project's client or an admin"},
		{lacks(d, reasons, rbac.Dual, "dual"), "this takes two people: one asks or gives, another admin approves (`dsvault approvals`)"},
		{d.Facts.Has(rbac.Held) && !strings.Contains(reasons, "no rule lets "), "the dataset is under a legal hold"},
	} {
		if h.holds {
			return h.text
		}
	}
	return "ask an admin for a role that allows it; `dsvault can me ACTION OBJECT` explains"
}

// names reports whether a fact holds and a reason names it.
func names(reasons string, d rbac.Decision, fact rbac.Facts, name string) bool {
	return d.Facts.Has(fact) && strings.Contains(reasons, name)
}

// lacks reports whether a fact does not hold and a reason names it.
func lacks(d rbac.Decision, reasons string, fact rbac.Facts, name string) bool {
	return !d.Facts.Has(fact) && strings.Contains(reasons, name)
}

// denied reports whether a deny with this one fact has matched.
func denied(reasons, name string) bool { return strings.Contains(reasons+"\n", " denies: "+name+"\n") }

// onlyHeld reports whether every rule that could allow it is for data that no
// hold is on, or for what a law requires.
func onlyHeld(d rbac.Decision) bool {
	found := false
	for _, reason := range d.Reasons {
		_, needs, near := strings.Cut(reason, " needs ")
		if !near {
			continue
		}
		words := strings.Split(needs, ", ")
		if !slices.Contains(words, "live") && !slices.Contains(words, "active") && !slices.Contains(words, "disclosed") {
			return false
		}
		found = true
	}
	return found && d.Facts.Has(rbac.Held)
}

// unsigned says which agreements to sign, and how.
func unsigned(d rbac.Decision) string {
	var sign, missing []string
	for _, u := range d.Unsigned {
		if sign = append(sign, "`dsvault agreement sign "+u.Agreement+"`"); !u.Published {
			missing = append(missing, u.Agreement)
		}
	}
	switch {
	case len(missing) > 0:
		return "ask an admin to publish what has to be signed here: " + strings.Join(missing, ", ") + "; then " + strings.Join(sign, ", ")
	case len(sign) > 0:
		return "read and sign what is required here: " + strings.Join(sign, ", ")
	}
	return "read and sign the agreement: `dsvault agreement sign " + rbac.DefaultAgreement + "`"
}
