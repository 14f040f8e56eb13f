package rbac

import (
	"math/bits"
	"sync/atomic"
)

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

	answerBits = 12 // present, allowed, and a rule's number plus one
	present    = 1 << 11
	allowedBit = 1 << 10
	ruleMask   = allowedBit - 1
)

// The words hold 7 bits of roles, 5 of kind, 5 of action, the facts, and the
// answer; rules fit in theirs. The five facts on the dataset's state take 3 bits:
// at most one state holds, and live follows from it.
const (
	_ = uint(64 - 7 - 5 - 5 - (factCount - 2) - answerBits)
	_ = uint(ruleMask - 1 - maxRules)
	_ = uint(1<<5 - len(Kinds))
	_ = uint(1<<5 - len(Actions))
)

// question packs what a verdict depends on.
func question(kind, action int, roles RoleSet, facts Facts) uint64 {
	packed := uint64(facts>>5)<<3 | uint64(bits.Len64(uint64(facts&stateFacts)))
	return ((packed<<7|uint64(roles))<<5|uint64(kind))<<5 | uint64(action)
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
