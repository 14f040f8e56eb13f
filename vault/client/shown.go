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
// not in the leaf; everything else is, or is committed to.
func compare(rec wire.Record) error {
	bad := func(what string) error {
		return &audit.VerifyError{Check: checkShown, Index: int64(rec.Index), Detail: "its " + what + " is shown otherwise than the leaf says"}
	}
	leaf, err := audit.ParseLeaf(rec.Leaf)
	if err != nil {
		return err
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
	case !maps.Equal(rec.Detail, details(leaf)):
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

// details gives a leaf's extension fields as text.
func details(leaf audit.Leaf) map[string]string {
	out := make(map[string]string, len(leaf.Ext))
	for _, f := range leaf.Ext {
		name := f.ID.String()
		n, _ := leaf.Uint64(f.ID)
		switch {
		case f.ID == audit.FieldUntil:
			out[name] = time.UnixMicro(int64(n)).UTC().Format(time.RFC3339)
		case f.ID == audit.FieldRefusedKind:
			out[name] = audit.Kind(n).String()
		case f.ID.Type() == audit.TypeNumber:
			out[name] = strconv.FormatUint(n, 10)
		case f.ID.Type() == audit.TypeText:
			out[name] = string(f.Value)
		default:
			out[name] = hex.EncodeToString(f.Value)
		}
	}
	return out
}
