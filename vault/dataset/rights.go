package dataset

import (
	"slices"
	"strings"
	"time"

	"dsvault/vault/fault"
)

// ChoiceKind is what people can decide about a purpose.
type ChoiceKind string

const (
	Consent   ChoiceKind = "consent"
	Objection ChoiceKind = "objection"
)

// Choice is a person's consent to a purpose, or objection to one.
type Choice struct {
	Principal PrincipalID
	Kind      ChoiceKind
	Purpose   string
	At        time.Time // given
	Ended     time.Time // withdrawn; zero: in force
}

// InForce reports whether the choice holds.
func (c Choice) InForce() bool { return !c.At.IsZero() && c.Ended.IsZero() }

// RequestKind says what somebody asks for who exercises a right. The list is
// closed.
type RequestKind string

const (
	AccessRequest      RequestKind = "access"
	PortabilityRequest RequestKind = "portability"
	CorrectionRequest  RequestKind = "correction"
	ErasureRequest     RequestKind = "erasure"
	RestrictionRequest RequestKind = "restriction"
	ObjectionRequest   RequestKind = "objection"
	ConsentRequest     RequestKind = "consent"
	OtherRequest       RequestKind = "other"
)

// RequestKinds lists every kind of request.
var RequestKinds = [...]RequestKind{AccessRequest, PortabilityRequest, CorrectionRequest, ErasureRequest,
	RestrictionRequest, ObjectionRequest, ConsentRequest, OtherRequest}

// ParseRequestKind reads the name of a kind of request.
func ParseRequestKind(s string) (RequestKind, error) {
	return parseWord(s, RequestKinds[:], "dataset.ParseRequestKind", "kind of request")
}

// IdentityCheck is how it was made sure who asks. The list is closed.
type IdentityCheck string

const (
	NotChecked IdentityCheck = "none"
	ByLogin    IdentityCheck = "login"    // they asked with their own login
	ByDocument IdentityCheck = "document" // they have shown a document
	ByPerson   IdentityCheck = "person"   // whoever handles it knows them, or has called them back
)

// IdentityChecks lists every way.
var IdentityChecks = [...]IdentityCheck{NotChecked, ByLogin, ByDocument, ByPerson}

// ParseIdentityCheck reads the name of a way to check who asks.
func ParseIdentityCheck(s string) (IdentityCheck, error) {
	return parseWord(s, IdentityChecks[:], "dataset.ParseIdentityCheck", "identity check")
}

// Outcome is how a request ended. The list is closed; the empty Outcome is that
// of an open one.
type Outcome string

const (
	Done      Outcome = "done"
	Partly    Outcome = "partly"
	Declined  Outcome = "refused"
	TakenBack Outcome = "withdrawn" // by who has asked
)

// Outcomes lists every outcome.
var Outcomes = [...]Outcome{Done, Partly, Declined, TakenBack}

// ParseOutcome reads the name of an outcome.
func ParseOutcome(s string) (Outcome, error) {
	return parseWord(s, Outcomes[:], "dataset.ParseOutcome", "outcome")
}

func parseWord[T ~string](s string, words []T, op, what string) (T, error) {
	if i := slices.Index(words, T(s)); i >= 0 {
		return words[i], nil
	}
	var names []string
	for _, w := range words {
		names = append(names, string(w))
	}
	return "", fault.New(fault.Invalid, op, "no such "+what).WithHint("it is one of " + strings.Join(names, ", "))
}

// How long a request may take, in months of the calendar from the day on which
// it was received.
const (
	RequestMonths  = 1
	ExtendedMonths = 3
)

// Deadline is the first moment at which a request that was received on a day is
// overdue: the day of the same number, so many months later, has ended, or the
// last day of a month that has no such day. Days are those of UTC.
func Deadline(received time.Time, months int) time.Time {
	year, month, day := received.UTC().Date()
	first := time.Date(year, month+time.Month(months), 1, 0, 0, 0, 0, time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(day, last)) // the day after
}
