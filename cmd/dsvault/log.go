package main

import "github.com/spf13/cobra"

func (a *app) logCmd() *cobra.Command {
	var flags logFlags
	var listing listingFlags
	var verify, follow bool
	var proof proofFlags
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

--verify trusts the server with nothing. It fetches every record of the scope
with the proofs that belong to them, and checks on this machine, with the key
that was kept from your first login: that the checkpoint is signed and continues
the log as you verified it before; that a statement in the log counts as many
records of each scope as there are, so that none is left out; each scope's chain
of hashes; and what is shown of people against what the records commit to. What
it finds is remembered for the next time.

A log whose operator has recovered it from an older backup is refused: the
message names the record that says what was lost. --accept-recovery goes on
with it.

--export keeps what was verified in one file, which ` + "`dsvault verify`" + ` checks on a
machine that has never met the server.

--format writes the records that the filters select to a file for auditors, as
JSON lines or CSV, and beside it a note by which the log signs the file's hash,
the question and its checkpoint. It proves who gave the file and that nobody has
changed it since; that the records are all there are is proven by --export.`,
		Example: `  dsvault log acme/signs
  dsvault log --actor alice --since 24h
  dsvault log acme --kind read --decision refused --since 2026-11-01 --until 2026-11-30
  dsvault log acme --follow
  dsvault log acme --verify
  dsvault log acme --export acme.bundle
  dsvault log acme --since 2026-11-01 --format csv -o acme-november.csv`,
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
			if follow && (verify || proof.export != "" || !filter.Until.IsZero()) {
				return usage("--follow has no end, and nothing to verify before it", "leave out --until, --verify and --export")
			}
			if err := listing.check(); err != nil {
				return err
			}
			if listing.format != "" && (verify || follow || proof.export != "") {
				return usage("--format writes a file and does nothing else", "leave out --verify, --export and --follow")
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			switch {
			case listing.format != "":
				return a.saveListing(cmd.Context(), s, scope, filter, listing)
			case verify || proof.export != "":
				view := &logView{app: a, filter: filter}
				if !verify {
					view = nil // the file has the records
				}
				return a.verifyLog(cmd.Context(), s, scope, view, proof)
			case follow:
				return a.followLog(cmd.Context(), s, scope, filter)
			}
			return a.showLog(cmd.Context(), s, scope, filter)
		},
	}
	flags.register(cmd)
	listing.register(cmd)
	cmd.Flags().BoolVar(&verify, "verify", false, "check everything on this machine")
	cmd.Flags().StringVar(&proof.export, "export", "", "verify, and keep what was verified in this new file")
	proof.register(cmd)
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with what is written from now on")
	return cmd
}
