//go:build linux

package main

import (
	"fmt"
	"net/url"
	"sync/atomic"
	"time"

	"dsvault/vault/dataset"
)

// ends says how access ends for good.
type ends int

const (
	never       ends = iota // it comes and goes
	byDisabling             // the person
	byTime                  // as it was said when it was given
)

// once has access end while it is used, and goes on for some reads.
func (h *hand) once(p pair, r *register, admin account, over *atomic.Bool) {
	if p.ends == byDisabling {
		h.w.note(r, h.client, event{deed: deedGive, seen: yes}, 0, 0) // in the beginning
		if !h.lets(20+h.random.IntN(60), over) {
			return
		}
		for got := unknown; got == unknown; {
			if got, _ = h.alter(p, r, admin, deedTake); over.Load() {
				return
			}
		}
	} else {
		until := time.Now().Add(time.Second + time.Duration(h.random.IntN(3000))*time.Millisecond).Truncate(time.Millisecond)
		p.give = fmt.Sprintf(p.give, until.Format(time.RFC3339Nano))
		at := until.Sub(h.w.begun)
		if got, _ := h.alter(p, r, admin, deedGive); got != yes {
			h.w.note(r, h.client, event{deed: deedTake, seen: unknown}, at, at) // it ends if it was given
			return
		}
		time.Sleep(time.Until(until))
		h.w.note(r, h.client, event{deed: deedTake, seen: yes}, at, at+time.Microsecond)
	}
	h.w.ended[p.ends].Add(1)
	h.lets(30, over)
}

// disabledPair is about somebody who has the shard, until they are disabled.
func disabledPair(who account, at dataset.Scope) pair {
	return pair{
		who: who, read: readPath(at, 0), take: "/v1/people/" + who.handle, ends: byDisabling, kinds: [2]string{"", "person-disable"},
	}
}

// lapsingPair is about somebody who gets the shard for some seconds.
func lapsingPair(who account, at dataset.Scope) pair {
	return pair{
		who: who, read: readPath(at, 0), change: "/v1/assignments", ends: byTime, kinds: [2]string{"assign", ""},
		give: fmt.Sprintf(`{"dataset":%q,"person":%q,"shards":"0","until":"%%s"}`, at, who.handle),
	}
}

// signedPair is about somebody who reads once they have signed an agreement, and
// takes the signature back. body is what they sign.
func signedPair(who account, at dataset.Scope, agreement, body string) pair {
	path := "/v1/agreements/" + agreement + "/signatures"
	return pair{
		who: who, read: readPath(at, 0), change: path, give: body, take: path + "?" + url.Values{"person": {"me"}}.Encode(),
		theirs: true, kinds: [2]string{"agreement-sign", "agreement-withdraw"},
	}
}
