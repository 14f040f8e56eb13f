package rbac

import "sync/atomic"

// memo remembers verdicts of one policy. It has a fixed size, takes no lock
// and never allocates after it was made. An entry is one word that holds the
// whole question and the answer, so no interleaving of writers can pair a
// question with another's answer. Time is no part of a question: facts that
// run out are computed anew for every decision.
type memo struct {
	words [memoBuckets * memoWays]atomic.Uint64
}

const (
	memoBuckets = 1 << memoBits
	memoBits    = 13
	memoWays    = 4

	answerBits = 13 // present, allowed, and a rule's number plus one
	present    = 1 << 12
	allowedBit = 1 << 11
	ruleMask   = allowedBit - 1
)

// The words hold 7 bits of roles, 4 of kind, 5 of action, the facts, and the
// answer; rules fit in theirs.
const (
	_ = uint(64 - 7 - 4 - 5 - factCount - answerBits)
	_ = uint(ruleMask - 1 - maxRules)
	_ = uint(1<<4 - len(Kinds))
	_ = uint(1<<5 - len(Actions))
)

// question packs what a verdict depends on.
func question(kind, action int, roles RoleSet, facts Facts) uint64 {
	return ((uint64(facts)<<7|uint64(roles))<<4|uint64(kind))<<5 | uint64(action)
}

func bucket(question uint64) uint64 {
	return question * 0x9e3779b97f4a7c15 >> (64 - memoBits) * memoWays
}

func (m *memo) get(question uint64) (verdict, bool) {
	b := bucket(question)
	for i := range uint64(memoWays) {
		if w := m.words[b+i].Load(); w>>answerBits == question && w&present != 0 {
			return verdict{w&allowedBit != 0, int(w&ruleMask) - 1}, true
		}
	}
	return verdict{}, false
}

func (m *memo) put(question uint64, v verdict) {
	w := question<<answerBits | present | uint64(v.rule+1)
	if v.allowed {
		w |= allowedBit
	}
	b := bucket(question)
	for i := range uint64(memoWays) {
		if m.words[b+i].CompareAndSwap(0, w) {
			return
		}
	}
	m.words[b+question%memoWays].Store(w)
}
