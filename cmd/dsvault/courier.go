package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/spf13/pflag"

	"dsvault/storage/catalog"
	"dsvault/vault/client"
	"dsvault/vault/courier"
)

// courierSettings say how mails and webhooks leave the server.
type courierSettings struct {
	SMTP         string // smtp://…, smtps://…; empty: no mail
	PasswordFile string
	From         string
	Plain        bool   // TLS is not required
	PublicURL    string // that mails name
	Private      bool   // webhooks at addresses that are not public
}

func (c *courierSettings) flags(f *pflag.FlagSet) {
	f.StringVar(&c.SMTP, "smtp", "", "mail server: smtp://[USER@]HOST:587 with STARTTLS, or smtps://[USER@]HOST:465 (default: no mail is sent)")
	f.StringVar(&c.PasswordFile, "smtp-password-file", "", "file whose first line is USER's password (or DSVAULT_SMTP_PASSWORD)")
	f.BoolVar(&c.Plain, "smtp-plain", false, "send mail in clear to a server that offers no TLS")
	f.StringVar(&c.From, "mail-from", "", "sender of mails: ADDRESS or 'NAME <ADDRESS>'")
	f.StringVar(&c.PublicURL, "public-url", "", "this server's URL as mails name it (default: that of --listen, on loopback)")
	f.BoolVar(&c.Private, "webhook-private", false, "call webhooks at loopback and private addresses and over plain HTTP, too")
}

// openCourier makes the settings what the vault takes. password is used if no
// file is named.
func (c *serveConfig) openCourier(password string) (err error) {
	s := &c.Courier
	c.Hooks = courier.NewHooks(s.Private)
	if s.SMTP == "" {
		if s.From != "" || s.PasswordFile != "" || s.Plain {
			return usage("settings of mail without a mail server", "give --smtp")
		}
		return nil
	}
	if s.PasswordFile != "" {
		if password, err = firstLine(s.PasswordFile); err != nil {
			return err
		}
	}
	if s.PublicURL, err = c.publicURL(); err != nil {
		return err
	}
	c.PublicURL = s.PublicURL
	c.Mailer, err = courier.NewMailer(courier.MailConfig{URL: s.SMTP, From: s.From, Plain: s.Plain, Password: courier.NewPassword(password)})
	return err
}

// publicURL is never taken from a request: whoever sends one could have mails
// name a server of theirs.
func (c *serveConfig) publicURL() (string, error) {
	if c.Courier.PublicURL != "" {
		return client.ParseURL(c.Courier.PublicURL, true)
	}
	host, port, err := net.SplitHostPort(c.Listen)
	ip, notIP := netip.ParseAddr(host)
	if err != nil || port == "0" || host != "localhost" && (notIP != nil || !ip.IsLoopback()) {
		return "", usage("mails have to name this server's URL", "give --public-url, for example https://vault.example.org")
	}
	scheme := "http://"
	if c.Cert != "" {
		scheme = "https://"
	}
	return scheme + c.Listen, nil
}

// messages looks for mails and webhook calls that do not get through.
func (d *doctor) messages(ctx context.Context, db *catalog.DB) {
	var late, dead int
	err := db.View(ctx, func(tx *catalog.Tx) (err error) {
		late, dead, err = tx.CountMessages(ctx)
		return err
	})
	switch {
	case err != nil:
		d.report("messages", err, "")
	case late+dead > 0:
		d.say("messages", warning, fmt.Sprintf("%d were given up in the last 30 days, %d are tried again", dead, late),
			"`dsvault notices show CLIENT` shows those to a client; the server's log names each that was given up")
	default:
		d.say("messages", healthy, "none waits after a failed try, none was given up", "")
	}
}
