package main

import (
	"time"

	"github.com/spf13/cobra"

	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func (a *app) logCmd() *cobra.Command {
	var flags logFlags
	var verify, follow bool
	cmd := &cobra.Command{
		Use:   "log [SCOPE]",
		Short: "Show who did what when, and verify it",
		Long: `Shows the records of a scope and below, oldest first. A read is one line, at
the place where it ended: when it began, who read what, the bytes that were
really sent of the most it could be, how it ended, and how long it took. Reads
that go on come last, as "running". --json gives each record as it is, and with
the one that ends a read the read as a whole.

The filters can be combined; the server applies them. --kind read,login shows
refused reads and logins too; --decision refused only those. --actor takes a
name or a pseudonym, as the log shows it: ~ and 32 digits.

--follow goes on with what is written from now on, or from --since, until
Ctrl-C. Looking is itself recorded: once for each ten minutes of looking, not
for each page or request.

--verify trusts the server with nothing: it recomputes every leaf's hash and
the root of the whole log, follows the chain of each scope, compares what is
shown with what the leaf says, and checks the signature with the key that was
kept from your first login. Records that you may not see take part by their
hash. What it finds is remembered: a log that is shorter the next time, or that
begins otherwise, is refused.`,
		Example: `  dsvault log acme/signs
  dsvault log --actor alice --since 24h
  dsvault log acme --kind read --decision refused --since 2026-11-01 --until 2026-11-30
  dsvault log acme --follow
  dsvault log acme --verify`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := scopeArg(args)
			if err != nil {
				return err
			}
			filter, err := flags.filter(now())
			if err != nil {
				return err
			}
			if follow && (verify || !filter.Until.IsZero()) {
				return usage("--follow has no end, and nothing to verify before it", "leave out --until and --verify")
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			switch {
			case verify:
				return a.verifyLog(cmd, s, scope, filter)
			case follow:
				return a.followLog(cmd.Context(), s, scope, filter)
			}
			return a.showLog(cmd.Context(), s, scope, filter)
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&verify, "verify", false, "recompute and check everything")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with what is written from now on")
	return cmd
}

// verification is the last line of JSON of a verified log.
type verification struct {
	Verified client.Verified `json:"verified"`
}

// verifyLog shows the records as they are verified, so that what is on screen
// is what was checked.
func (a *app) verifyLog(cmd *cobra.Command, s *session, scope dataset.Scope, filter client.LogFilter) error {
	show := logView{app: a, filter: filter}
	each := func(r wire.Record) error { return show.add(r) }
	pin := client.LogPin{Origin: s.login.LogOrigin, Key: s.login.LogKey}
	start := now()
	known, err := s.place.Known()
	if err != nil {
		return err
	}
	v, err := s.VerifyLog(cmd.Context(), scope, pin, client.VerifyOptions{Each: each, Known: known})
	if shown := show.end(); err == nil {
		err = shown
	}
	if err != nil {
		return err
	}
	if err := s.place.SaveKnown(client.Known{Origin: v.Origin, Size: v.Size, Root: v.Root}); err != nil {
		return err
	}
	return a.result(verification{v}, "verified: %d records (%d read, %d known by hash), %d chains, root %s, signed by %s, in %s",
		v.Size, v.Seen, v.Hidden, v.Slots, v.Root, v.Origin, now().Sub(start).Round(time.Millisecond))
}
