package audit

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// Field is one extension field of a leaf.
type Field struct {
	ID    FieldID
	Value []byte
}

// FieldID names an extension field. Closed and fixed like Kind.
type FieldID uint16

const (
	FieldBytesSent     FieldID = 1  // number: bytes really sent, or the most that may have been
	FieldCause         FieldID = 2  // text: how it ended
	FieldRefIndex      FieldID = 3  // number: index of the leaf that this one closes
	FieldRole          FieldID = 4  // text
	FieldSubjectTag    FieldID = 5  // 16 bytes: the ActorTag of whom it is about
	FieldUntil         FieldID = 6  // number: Unix microseconds; absent means no end
	FieldPurpose       FieldID = 7  // text
	FieldRegion        FieldID = 8  // text
	FieldPolicyHash    FieldID = 9  // 32 bytes
	FieldDeviceID      FieldID = 10 // 16 bytes
	FieldPlaintextSize FieldID = 11 // number: bytes
	FieldSealedSize    FieldID = 12 // number: bytes
	FieldSealedSHA256  FieldID = 13 // 32 bytes
	FieldDelivery      FieldID = 14 // text: "sealed", "opened" or "direct"; of a project, those it allows
	FieldAttemptID     FieldID = 15 // 16 bytes
	FieldShardSet      FieldID = 16 // text: for example "0-3,7"
	FieldRefusedKind   FieldID = 17 // number: the Kind that was asked for
	FieldAgreementHash FieldID = 18 // 32 bytes
	FieldRecipientHash FieldID = 19 // 32 bytes
	FieldFacts         FieldID = 20 // text
	FieldCount         FieldID = 21 // number
	FieldGrantID       FieldID = 22 // 16 bytes
	FieldAssignmentID  FieldID = 23 // 16 bytes
	FieldAction        FieldID = 24 // text: the action that was decided on
	FieldMaxBytes      FieldID = 25 // number: the most that this may send
	FieldApproverTag   FieldID = 26 // 16 bytes: ActorTag of the second person
	FieldRangeStart    FieldID = 27 // number: first byte of the plaintext
	FieldRangeLength   FieldID = 28 // number: bytes
	FieldEpoch         FieldID = 29 // number: of keys
	FieldKeyHash       FieldID = 30 // 32 bytes: of a public key
	FieldVersion       FieldID = 40 // number: of a dataset
	FieldContent       FieldID = 41 // text: "index" for the list of a shard's members; absent: its data
	FieldIndexSHA256   FieldID = 42 // 32 bytes: of the sealed index

	FieldRanges FieldID = 45 // text: for example "0-99,500-599", bytes of the plaintext, where a read is of several
	FieldLinkID FieldID = 46 // 16 bytes: the link that was used, made or ended

	// Of sealed bytes that nobody but the object store has seen whole.
	FieldPartSize    FieldID = 50 // number: bytes of each part but the last
	FieldPartsSHA256 FieldID = 51 // 32 bytes: over the SHA-256 of every part, in order

	// Of a check.
	FieldMissing  FieldID = 55 // number: objects that the catalog names and storage has not
	FieldChanged  FieldID = 56 // number: objects that are not what the catalog says
	FieldExtra    FieldID = 57 // number: objects that no row names
	FieldRepaired FieldID = 58 // number: what was repaired
	FieldExtent   FieldID = 59 // text: "objects", or "data" if they were read whole; with "repair" if asked for

	FieldApprovalID    FieldID = 80 // 16 bytes: the approval that was used
	FieldVerdict       FieldID = 81 // text: of a review
	FieldDisclosureID  FieldID = 82 // 16 bytes: the disclosure that a read is part of
	FieldDocumentHash  FieldID = 83 // 32 bytes: SHA-256 of the document that requires a disclosure
	FieldWithheldUntil FieldID = 84 // number: Unix microseconds; until then the details are not shown to the client

	// Of returned work, and of access reviews.
	FieldWorkID       FieldID = 120 // 16 bytes: the work that was returned, judged or read
	FieldJudgement    FieldID = 121 // text: "accepted" or "sent-back"; of access: "keep", "revoke" or "expired"
	FieldReviewID     FieldID = 122 // 16 bytes: the access review
	FieldKept         FieldID = 123 // number: of a review's items
	FieldRevoked      FieldID = 124 // number
	FieldExpiredItems FieldID = 125 // number: unanswered at the deadline
	FieldDigest       FieldID = 126 // 32 bytes: of a review's decisions

	// Of a read.
	FieldReaderRegion FieldID = 90 // text: the region of a reader who is not in the project's; it is named in the conditions
	FieldBasis        FieldID = 91 // number: the transfer basis: 1 none needed, 2 adequacy, 3 standard contractual clauses

	// Of a recovered log.
	FieldLostSize    FieldID = 60 // number: leaves of the newest checkpoint that is known to have been signed
	FieldLostRoot    FieldID = 61 // 32 bytes: its root
	FieldLogEpoch    FieldID = 62 // number: of the log, from this leaf on
	FieldArrayRoot   FieldID = 65 // 32 bytes: root of a statement's Array
	FieldArrayLength FieldID = 66 // number: slots in a statement's Array
	FieldNonce       FieldID = 67 // 16 bytes: drawn by who asks, so that an old answer is told from a new one

	FieldProfile   FieldID = 130 // text: which fields of a profile were changed, for example "email phone"
	FieldMessageID FieldID = 131 // 16 bytes: the mail that was written
	FieldEvents    FieldID = 132 // text: what a client hears of
	FieldMails     FieldID = 133 // number: addresses that hear of it
	FieldWebhooks  FieldID = 134 // number: likewise
	// Of objects that were moved to another store.
	FieldObjects     FieldID = 150 // number
	FieldStoredBytes FieldID = 151 // number: of these objects
	FieldStoreID     FieldID = 152 // 16 bytes: what the new store is marked with
	// Of requests of people about their own data.
	FieldRequestKind FieldID = 110 // text: what a request asks for
	FieldDue         FieldID = 111 // number: Unix microseconds: the first moment at which a request is overdue
	FieldOutcome     FieldID = 112 // text: how a request ended
	FieldIdentity    FieldID = 113 // text: how it was made sure who asks
	FieldRequestID   FieldID = 114 // 16 bytes: the request that something was done for
	// Of holds, retention and erasures.
	FieldHoldID      FieldID = 100 // 16 bytes
	FieldErasureID   FieldID = 101 // 16 bytes
	FieldFinal       FieldID = 102 // number: Unix microseconds; from then on no backup brings back what was erased
	FieldVersions    FieldID = 103 // number: versions of objects that were removed, the present ones included
	FieldMarkers     FieldID = 104 // number: delete markers that were removed
	FieldUploads     FieldID = 105 // number: unfinished uploads that were removed
	FieldErasedBytes FieldID = 106 // number: bytes of those versions
	FieldDatasets    FieldID = 107 // number: datasets
	FieldWhat        FieldID = 108 // text: what a retention is about: "data", "results", "log" or "personal"
	FieldPeriod      FieldID = 109 // text: for example "180d"; absent: none any more
)

// FieldType is what an extension field's value holds.
type FieldType uint8

const (
	TypeBytes  FieldType = iota // any bytes; also that of fields this version does not know
	TypeNumber                  // 8 bytes, an unsigned big-endian number
	TypeText                    // UTF-8 without control characters
	TypeID                      // 16 bytes
	TypeHash                    // 32 bytes
)

type fieldInfo struct {
	name string
	kind FieldType
}

var fields = map[FieldID]fieldInfo{
	FieldBytesSent: {"bytes-sent", TypeNumber}, FieldCause: {"cause", TypeText}, FieldRefIndex: {"ref-index", TypeNumber},
	FieldRole: {"role", TypeText}, FieldSubjectTag: {"subject-tag", TypeID}, FieldUntil: {"until", TypeNumber},
	FieldPurpose: {"purpose", TypeText}, FieldRegion: {"region", TypeText}, FieldPolicyHash: {"policy-hash", TypeHash},
	FieldDeviceID: {"device-id", TypeID}, FieldPlaintextSize: {"plaintext-size", TypeNumber},
	FieldSealedSize: {"sealed-size", TypeNumber}, FieldSealedSHA256: {"sealed-sha256", TypeHash},
	FieldDelivery: {"delivery", TypeText}, FieldAttemptID: {"attempt-id", TypeID}, FieldShardSet: {"shard-set", TypeText},
	FieldRefusedKind: {"refused-kind", TypeNumber}, FieldAgreementHash: {"agreement-hash", TypeHash},
	FieldRecipientHash: {"recipient-hash", TypeHash}, FieldFacts: {"facts", TypeText}, FieldCount: {"count", TypeNumber},
	FieldGrantID: {"grant-id", TypeID}, FieldAssignmentID: {"assignment-id", TypeID}, FieldAction: {"action", TypeText},
	FieldMaxBytes: {"max-bytes", TypeNumber}, FieldApproverTag: {"approver-tag", TypeID},
	FieldRangeStart: {"range-start", TypeNumber}, FieldRangeLength: {"range-length", TypeNumber},
	FieldPartSize: {"part-size", TypeNumber}, FieldPartsSHA256: {"parts-sha256", TypeHash},
	FieldEpoch: {"epoch", TypeNumber}, FieldKeyHash: {"key-hash", TypeHash},
	FieldVersion: {"version", TypeNumber}, FieldContent: {"content", TypeText}, FieldIndexSHA256: {"index-sha256", TypeHash},
	FieldRanges: {"ranges", TypeText}, FieldLinkID: {"link-id", TypeID},
	FieldMissing: {"missing", TypeNumber}, FieldChanged: {"changed", TypeNumber}, FieldExtra: {"extra", TypeNumber},
	FieldRepaired: {"repaired", TypeNumber}, FieldExtent: {"extent", TypeText},
	FieldLostSize: {"lost-size", TypeNumber}, FieldLostRoot: {"lost-root", TypeHash}, FieldLogEpoch: {"log-epoch", TypeNumber},

	FieldProfile: {"profile", TypeText}, FieldMessageID: {"message-id", TypeID}, FieldEvents: {"events", TypeText},
	FieldReaderRegion: {"reader-region", TypeText}, FieldBasis: {"basis", TypeNumber},
	FieldMails: {"mails", TypeNumber}, FieldWebhooks: {"webhooks", TypeNumber},
	FieldApprovalID: {"approval-id", TypeID}, FieldVerdict: {"verdict", TypeText}, FieldDisclosureID: {"disclosure-id", TypeID},
	FieldDocumentHash: {"document-hash", TypeHash}, FieldWithheldUntil: {"withheld-until", TypeNumber},
	FieldHoldID: {"hold-id", TypeID}, FieldErasureID: {"erasure-id", TypeID}, FieldFinal: {"final", TypeNumber},
	FieldVersions: {"versions", TypeNumber}, FieldMarkers: {"markers", TypeNumber}, FieldUploads: {"uploads", TypeNumber},
	FieldErasedBytes: {"erased-bytes", TypeNumber}, FieldDatasets: {"datasets", TypeNumber},
	FieldWhat: {"what", TypeText}, FieldPeriod: {"period", TypeText},
	FieldWorkID: {"work-id", TypeID}, FieldJudgement: {"judgement", TypeText}, FieldReviewID: {"review-id", TypeID},
	FieldKept: {"kept", TypeNumber}, FieldRevoked: {"revoked", TypeNumber}, FieldExpiredItems: {"expired", TypeNumber},
	FieldDigest: {"digest", TypeHash},

	FieldArrayRoot: {"array-root", TypeHash}, FieldArrayLength: {"array-length", TypeNumber}, FieldNonce: {"nonce", TypeID},

	FieldObjects: {"objects", TypeNumber}, FieldStoredBytes: {"stored-bytes", TypeNumber}, FieldStoreID: {"store-id", TypeID},

	FieldRequestKind: {"request-kind", TypeText}, FieldDue: {"due", TypeNumber}, FieldOutcome: {"outcome", TypeText},
	FieldIdentity: {"identity", TypeText}, FieldRequestID: {"request-id", TypeID},
}

// String gives the field's name, or "field-123" for a number that this version
// does not know.
func (id FieldID) String() string {
	if info, ok := fields[id]; ok {
		return info.name
	}
	return nameOf[FieldID](nil, "field-", id)
}

// Type gives the type of the field's value.
func (id FieldID) Type() FieldType { return fields[id].kind }

// Uint64Field makes a field that holds a number.
func Uint64Field(id FieldID, v uint64) Field {
	return Field{id, binary.BigEndian.AppendUint64(nil, v)}
}

// StringField makes a field that holds text.
func StringField(id FieldID, s string) Field { return Field{id, []byte(s)} }

// BytesField makes a field that holds bytes, an ID or a hash. It copies b.
func BytesField(id FieldID, b []byte) Field { return Field{id, slices.Clone(b)} }

// Set adds fields, each at its place in the order, or replaces those of the
// same ID. It leaves a slice that Ext shared with others as it was.
func (l *Leaf) Set(add ...Field) {
	ext := make([]Field, len(l.Ext), len(l.Ext)+len(add))
	copy(ext, l.Ext)
	for _, f := range add {
		i, found := slices.BinarySearchFunc(ext, f.ID, compareField)
		if found {
			ext[i] = f
		} else {
			ext = slices.Insert(ext, i, f)
		}
	}
	l.Ext = ext
}

// Uint64 gives a number field, and whether the leaf has it.
func (l *Leaf) Uint64(id FieldID) (uint64, bool) {
	b, ok := l.Bytes(id)
	if !ok || len(b) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(b), true
}

// Text gives a text field, and whether the leaf has it.
func (l *Leaf) Text(id FieldID) (string, bool) {
	b, ok := l.Bytes(id)
	return string(b), ok
}

// Bytes gives a field's value as it is, and whether the leaf has it. The bytes
// are the leaf's own: do not change them.
func (l *Leaf) Bytes(id FieldID) ([]byte, bool) {
	i, found := slices.BinarySearchFunc(l.Ext, id, compareField)
	if !found {
		return nil, false
	}
	return l.Ext[i].Value, true
}

func compareField(f Field, id FieldID) int { return int(f.ID) - int(id) }

// fits reports whether the value is of the field's type.
func (f Field) fits() bool {
	switch f.ID.Type() {
	case TypeNumber:
		return len(f.Value) == 8
	case TypeID:
		return len(f.Value) == 16
	case TypeHash:
		return len(f.Value) == 32
	case TypeText:
		return isText(f.Value)
	default:
		return true
	}
}

func isText(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 || unicode.IsControl(r) {
			return false
		}
		b = b[n:]
	}
	return true
}

// bases are the words for the numbers of FieldBasis.
var bases = [...]string{"0", "none-needed", "adequacy", "scc"}

// Texts gives the extension fields by name, as people read them: times as RFC
// 3339 in UTC, bytes in hexadecimal.
func (l *Leaf) Texts() map[string]string {
	out := make(map[string]string, len(l.Ext))
	for _, f := range l.Ext {
		name := f.ID.String()
		n, _ := l.Uint64(f.ID)
		switch {
		case f.ID == FieldUntil || f.ID == FieldWithheldUntil || f.ID == FieldFinal:
			out[name] = time.UnixMicro(int64(n)).UTC().Format(time.RFC3339)
		case f.ID == FieldBasis && n < uint64(len(bases)):
			out[name] = bases[n]
		case f.ID == FieldRefusedKind:
			out[name] = Kind(n).String()
		case f.ID.Type() == TypeNumber:
			out[name] = strconv.FormatUint(n, 10)
		case f.ID.Type() == TypeText:
			out[name] = string(f.Value)
		default:
			out[name] = hex.EncodeToString(f.Value)
		}
	}
	return out
}
