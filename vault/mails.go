package vault

import (
	"fmt"
	"time"

	"dsvault/vault/identity"
)

// Events of mails to people.
const (
	mailInvitation     = "invitation"
	mailReset          = "reset"
	mailAddressChanged = "address-changed"
	mailRequestDue     = "request-due"
)

// The texts of mails name no name and no client: whoever reads over a shoulder
// learns the handle and the vault's address.

func (v *Vault) invitation(to, handle string, token identity.Secret, until time.Time) letter {
	return letter{To: to, Subject: "Your invitation to " + v.publicURL, Text: fmt.Sprintf(`You were invited to the vault at %[1]s, as %[2]s.

Run this on your machine, and paste the token when it asks for one:

    dsvault login %[1]s

Token (for one login, until %[3]s):

    %[4]s

A key is made on your machine then; what you fetch is sealed to it. If you did
not expect this mail, delete it.
`, v.publicURL, handle, mailTime(until), token.Expose())}
}

func (v *Vault) resetMail(to, handle string, ask resetAsk, token identity.Secret, until time.Time) letter {
	from := ask.actor.Address
	if from == "" {
		from = "an unknown address"
	}
	return letter{To: to, Subject: "Reset of your login at " + v.publicURL, Text: fmt.Sprintf(`Somebody asked to reset the login of %[2]s at %[1]s.

    asked on:        %[5]s
    from IP address: %[6]s

If it was you, run this, and paste the token when it asks for one:

    dsvault login %[1]s

Token (for one login, until %[3]s):

    %[4]s

All your other logins end then, and transfers that run on them.

If it was not you, do nothing: without the token nothing changes. If it goes on,
tell an admin.
`, v.publicURL, handle, mailTime(until), token.Expose(), mailTime(ask.at), from)}
}

func (v *Vault) addressChanged(to, handle string) letter {
	return letter{To: to, Subject: "Your address at " + v.publicURL + " was changed", Text: fmt.Sprintf(`This is not the address of %[2]s at %[1]s any more, since %[3]s. Mails that
reset the login go to the new one.

If you did not expect this, tell an admin.
`, v.publicURL, handle, mailTime(v.now()))}
}

func mailTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
