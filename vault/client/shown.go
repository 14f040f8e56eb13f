package client

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"time"

	"dsvault/vault/audit"
	"dsvault/vault/wire"
)

// checkShown names the check that what is shown of a record is what its leaf
// says.
const checkShown = "shown"

// compare checks what a record shows against its leaf. The names of scopes are
// not in the leaf: see named.
func compare(rec wire.Record, leaf audit.Leaf) error {
	bad := func(what string) error {
		return &audit.VerifyError{Check: checkShown, Index: int64(rec.Index), Detail: "its " + what + " is shown otherwise than the leaf says"}
	}
	hash := audit.LeafHash(rec.Leaf)
	switch {
	case !bytes.Equal(rec.Hash, hash[:]):
		return bad("hash")
	case rec.Kind != leaf.Kind.String():
		return bad("kind")
	case rec.Decision != leaf.Decision.String() && !(rec.Decision == "" && leaf.Decision == audit.None):
		return bad("decision")
	case !rec.Time.Equal(time.UnixMicro(leaf.Time)):
		return bad("time")
	case rec.Reason != leaf.Reason:
		return bad("reason")
	case rec.Slot != leaf.Slot:
		return bad("slot")
	case !maps.Equal(rec.Detail, leaf.Texts()):
		return bad("detail")
	case leaf.Object.Kind == audit.ObjectShard && !strings.HasSuffix(rec.Object, "/"+strconv.FormatUint(uint64(leaf.Object.Number), 10)):
		return bad("shard")
	case !actorShown(rec, leaf):
		return bad("actor")
	}
	return nil
}

// actorShown: the actor is the handle that the leaf commits to, or the
// pseudonym in the leaf.
func actorShown(rec wire.Record, leaf audit.Leaf) bool {
	if leaf.Actor == [16]byte{} && rec.Actor == "" || rec.Actor == "~"+hex.EncodeToString(leaf.Actor[:]) {
		return true
	}
	var personal struct {
		Handle string `json:"handle"`
	}
	return len(rec.Personal) > 0 && json.Unmarshal(rec.Personal, &personal) == nil &&
		personal.Handle != "" && personal.Handle == rec.Actor
}

// named checks the scope that a record shows. What a slot is called is
// committed to in the first record of the slot, which tells of its creation.
func (k *logCheck) named(rec wire.Record, leaf audit.Leaf) error {
	var personal struct {
		Note struct {
			Scope string `json:"scope"`
		} `json:"note"`
	}
	switch leaf.Kind {
	case audit.KindClientCreate, audit.KindProjectCreate, audit.KindDatasetCreate:
		if leaf.Decision == audit.Allowed && leaf.Seq == 1 && json.Unmarshal(rec.Personal, &personal) == nil && personal.Note.Scope != "" {
			k.names[leaf.Slot] = personal.Note.Scope
		}
	}
	name, known := k.names[leaf.Slot]
	if !known {
		return nil
	}
	switch leaf.Object.Kind {
	case audit.ObjectShard:
		name += "/" + strconv.FormatUint(uint64(leaf.Object.Number), 10)
	case audit.ObjectUnknown, audit.ObjectPerson, audit.ObjectDevice, audit.ObjectAgreement:
		return nil // not about the scope
	}
	if rec.Object != name {
		return &audit.VerifyError{Check: checkShown, Index: int64(rec.Index), Detail: "its object is shown otherwise than the scope was named when it was made"}
	}
	return nil
}
