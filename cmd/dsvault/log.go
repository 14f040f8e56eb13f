package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

func (a *app) logCmd() *cobra.Command {
	var actor, since string
	var verify bool
	cmd := &cobra.Command{
		Use:   "log [SCOPE]",
		Short: "Show who did what when, and verify it",
		Long: `Shows the records of a scope and below, oldest first.

--verify trusts the server with nothing: it recomputes every leaf's hash and
the root of the whole log, follows the chain of each scope, compares what is
shown with what the leaf says, and checks the signature with the key that was
kept from your first login. Records that you may not see take part by their
hash. What it finds is remembered: a log that is shorter the next time, or that
begins otherwise, is refused.`,
		Example: `  dsvault log acme/signs
  dsvault log --actor alice --since 24h
  dsvault log acme --verify`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := scopeArg(args)
			if err != nil {
				return err
			}
			filter := client.LogFilter{Actor: actor}
			if filter.Since, err = parseSince(since, now()); err != nil {
				return err
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			if verify {
				return a.verifyLog(cmd, s, scope, filter)
			}
			return list(a, s.Log(cmd.Context(), scope, filter), logHeader, logRow)
		},
	}
	cmd.Flags().StringVar(&actor, "actor", "", "only what this person did")
	cmd.Flags().StringVar(&since, "since", "", "only from then on: 24h, 7d, a date, an RFC 3339 time")
	cmd.Flags().BoolVar(&verify, "verify", false, "recompute and check everything")
	return cmd
}

var logHeader = []string{"INDEX", "TIME", "ACTOR", "KIND", "DECISION", "OBJECT", "WHY", "DETAIL"}

func logRow(r wire.Record) []string {
	kind := r.Kind
	if wanted := r.Detail["refused-kind"]; wanted != "" {
		kind = wanted
	}
	return []string{strconv.FormatUint(r.Index, 10), timeText(r.Time), r.Actor, kind, r.Decision, r.Object, r.Reason, detailText(r.Detail)}
}

// longDetails are of use to programs only, or shown elsewhere; --json has them.
var longDetails = []string{"policy-hash", "subject-tag", "device-id", "recipient-hash", "sealed-sha256", "agreement-hash",
	"attempt-id", "grant-id", "assignment-id", "approver-tag", "key-hash", "facts", "max-bytes", "refused-kind"}

func detailText(detail map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(detail)) {
		if !slices.Contains(longDetails, k) {
			parts = append(parts, k+"="+detail[k])
		}
	}
	return strings.Join(parts, " ")
}

// verification is the last line of JSON of a verified log.
type verification struct {
	Verified client.Verified `json:"verified"`
}

// verifyLog shows the records as they are verified, so that what is on screen
// is what was checked.
func (a *app) verifyLog(cmd *cobra.Command, s *session, scope dataset.Scope, filter client.LogFilter) error {
	var t *table
	each := func(r wire.Record) error {
		if filter.Actor != "" && r.Actor != filter.Actor || r.Time.Before(filter.Since) {
			return nil
		}
		if a.json {
			return writeJSON(a.out, r)
		}
		if t == nil {
			t = newTable(a.out, logHeader...)
		}
		t.row(logRow(r)...)
		return nil
	}
	pin := client.LogPin{Origin: s.login.LogOrigin, Key: s.login.LogKey}
	start := now()
	known, err := s.place.Known()
	if err != nil {
		return err
	}
	v, err := s.VerifyLog(cmd.Context(), scope, pin, client.VerifyOptions{Each: each, Known: known})
	if t != nil {
		t.flush()
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
