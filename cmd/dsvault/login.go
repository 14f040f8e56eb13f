package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"dsvault/vault/client"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// maxSecretLine bounds what is read of a prompt's answer or of stdin.
const maxSecretLine = 4 << 10

func (a *app) loginCmd() *cobra.Command {
	var device string
	cmd := &cobra.Command{
		Use:   "login URL",
		Short: "Log in to a server and register this machine's device key",
		Long: `Logs in with the token of an invitation or of a reset mail, or with one of your
own. The token is asked for, or read from stdin or from DSVAULT_TOKEN; it is never
an argument. That of a reset mail ends all your other tokens, and transfers that
run on them.

A device key is made on this machine, once, and registered: shards that you
pull are sealed to it. Key and token are kept in your config folder, readable
by you only. The key is an age key file: age -d -i device.key opens what
pull --sealed keeps. The server's log key is kept too, and must stay the
same, or be followed by the next one with the signatures of both.`,
		Example: `  dsvault login https://vault.example.org
  dsvault login http://127.0.0.1:8200 <token.txt
  DSVAULT_CONFIG=~/.config/dsvault-admin dsvault login https://vault.example.org`,
		Args: args(1, 1),
	}
	cmd.Flags().StringVar(&device, "device", "", "name of this device (default: the machine's name)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.login(cmd, args[0], device) }
	return cmd
}

func (a *app) login(cmd *cobra.Command, rawURL, device string) error {
	url, err := client.ParseURL(rawURL, a.allowPlain)
	if err != nil {
		return err
	}
	home, err := client.OpenHome(a.env("DSVAULT_CONFIG"))
	if err != nil {
		return err
	}
	place, err := home.Server(url)
	if err != nil {
		return err
	}
	known, err := place.Login()
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	token, err := a.readToken()
	if err != nil {
		return err
	}
	if device == "" {
		if device, err = os.Hostname(); err != nil || device == "" {
			device = "unnamed"
		}
	}
	// The key is stored before the token is used: an invitation holds once. So is
	// the folder tried, in which a key may be already.
	if err := place.Writable(); err != nil {
		return err
	}
	identity, err := place.EnsureDevice()
	if err != nil {
		return err
	}
	c, err := client.New(client.Config{URL: url, AllowPlainHTTP: a.allowPlain, Token: token, UserAgent: userAgent()})
	if err != nil {
		return err
	}
	in, err := c.Login(cmd.Context(), wire.Login{DeviceName: device, Recipient: identity.Recipient().String()})
	if err != nil {
		return err
	}
	if in.Token != "" {
		if token, err = client.ParseSecret(in.Token); err != nil {
			return err
		}
	}
	// Before anything is kept: an impostor must not replace what is.
	known, ok := known.LeadsTo(in)
	if !ok {
		return fault.New(fault.Corrupt, "dsvault.login", "this server shows another log key than at your first login").
			WithHint("ask the operator; if the vault was made anew, remove " + place.Dir() + " and log in again")
	}
	if err := place.SaveToken(token); err != nil {
		return err
	}
	err = place.SaveLogin(client.Login{
		URL: url, AllowPlainHTTP: a.allowPlain, Handle: in.Whoami.Handle, Device: in.Device, DeviceName: device,
		LogOrigin: known.LogOrigin, LogKey: known.LogKey, LogKeysBefore: known.LogKeysBefore,
	})
	if err != nil {
		return err
	}
	if place.Dir() != home.Dir() && !a.json {
		fmt.Fprintf(a.err, "This is a further server: set DSVAULT_URL=%s to use it.\n", clean(url))
	}
	if in.Ended > 0 && !a.json {
		fmt.Fprintf(a.err, "This ended %s of yours.\n", plural(in.Ended, "other token", "other tokens"))
	}
	in.Token, in.LogSuccessions = "", nil // not for the screen
	return a.result(in, "logged in to %s as %s, device %s (%s)", url, in.Whoami.Handle, device, in.Device)
}

// readToken takes the token from the environment, a prompt or stdin.
func (a *app) readToken() (client.Secret, error) {
	if token := a.env("DSVAULT_TOKEN"); token != "" {
		return client.ParseSecret(token)
	}
	text, err := a.readSecret("Token: ")
	if err != nil {
		return client.Secret{}, err
	}
	return client.ParseSecret(text)
}

// readSecret asks at the terminal without echo; otherwise it reads one line of
// stdin.
func (a *app) readSecret(prompt string) (string, error) {
	if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(a.err, prompt)
		secret, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.err)
		if err != nil {
			return "", fault.Wrap(fault.Invalid, "dsvault.readSecret", "cannot read from the terminal", err)
		}
		return string(secret), nil
	}
	return a.readLine()
}

// readLine reads one line of stdin, and not a byte more than it has to.
func (a *app) readLine() (string, error) {
	line, err := bufio.NewReaderSize(io.LimitReader(a.in, maxSecretLine), maxSecretLine).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fault.Wrap(fault.Invalid, "dsvault.readLine", "cannot read stdin", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func (a *app) whoamiCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "whoami",
		Short:   "Show who you are, your roles, devices and signatures",
		Example: "  dsvault whoami\n  dsvault whoami --json",
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.connect()
			if err != nil {
				return err
			}
			me, err := s.Whoami(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return writeJSON(a.out, me)
			}
			return a.printWhoami(s, me)
		},
	}
}

func (a *app) printWhoami(s *session, me wire.Whoami) error {
	kind := "person"
	if me.Service {
		kind = "service"
	}
	t := newTable(a.out, "WHO", me.Handle)
	t.row("server", s.URL())
	t.row("kind", kind)
	if me.Name != "" || me.Email != "" {
		t.row("name", strings.TrimSpace(me.Name+" "+bracket(me.Email)))
	}
	if me.Region != "" {
		t.row("region", me.Region)
	}
	for _, g := range me.Grants {
		t.row("role", string(g.Role)+" at "+g.Scope.String()+forUntil(g.Until))
	}
	for _, b := range me.BreakGlass {
		t.row("glass broken", b.Scope.String()+" until "+glassEnd(b)+", review "+reviewText(b))
	}
	if me.ToReview > 0 {
		t.row("to review", plural(me.ToReview, "emergency", "emergencies")+": dsvault break-glass list")
	}
	for _, d := range me.Devices {
		here := ""
		if d.ID == s.login.Device {
			here = ", this one"
		}
		t.row("device", d.Name+" ("+d.ID.String()+here+")")
	}
	for _, g := range me.Signed {
		t.row("signed", fmt.Sprintf("%s version %d on %s%s", g.Agreement, g.Version, timeText(g.At), forUntil(g.Until)))
	}
	return t.flush()
}

func bracket(s string) string {
	if s == "" {
		return ""
	}
	return "<" + s + ">"
}
