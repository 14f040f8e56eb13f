package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// followPause is how often a running check is asked how far it is.
const followPause = 500 * time.Millisecond

func (a *app) checkCmd() *cobra.Command {
	var req wire.NewCheck
	var rate, show, cancel string
	var listAll, detach bool
	cmd := &cobra.Command{
		Use:   "check [SCOPE]",
		Short: "Compare storage with the catalog, and report what is missing or damaged",
		Long: `Compares what the catalog says with what the object store holds, at a scope and
below: objects that are missing, changed, or known to no row. --read-data also
reads every object whole and compares its SHA-256. Nothing is decrypted.

The check runs in the server, which goes on with it after an interruption or a
restart, from where it was. The same command again joins the one that runs.
Its start and result are in the log.

--repair removes what the catalog itself marks as not needed any more (the
objects of uploads that were given up, of shards that were replaced), and with
--read-data pins objects to their new ETags if their bytes are right, as after
a restored backup. It never removes an object that the catalog does not know: a
newer catalog may want it.`,
		Example: `  dsvault check
  dsvault check acme/signs --read-data --rate 20MiB
  dsvault check --list`,
		Args: args(0, 1),
	}
	f := cmd.Flags()
	f.BoolVar(&req.Data, "read-data", false, "read every object whole and compare its SHA-256")
	f.BoolVar(&req.Repair, "repair", false, "repair what can be repaired")
	f.StringVar(&rate, "rate", "50MiB", "bytes to read a second at the most; none for no limit")
	f.BoolVar(&detach, "detach", false, "start it and do not wait for its end")
	f.BoolVar(&listAll, "list", false, "list the checks of the scope, the newest first")
	f.StringVar(&show, "show", "", "wait for this check, by its ID, and show its result")
	f.StringVar(&cancel, "cancel", "", "end this check where it is")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if req.Scope, err = scopeArg(args); err != nil {
			return err
		}
		if starts := req.Data || req.Repair || detach; oneOf(listAll, show != "", cancel != "", starts) > 1 {
			return usage("--list, --show and --cancel stand alone", "run `dsvault check --help`")
		}
		var id dataset.CheckID
		if text := show + cancel; text != "" {
			if id, err = dataset.ParseID[dataset.CheckID](text); err != nil {
				return err
			}
		}
		if rate != "none" && req.Data {
			if req.Rate, err = parseSize(rate); err != nil {
				return err
			}
		}
		s, err := a.connect()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		switch {
		case listAll:
			return list(a, s.Checks(ctx, req.Scope), checkHeader, checkRow)
		case cancel != "":
			c, err := s.CancelCheck(ctx, id)
			if err != nil {
				return err
			}
			return a.result(c, "canceled the check of %s after %s", c.Scope, plural(int(c.Checked), "object", "objects"))
		case show != "":
			return a.followCheck(ctx, s, id)
		}
		c, err := s.StartCheck(ctx, req)
		if err != nil {
			return err
		}
		if detach {
			return a.result(c, "checking %s: see `dsvault check --show %s`", c.Scope, c.ID)
		}
		return a.followCheck(ctx, s, c.ID)
	}
	return cmd
}

// oneOf counts what is true.
func oneOf(conditions ...bool) int {
	n := 0
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}

var checkHeader = []string{"ID", "SCOPE", "STARTED", "STATE", "DATA", "CHECKED", "MISSING", "CHANGED", "EXTRA", "LEFTOVERS", "REPAIRED", "BY"}

func checkRow(c wire.Check) []string {
	data := "no"
	if c.Data {
		data = size(c.Read)
	}
	count := func(n int64) string { return fmt.Sprint(n) }
	by := c.By
	if c.Scheduled {
		by = "the schedule"
	}
	return []string{c.ID.String(), c.Scope.String(), timeText(c.Started), c.State, data, count(c.Checked) + "/" + count(c.Objects),
		count(c.Missing), count(c.Changed), count(c.Extra), count(c.Leftovers), count(c.Repaired), by}
}

// checked is the result of a check as one document.
type checked struct {
	wire.Check
	Findings []wire.Finding `json:"findings"`
}

// followCheck shows how far a check is, and then what it has found.
func (a *app) followCheck(ctx context.Context, s *session, id dataset.CheckID) error {
	var bar *progress
	done := int64(0)
	c, err := s.FollowCheck(ctx, id, followPause, func(c wire.Check) {
		now, total := c.Checked, c.Objects
		if c.Data {
			now, total = c.Read, c.Bytes
		}
		if bar == nil {
			bar = a.progressOf("check", c.Data)
			bar.Expect(total)
		}
		bar.Done(max(now-done, 0))
		done = max(now, done)
	})
	if bar != nil {
		bar.finish()
	}
	if err != nil {
		if fault.Is(err, fault.Canceled) && !a.json {
			fmt.Fprintf(a.err, "the check goes on: `dsvault check --show %s` waits for it, --cancel ends it\n", id)
		}
		return err
	}
	out := checked{Check: c, Findings: []wire.Finding{}}
	for f, err := range s.Findings(ctx, id) {
		if err != nil {
			return err
		}
		out.Findings = append(out.Findings, f)
	}
	if err := a.showCheck(out); err != nil {
		return err
	}
	return verdict(c)
}

func (a *app) showCheck(out checked) error {
	c := out.Check
	if !a.json && len(out.Findings) > 0 {
		t := newTable(a.out, "KIND", "SHARD", "OBJECT", "DETAIL")
		for _, f := range out.Findings {
			kind := f.Kind
			if f.Repaired {
				kind += ", repaired"
			}
			t.row(kind, f.Shard, f.Key, f.Detail)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	read := "without reading them"
	if c.Data {
		read = size(c.Read) + " read"
	}
	return a.result(out, "checked %s: %s, %s; %d missing, %d changed, %d extra, %s, %d repaired", c.Scope,
		plural(int(c.Checked), "object", "objects"), read, c.Missing, c.Changed, c.Extra, plural(int(c.Leftovers), "leftover", "leftovers"), c.Repaired)
}

// verdict is the error that a result means for the exit status.
func verdict(c wire.Check) error {
	const op = "dsvault.check"
	switch {
	case c.Damaged():
		return fault.New(fault.Corrupt, op, fmt.Sprintf("stored data is damaged: %d missing, %d changed", c.Missing, c.Changed)).
			WithHint("put the objects back from a backup, under the keys that are named; the data of the others is not touched by it")
	case c.State == "failed":
		return fault.New(fault.Unavailable, op, "the check gave up: "+c.Problem).WithHint("see the server's log, then start it again")
	case c.State == "canceled":
		return fault.New(fault.Conflict, op, "the check was canceled before its end").WithHint("start it again")
	}
	return nil
}
