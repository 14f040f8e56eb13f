package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// Events that a client may hear of.
const (
	NoticePurpose  = "new-purpose" // data of a project was read for a purpose for the first time
	NoticeGrant    = "grant"       // a role was given
	NoticeHold     = "hold"        // a legal hold was placed or released
	NoticeErasure  = "erasure"     // data was erased
	NoticeGlass    = "break-glass" // an admin has broken the glass
	NoticeDeadline = "deadline"    // something ends soon

	// Not chosen: sent when somebody asks for it, and to where notices went before.
	NoticeTest    = "test"
	NoticeChanged = "notices-changed"
)

// NoticeEvents are those that can be chosen.
var NoticeEvents = []string{NoticePurpose, NoticeGrant, NoticeHold, NoticeErasure, NoticeGlass, NoticeDeadline}

// MaxReceivers is how many addresses, and how many webhooks, a client may have.
const MaxReceivers = 5

// Notices says what a client hears of, and where. GET /v1/notices/{client}.
type Notices struct {
	Client   dataset.Scope `json:"client"`
	Mail     []string      `json:"mail"`
	Webhooks []string      `json:"webhooks"`
	Events   []string      `json:"events"`
	Changed  *time.Time    `json:"changed,omitempty"` // absent: never chosen
	By       string        `json:"by,omitempty"`
	Secret   string        `json:"secret,omitempty"` // that signs webhook calls; shown once, when it was made
}

// NoticesUpdate changes Notices; what is absent stays as it is. The first
// webhook gets a signing secret. PATCH /v1/notices/{client} gives Notices.
type NoticesUpdate struct {
	Mail      *[]string `json:"mail,omitempty"`
	Webhooks  *[]string `json:"webhooks,omitempty"`
	Events    *[]string `json:"events,omitempty"`
	NewSecret bool      `json:"new_secret,omitempty"` // in place of the one there is
}

// NoticesTested names the messages of a test. POST /v1/notices/{client}/test
type NoticesTested struct {
	Messages []dataset.MessageID `json:"messages"`
}

// Message is one mail or webhook call to a client and what became of it.
// GET /v1/notices/{client}/messages?after=&limit= gives Page[Message], the newest
// first. What was sent is listed for 7 days, what was given up for 30.
type Message struct {
	ID       dataset.MessageID `json:"id"`
	Event    string            `json:"event"`
	Channel  string            `json:"channel"` // mail, webhook
	State    string            `json:"state"`   // waiting, sent, dead
	Created  time.Time         `json:"created"`
	Attempts int               `json:"attempts"`
	Tried    *time.Time        `json:"tried,omitempty"`
	Due      *time.Time        `json:"due,omitempty"` // of the next try
	Problem  string            `json:"problem,omitempty"`
}

// Notice is the body of a webhook call. It names no person and no file.
type Notice struct {
	Type      string     `json:"type"` // the event
	Timestamp time.Time  `json:"timestamp"`
	Data      NoticeData `json:"data"`
}

// NoticeData says what has happened where. What does not apply is absent.
type NoticeData struct {
	Client  dataset.Scope `json:"client"`
	Scope   dataset.Scope `json:"scope"`            // where it happened; "/" is the whole vault
	Record  *uint64       `json:"record,omitempty"` // its number in the audit log
	Purpose string        `json:"purpose,omitempty"`
	Role    dataset.Role  `json:"role,omitempty"`
	What    string        `json:"what,omitempty"` // of a hold: placed, released; of a deadline: what ends
	Until   *time.Time    `json:"until,omitempty"`
}
