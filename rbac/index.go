package rbac

import (
	"math"
	"time"

	"dsvault/vault/dataset"
)

// Times in the index are Unix nanoseconds. Something is in force until its
// end, which is outside; 0 is never in force, forever has no end.
const forever = math.MaxInt64

// end turns an until into the index's time; the zero time is forever.
func end(until time.Time) int64 {
	if until.IsZero() {
		return forever
	}
	return nanos(until)
}

// nanos clamps t to what 64 bits hold; before 1970 is 0.
func nanos(t time.Time) int64 {
	switch s := t.Unix(); {
	case s < 0:
		return 0
	case s >= forever/int64(time.Second):
		return forever
	}
	return t.UnixNano()
}

// DefaultAgreement is what contractors have to sign where nothing else is required.
const DefaultAgreement = "nda"

// scope is a place. Its chain holds the numbers of the scopes that contain it,
// by depth, itself included: one scope contains another if its number is in
// the other's chain.
type scope struct {
	chain      [4]uint32
	depth      uint8
	exists     bool     // a row was seen for it; a grant alone does not make a scope
	dataset    uint32   // its number; 0: none
	state      Facts    // of the dataset; 0: none that is known
	project    *project // its own terms
	conditions *conditions
	since      time.Time      // of the dataset: from when on its retention counts
	erased     bool           // the keys of the dataset are destroyed
	keep       dataset.Period // its own retention

	held, heldBelow int32 // holds in force here, and further down
}

type project struct {
	purposes  []string
	consent   []string // of these, those that rest on the reader's consent
	delivery  []dataset.Delivery
	region    string
	sensitive bool
	claims    bool // of shards, by annotators
}

type person struct {
	known, service, disabled bool
	restricted               bool // the processing of their own data
	region                   string
	grants                   []grant
	signatures               []signature
	emergencies              []emergency
	disclosures              []disclosure
	consents, objections     []string // purposes
}

type grant struct {
	id    dataset.GrantID
	until int64
	made  int64
	scope uint32
	depth uint8 // of the scope, so that most grants are judged without looking it up
	role  uint8 // its place in dataset.Roles
	self  bool  // granted by the principal

	approved bool // by a second person
}

type signature struct {
	agreement string
	version   int
	made      time.Time
	until     int64
}

// stateFact gives the fact of a state; an unknown state has none, so that
// nothing that asks for a state is allowed.
func stateFact(s dataset.State) Facts {
	switch s {
	case dataset.Active:
		return Active | Live
	case dataset.Restricted:
		return Restricted | Live
	case dataset.Held:
		return Held
	case dataset.Expired, dataset.Erased:
		return Expired
	}
	return 0
}

// pair is a principal's and a dataset's number.
type pair struct{ person, dataset uint32 }

// assignments are found by principal and dataset, never by walking them: the
// table leads to a short list of the assignments of one person in one dataset.
// Records live in blocks, so that growing never copies them.
type assignments struct {
	heads  map[pair]uint32 // number of the first record; 0: none
	blocks []*[blockSize]assignment
	used   uint32
	free   uint32                      // list of records to use again
	sets   map[uint32]dataset.ShardSet // of records whose shards are several ranges
}

const blockSize = 4096

// assignment is 40 bytes; together with its share of the table about 60.
type assignment struct {
	id          dataset.AssignmentID
	until       int64
	first, last int32  // of its shards
	next        uint32 // of the same person and dataset; 0: none
	self        bool   // assigned by the principal
	approved    bool   // by a second person
	several     bool   // look into sets
}

func newAssignments() assignments {
	return assignments{heads: map[pair]uint32{}, sets: map[uint32]dataset.ShardSet{}}
}

func (t *assignments) record(number uint32) *assignment {
	return &t.blocks[(number-1)/blockSize][(number-1)%blockSize]
}

// find gives the number of the record id of at, or 0, and of the one before.
func (t *assignments) find(at pair, id dataset.AssignmentID) (number, before uint32) {
	for n := t.heads[at]; n != 0; n = t.record(n).next {
		if t.record(n).id == id {
			return n, before
		}
		before = n
	}
	return 0, 0
}

// put adds or replaces an assignment whose shards are not empty.
func (t *assignments) put(at pair, a dataset.Assignment) {
	n, _ := t.find(at, a.ID)
	if n == 0 {
		n = t.take()
		t.record(n).next = t.heads[at]
		t.heads[at] = n
	}
	r := t.record(n)
	r.id, r.until, r.self = a.ID, end(a.Until), a.By == a.Principal
	r.approved = second(a.ApprovedBy, a.By, a.Principal)
	r.first, r.last, r.several = int32(a.Shards[0].First), int32(a.Shards.Max()), len(a.Shards) > 1
	delete(t.sets, n)
	if r.several {
		t.sets[n] = append(dataset.ShardSet(nil), a.Shards...)
	}
}

func (t *assignments) take() uint32 {
	if n := t.free; n != 0 {
		t.free = t.record(n).next
		return n
	}
	if int(t.used) == len(t.blocks)*blockSize {
		t.blocks = append(t.blocks, new([blockSize]assignment))
	}
	t.used++
	return t.used
}

func (t *assignments) remove(at pair, id dataset.AssignmentID) {
	n, before := t.find(at, id)
	if n == 0 {
		return
	}
	next := t.record(n).next
	switch {
	case before != 0:
		t.record(before).next = next
	case next != 0:
		t.heads[at] = next
	default:
		delete(t.heads, at)
	}
	delete(t.sets, n)
	*t.record(n) = assignment{next: t.free}
	t.free = n
}

// has reports whether record n covers a shard.
func (t *assignments) has(n uint32, r *assignment, shard int) bool {
	return shard >= int(r.first) && shard <= int(r.last) && (!r.several || t.sets[n].Has(shard))
}
