package storage

import (
	"time"

	"dsvault/vault/dataset"
)

// Channel is by which way a message goes.
type Channel string

const (
	ByMail    Channel = "mail"
	ByWebhook Channel = "webhook"
)

// MessageState says what became of a message.
type MessageState string

const (
	MessageWaiting MessageState = "waiting" // to be sent, or to be tried again
	MessageSent    MessageState = "sent"    // the receiver has taken it
	MessageDead    MessageState = "dead"    // nobody tries any more; Problem says why
)

// Message is a mail or a webhook call that is to be sent, at least once.
type Message struct {
	ID        dataset.MessageID
	Client    dataset.Scope       // that a notice is for; zero: none
	Principal dataset.PrincipalID // whom a mail is for; zero: nobody
	Channel   Channel
	Event     string
	Content   []byte // sealed; nil once nothing more is to be sent
	CreatedAt time.Time
	Due       time.Time // not to be tried before
	Until     time.Time // not to be tried from then on; zero: no end
	State     MessageState
	Attempts  int
	TriedAt   time.Time // the last time; zero: not yet
	Problem   string    // what was wrong the last time
}

// Notices is what a client hears of.
type Notices struct {
	Client    dataset.Scope
	Events    []string
	Settings  []byte // where to; sealed
	ChangedAt time.Time
	ChangedBy dataset.PrincipalID
}
