package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dsvault/vault/audit"
	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// papers are the files that a certificate is written to.
type papers struct{ certificate, page string }

func (p *papers) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.certificate, "certificate", "", "write the signed certificate to this file, as JSON")
	cmd.Flags().StringVar(&p.page, "page", "", "write it to this file as a page to print, as HTML")
}

func (a *app) eraseCmd() *cobra.Command {
	var req wire.NewErasure
	var out papers
	var yes, detach bool
	cmd := &cobra.Command{
		Use:   "erase SCOPE",
		Short: "Erase the data of a client, a project or a dataset, for good",
		Long: `Destroys the keys of all datasets at the scope and below: from then on nobody can
read them, and reads that run are cut. Then the server removes every object with
all its versions, delete markers and unfinished uploads, begins a new epoch of
keys so that no backup brings the data back, looks again whether anything is
left, and only then calls the erasure complete. It goes on by itself after an
interruption, also without this command.

The certificate says what was erased, when and on whose word, and from which day
it is final: until then backups from before it, with a copy of the keys folder
from before it, still open (` + "`dsvault serve --backup-window`" + `). ` + "`dsvault verify`" + ` checks
it anywhere.

It takes two people: the first run asks for a second person's approval
(` + "`dsvault approve`" + `), with which it is carried out; then ` + "`dsvault erasure list`" + `
shows it, and ` + "`dsvault erasure certificate`" + ` gives the certificate. A legal hold stops it. Records of the log and the names
of what was erased stay.`,
		Example: `  dsvault erase acme/signs/batch-1 --certificate batch-1.certificate.json --page batch-1.html
  dsvault erase acme --reason "end of the contract" --yes --detach`,
		Args: args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Scope, err = scopeArg(args); err != nil {
				return err
			}
			if detach && out != (papers{}) {
				return usage("there is no certificate before the erasure is complete", "leave --detach out, or use `dsvault erasure certificate` later")
			}
			if !yes {
				if !isTerminal(a.in) {
					return usage("erasing needs your yes", "say --yes once you are sure: nothing brings the data back")
				}
				if err := a.confirm("Erase all data of " + req.Scope.String() + " for good? Type yes: "); err != nil {
					return err
				}
			}
			s, err := a.connect()
			if err != nil {
				return err
			}
			e, err := s.Erase(cmd.Context(), req)
			if err != nil {
				return err
			}
			if e.Pending != nil {
				return a.pending(e, e.Pending)
			}
			if detach {
				return a.result(e, "the keys of %s are destroyed; the rest goes on: `dsvault erasure show %s`", datasets(e), e.ID)
			}
			return a.followErasure(cmd.Context(), s, e.ID, out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Reason, "reason", "", "why; it stands in the certificate")
	f.BoolVar(&yes, "yes", false, "erase without being asked")
	f.BoolVar(&detach, "detach", false, "destroy the keys and do not wait for the rest")
	out.flags(cmd)
	return cmd
}

func datasets(e wire.Erasure) string { return plural(int(e.Datasets), "dataset", "datasets") }

// followErasure waits until an erasure is complete, and writes its certificate.
func (a *app) followErasure(ctx context.Context, s *session, id dataset.ErasureID, out papers) error {
	said := ""
	e, err := s.FollowErasure(ctx, id, followPause, func(e wire.Erasure) {
		if e.Problem != said && e.Problem != "" && !a.json {
			fmt.Fprintf(a.err, "the erasure waits: %s\n", clean(e.Problem))
		}
		said = e.Problem
	})
	if err != nil {
		if fault.Is(err, fault.Canceled) && !a.json {
			fmt.Fprintf(a.err, "the erasure goes on: `dsvault erasure show %s --wait` waits for it\n", id)
		}
		return err
	}
	if err := a.keepPapers(ctx, s, e.ID, out); err != nil {
		return err
	}
	return a.showErasure(e)
}

func (a *app) showErasure(e wire.Erasure) error {
	if e.State != "complete" {
		waits := ""
		if e.Problem != "" {
			waits = "; it waits: " + e.Problem
		}
		return a.result(e, "the erasure %s of %s is not complete: the keys of %s were destroyed at %s, and the bytes of %d of them are gone%s",
			e.ID, e.Scope, datasets(e), timeText(e.Started), e.Gone, waits)
	}
	return a.result(e, "erased %s: %s, %d object versions, %s; complete at %s, final with regard to backups from %s",
		e.Scope, datasets(e), e.Versions, size(e.Bytes), untilText(e.Ended), untilText(e.Final))
}

func (a *app) erasureCmd() *cobra.Command {
	return group("erasure", "Erasures and their certificates", a.erasureListCmd(), a.erasureShowCmd(), a.erasureCertificateCmd())
}

func (a *app) erasureListCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "list [SCOPE]",
		Short:   "List the erasures that concern a scope, the newest first",
		Example: "  dsvault erasure list acme",
		Args:    args(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.within(args, func(s *session, scope dataset.Scope) error {
				header := []string{"ERASURE", "SCOPE", "CAUSE", "STATE", "STARTED", "COMPLETE", "FINAL", "DATASETS", "BY", "PROBLEM"}
				return list(a, s.Erasures(cmd.Context(), scope), header, func(e wire.Erasure) []string {
					return []string{e.ID.String(), e.Scope.String(), e.Cause, e.State, timeText(e.Started), untilText(e.Ended), untilText(e.Final),
						fmt.Sprintf("%d/%d", e.Gone, e.Datasets), e.By, e.Problem}
				})
			})
		},
	}
}

func (a *app) erasureShowCmd() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:     "show ERASURE",
		Short:   "Show how far an erasure is",
		Example: "  dsvault erasure show ers_abcdefghijklmnopqrstuvwxyz --wait",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return about(a, args[0], func(s *session, id dataset.ErasureID) error {
				if wait {
					return a.followErasure(cmd.Context(), s, id, papers{})
				}
				e, err := s.Erasure(cmd.Context(), id)
				if err != nil {
					return err
				}
				return a.showErasure(e)
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is complete")
	return cmd
}

func (a *app) erasureCertificateCmd() *cobra.Command {
	var out papers
	cmd := &cobra.Command{
		Use:   "certificate ERASURE",
		Short: "Write the certificate of an erasure that is complete",
		Long: `Fetches the certificate, checks it with the log's key, and writes it: signed, as
JSON, and as a page to print. There is none while anything of the data is left.`,
		Example: "  dsvault erasure certificate ers_abcdefghijklmnopqrstuvwxyz --certificate acme.json --page acme.html",
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == (papers{}) {
				return usage("no file to write to", "name --certificate or --page, or both")
			}
			return about(a, args[0], func(s *session, id dataset.ErasureID) error {
				if err := a.keepPapers(cmd.Context(), s, id, out); err != nil {
					return err
				}
				e, err := s.Erasure(cmd.Context(), id)
				if err != nil {
					return err
				}
				return a.showErasure(e)
			})
		},
	}
	out.flags(cmd)
	return cmd
}

// keepPapers fetches, checks and writes a certificate.
func (a *app) keepPapers(ctx context.Context, s *session, id dataset.ErasureID, out papers) error {
	if out == (papers{}) {
		return nil
	}
	c, report, err := s.Certificate(ctx, id, s.login.Pin())
	if err != nil {
		return err
	}
	for _, file := range []struct {
		path  string
		write func(io.Writer) error
	}{
		{out.certificate, func(w io.Writer) error {
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			return enc.Encode(c)
		}},
		{out.page, func(w io.Writer) error { return certificatePage(w, c, report) }},
	} {
		if err := saveFile(file.path, file.write); err != nil {
			return err
		}
	}
	return nil
}

// saveFile writes a new file, whole or not at all.
func saveFile(path string, write func(io.Writer) error) error {
	file, err := newExport(path)
	if err != nil || file == nil {
		return err
	}
	defer file.discard()
	if err := write(file); err != nil {
		return err
	}
	return file.keep()
}

// certified is what a good certificate shows.
type certified struct {
	audit.Erasure
	Origin    string           `json:"origin"`
	Index     uint64           `json:"index"` // of the record that nothing was left
	Hash      dataset.HexBytes `json:"hash"`
	Size      uint64           `json:"size"` // of the checkpoint
	Witnesses []string         `json:"witnesses,omitempty"`
}

// certificate checks a certificate.
func (v *fileVerifier) certificate(path string) error {
	f, _, err := openFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, audit.MaxCertificate+1))
	if err != nil {
		return unreadable("dsvault.verify", "it", err)
	}
	c, err := audit.ParseCertificate(data)
	if err != nil {
		return client.Failed(err)
	}
	out := verification{File: path}
	pin := v.pin(c.Origin)
	if pin.Key == "" {
		out.Key = keyFromFile
	}
	report, err := client.VerifyCertificate(c, pin, v.proof.witnesses)
	if err != nil {
		return err
	}
	if err := v.proof.check(report.Witnesses); err != nil {
		return err
	}
	v.others = append(v.others, report.Checkpoint)
	hash := audit.LeafHash(c.End.Leaf)
	e := report.Erasure
	out.Erasure = &certified{Erasure: e, Origin: c.Origin, Index: c.End.Index, Hash: hash[:], Size: report.Checkpoint.Size, Witnesses: report.Witnesses}
	final := "final with regard to backups from " + timeText(e.Final)
	if now().Before(e.Final) {
		final = "not final yet: backups from before it may open until " + timeText(e.Final)
	}
	err = v.result(out, "certificate good: %s, %s, %d object versions, erased at %s, complete at %s; records %d and %d of the log %s; %s", e.Scope,
		plural(len(e.Datasets), "dataset", "datasets"), e.Versions, timeText(e.Started), timeText(e.Ended), c.Start.Index, c.End.Index, c.Origin, final)
	if err == nil && !v.json && out.Key == keyFromFile {
		v.trustNote(c.Key)
	}
	return err
}
