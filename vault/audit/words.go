package audit

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind says what a leaf records. The list is closed and the numbers are fixed
// for good: new kinds get new numbers, and a number is never used again.
type Kind uint16

const (
	KindVaultInit Kind = 1
	KindNodeStart Kind = 2
	KindLogRead   Kind = 3 // somebody looked at the log
	KindList      Kind = 4 // somebody looked at records that hold no data; only its refusals are recorded

	KindRead      Kind = 10 // a read was admitted and is open until its read-end
	KindReadEnd   Kind = 11 // closes the read named by ref-index
	KindUpload    Kind = 12
	KindUploadEnd Kind = 13
	KindExport    Kind = 14

	KindDatasetCreate   Kind = 20
	KindDatasetComplete Kind = 21
	KindClientCreate    Kind = 22
	KindProjectCreate   Kind = 23
	KindProjectUpdate   Kind = 24

	KindPersonInvite  Kind = 30
	KindPersonDisable Kind = 31
	KindLogin         Kind = 32
	KindDeviceAdd     Kind = 33
	KindDeviceRemove  Kind = 34
	KindTokenRotate   Kind = 35
	KindPersonEnable  Kind = 36

	KindAgreementPublish  Kind = 40
	KindAgreementSign     Kind = 41
	KindAgreementWithdraw Kind = 42

	KindGrant      Kind = 50
	KindRevoke     Kind = 51
	KindAssign     Kind = 52
	KindUnassign   Kind = 53
	KindPolicyLoad Kind = 54
	KindApprove    Kind = 55 // one of the two people that a dual rule asks for

	KindRefused Kind = 60 // a refused request; refused-kind says of which kind

	KindStatement     Kind = 70
	KindHoldPlace     Kind = 71
	KindHoldRelease   Kind = 72
	KindRestrict      Kind = 73
	KindLift          Kind = 74 // ends a restriction
	KindErase         Kind = 75
	KindAnonymize     Kind = 76
	KindKeyRotate     Kind = 77
	KindCheckpointKey Kind = 78
	KindExpire        Kind = 79

	KindSubmit Kind = 90 // annotations
	KindReview Kind = 91

	KindLinkCreate Kind = 110 // a link to one item, for the actor
	KindLinkEnd    Kind = 111

	KindCheckStart Kind = 130 // catalog and storage are being compared
	KindCheckEnd   Kind = 131

	KindApprovalRequest  Kind = 180 // somebody asks for a second person's approval
	KindApprovalRefuse   Kind = 181 // or takes that back; cause says which
	KindResetAsk         Kind = 230 // somebody asked for a one-time token, to be mailed to the person whose record it is
	KindResetUse         Kind = 231 // it was used: all other tokens of the person ended
	KindPersonUpdate     Kind = 232
	KindNoticesSet       Kind = 233 // what a client hears of by mail and webhook, and where
	KindNoticesTest      Kind = 234
	KindConditions       Kind = 190 // what a scope asks of readers has changed
	KindBreakGlass       Kind = 182 // an admin reads in an emergency, without a second person
	KindBreakGlassEnd    Kind = 183 // before its time
	KindBreakGlassReview Kind = 184
	KindDisclose         Kind = 185 // two people have agreed on a disclosure that a law requires
	KindExpiryWarn       Kind = 200 // a dataset expires soon: until
	KindEraseEnd         Kind = 201 // nothing is left of what an erasure was about
	KindRetention        Kind = 202 // how long things are kept was set
	KindEpochDestroy     Kind = 203 // the key of an old epoch was destroyed
	KindLogExpire        Kind = 204 // details of old records were dropped; the records stay
	KindResultExpire     Kind = 205 // returned work was dropped: work-id, period

	KindLogRecover Kind = 140 // begins an epoch of the log: signed records are lost; lost-size and lost-root say which

	KindStorageMigrate Kind = 150 // the objects of a store were moved to another: region, store-id, objects, stored-bytes
	KindRootKeyRotate  Kind = 151 // the vault's root key is another one: key-hash

	KindSubjectExport   Kind = 210 // all that is held about somebody
	KindSubjectCorrect  Kind = 211
	KindObject          Kind = 212 // somebody objects to a purpose
	KindObjectEnd       Kind = 213
	KindConsentGive     Kind = 214
	KindConsentWithdraw Kind = 215
	KindRequestOpen     Kind = 216 // in the register of requests
	KindRequestExtend   Kind = 217
	KindRequestClose    Kind = 218

	KindClaim      Kind = 220 // a shard, taken under a lease
	KindClaimRenew Kind = 221
	KindClaimEnd   Kind = 222 // given back, or its work was accepted
	KindSubmitEnd  Kind = 223 // the work is there

	KindAccessReviewStart  Kind = 224
	KindAccessReviewDecide Kind = 225 // access is kept; revoke and unassign say that it is not
	KindAccessReviewEnd    Kind = 226
)

var kindNames = map[Kind]string{
	KindVaultInit: "vault-init", KindNodeStart: "node-start", KindLogRead: "log-read", KindList: "list",
	KindRead: "read", KindReadEnd: "read-end", KindUpload: "upload", KindUploadEnd: "upload-end", KindExport: "export",
	KindDatasetCreate: "dataset-create", KindDatasetComplete: "dataset-complete",
	KindClientCreate: "client-create", KindProjectCreate: "project-create", KindProjectUpdate: "project-update",
	KindPersonInvite: "person-invite", KindPersonDisable: "person-disable", KindPersonEnable: "person-enable",
	KindLogin: "login", KindDeviceAdd: "device-add", KindDeviceRemove: "device-remove", KindTokenRotate: "token-rotate",
	KindAgreementPublish: "agreement-publish", KindAgreementSign: "agreement-sign", KindAgreementWithdraw: "agreement-withdraw",
	KindGrant: "grant", KindRevoke: "revoke", KindAssign: "assign", KindUnassign: "unassign",
	KindPolicyLoad: "policy-load", KindApprove: "approve", KindRefused: "refused",
	KindStatement: "statement", KindHoldPlace: "hold-place", KindHoldRelease: "hold-release",
	KindRestrict: "restrict", KindLift: "lift", KindErase: "erase", KindAnonymize: "anonymize",
	KindKeyRotate: "key-rotate", KindCheckpointKey: "checkpoint-key", KindExpire: "expire",
	KindSubmit: "submit", KindReview: "review",
	KindLinkCreate: "link-create", KindLinkEnd: "link-end",
	KindCheckStart: "check-start", KindCheckEnd: "check-end",
	KindApprovalRequest: "approval-request", KindApprovalRefuse: "approval-refuse",
	KindBreakGlass: "break-glass", KindBreakGlassEnd: "break-glass-end", KindBreakGlassReview: "break-glass-review", KindDisclose: "disclose",
	KindExpiryWarn: "expiry-warn", KindEraseEnd: "erase-end", KindRetention: "retention", KindEpochDestroy: "epoch-destroy",
	KindLogExpire:    "log-expire",
	KindResultExpire: "result-expire",
	KindLogRecover:   "log-recover",
	KindResetAsk:     "reset-ask", KindResetUse: "reset-use", KindPersonUpdate: "person-update",
	KindNoticesSet: "notices-set", KindNoticesTest: "notices-test",
	KindConditions:     "conditions",
	KindStorageMigrate: "storage-migrate", KindRootKeyRotate: "root-key-rotate",

	KindSubjectExport: "subject-export", KindSubjectCorrect: "subject-correct", KindObject: "object", KindObjectEnd: "object-end",
	KindConsentGive: "consent-give", KindConsentWithdraw: "consent-withdraw",
	KindRequestOpen: "request-open", KindRequestExtend: "request-extend", KindRequestClose: "request-close",
	KindClaim: "claim", KindClaimRenew: "claim-renew", KindClaimEnd: "claim-end", KindSubmitEnd: "submit-end",
	KindAccessReviewStart: "access-review-start", KindAccessReviewDecide: "access-review-decide", KindAccessReviewEnd: "access-review-end",
}

// String gives the kind's name, or "kind-123" for a number that this version
// does not know.
func (k Kind) String() string { return nameOf(kindNames, "kind-", k) }

// ParseKind reads what String gives.
func ParseKind(s string) (Kind, error) { return parseName(kindNames, "kind-", s) }

// Decision is the outcome that a leaf records.
type Decision uint8

const (
	None    Decision = 0 // nothing was decided
	Allowed Decision = 1
	Refused Decision = 2
)

var decisionNames = map[Decision]string{None: "none", Allowed: "allowed", Refused: "refused"}

// String gives "none", "allowed" or "refused".
func (d Decision) String() string { return nameOf(decisionNames, "decision-", d) }

// ObjectKind says what kind of thing a leaf is about. Closed and fixed like Kind.
type ObjectKind uint8

const (
	ObjectUnknown    ObjectKind = 0
	ObjectVault      ObjectKind = 1
	ObjectClient     ObjectKind = 2
	ObjectProject    ObjectKind = 3
	ObjectDataset    ObjectKind = 4
	ObjectShard      ObjectKind = 5 // ID is the dataset's, Number the shard's
	ObjectPerson     ObjectKind = 6
	ObjectDevice     ObjectKind = 7
	ObjectAgreement  ObjectKind = 8 // Number is the version
	ObjectGrant      ObjectKind = 9
	ObjectAssignment ObjectKind = 10
	ObjectPolicy     ObjectKind = 11
	ObjectLog        ObjectKind = 12
	ObjectKey        ObjectKind = 13
	ObjectApproval   ObjectKind = 20
	ObjectBreakGlass ObjectKind = 21
	ObjectDisclosure ObjectKind = 22
	ObjectRequest    ObjectKind = 29 // in the register of requests
)

var objectNames = map[ObjectKind]string{
	ObjectUnknown: "unknown", ObjectVault: "vault", ObjectClient: "client", ObjectProject: "project",
	ObjectDataset: "dataset", ObjectShard: "shard", ObjectPerson: "person", ObjectDevice: "device",
	ObjectAgreement: "agreement", ObjectGrant: "grant", ObjectAssignment: "assignment",
	ObjectPolicy: "policy", ObjectLog: "log", ObjectKey: "key",
	ObjectApproval: "approval", ObjectBreakGlass: "break-glass", ObjectDisclosure: "disclosure",
	ObjectRequest: "request",
}

// String gives the name, or "object-123" for a number that this version does
// not know.
func (k ObjectKind) String() string { return nameOf(objectNames, "object-", k) }

// ParseObjectKind reads what String gives.
func ParseObjectKind(s string) (ObjectKind, error) { return parseName(objectNames, "object-", s) }

func nameOf[T ~uint8 | ~uint16](names map[T]string, prefix string, v T) string {
	if name, ok := names[v]; ok {
		return name
	}
	return prefix + strconv.Itoa(int(v))
}

func parseName[T ~uint8 | ~uint16](names map[T]string, prefix, s string) (T, error) {
	for v, name := range names {
		if name == s {
			return v, nil
		}
	}
	if digits, ok := strings.CutPrefix(s, prefix); ok {
		n, err := strconv.ParseUint(digits, 10, 16)
		// The round trip refuses numbers that do not fit T, that have a name,
		// and those written in another way than String does.
		if v := T(n); err == nil && uint64(v) == n && nameOf(names, prefix, v) == s {
			return v, nil
		}
	}
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	return 0, fmt.Errorf("audit: no such name %s", strconv.QuoteToASCII(s))
}
