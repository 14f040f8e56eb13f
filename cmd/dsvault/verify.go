package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvault/vault/audit"
	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// proofFlags say what the log is verified against, and what is kept of it.
type proofFlags struct {
	export    string
	witnesses []string
	accept    bool
}

func (f *proofFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.witnesses, "witness", nil, "key of a witness that has to have cosigned; may be given several times")
	cmd.Flags().BoolVar(&f.accept, "accept-recovery", false, "go on with a log that its operator has recovered though records are lost")
}

// check: whoever names witnesses wants all of them, and of a name with several keys
// each of these. cosigned has the name for each key that has signed.
func (f *proofFlags) check(cosigned []string) error {
	left := map[string]int{}
	for _, name := range cosigned {
		left[name]++
	}
	for _, key := range f.witnesses {
		name, _, _ := strings.Cut(key, "+")
		if left[name]--; left[name] < 0 {
			return fault.New(fault.Corrupt, "dsvault.verify", "the witness "+name+" has not cosigned the checkpoint").
				WithHint("try again in a minute; if it stays so, ask the witness whether it knows this log")
		}
	}
	return nil
}

// verification is what is said at the end of a verified log or file.
type verification struct {
	File     string           `json:"file,omitempty"`
	Key      string           `json:"key_from,omitempty"` // "file": nothing else vouches for it
	Verified *client.Verified `json:"verified,omitempty"`
	Receipt  *receiptVerdict  `json:"receipt,omitempty"`
	Erasure  *certified       `json:"erasure,omitempty"`
}

// verifyLog shows the records as they are verified, so that what is on screen
// is what was checked. A nil view shows none.
func (a *app) verifyLog(ctx context.Context, s *session, scope dataset.Scope, view *logView, proof proofFlags) error {
	known, err := s.place.Known()
	if err != nil {
		return err
	}
	opts := client.VerifyOptions{Known: known, Witnesses: proof.witnesses, AcceptRecovery: proof.accept}
	if view != nil {
		opts.Each = func(r wire.Record) error { return view.add(r) }
	}
	file, err := newExport(proof.export)
	if err != nil {
		return err
	}
	defer file.discard()
	if file != nil {
		opts.Export = file
	}
	bar := &progress{}
	if view == nil { // the records on the screen are progress enough
		bar = a.progressOf("records", false)
		opts.Progress = bar.reached
	}
	start := now()
	v, err := s.VerifyLog(ctx, scope, s.login.Pin(), opts)
	bar.finish()
	if view != nil {
		if shown := view.end(); err == nil {
			err = shown
		}
	}
	if err == nil {
		err = proof.check(v.Witnesses)
	}
	if err == nil {
		err = file.keep()
	}
	if err != nil {
		return err
	}
	if err := s.place.SaveKnown(known.And(v)); err != nil {
		return err
	}
	if s.login.LogOrigin != v.Origin || s.login.LogKey != v.Key { // recovered, or with a new key
		s.login = s.login.Follow(v)
		if err := s.place.SaveLogin(s.login); err != nil {
			return err
		}
	}
	return a.verdict(verification{File: proof.export, Verified: &v}, now().Sub(start))
}

// verdict says what was verified.
func (a *app) verdict(v verification, took time.Duration) error {
	l := v.Verified
	covered := "no record"
	if l.Seen > 0 {
		covered = fmt.Sprintf("%d records of %s from %s to %s, all that there are until then",
			l.Seen, plural(len(l.Scopes), "scope", "scopes"), timeText(l.From), timeText(l.Until))
	}
	cosigned := "nobody"
	if len(l.Witnesses) > 0 {
		cosigned = strings.Join(l.Witnesses, ", ")
	}
	if err := a.result(v, "verified: %s, %s; log of %d records, root %s, signed by %s, cosigned by %s, in %s",
		l.Scope, covered, l.Size, l.Root, l.Origin, cosigned, took.Round(time.Millisecond)); err != nil || a.json {
		return err
	}
	if v.Key == keyFromFile {
		a.trustNote(l.Key)
	}
	return nil
}

const keyFromFile = "file"

// trustNote: a file that brings its own key proves itself to nobody.
func (a *app) trustNote(key string) {
	fmt.Fprintf(a.err, "Verified against the key in the file, which anybody can make. Compare it with the log's key as the operator publishes it:\n  %s\n", clean(key))
}

func (a *app) verifyCmd() *cobra.Command {
	var key string
	var records bool
	var proof proofFlags
	cmd := &cobra.Command{
		Use:   "verify FILE...",
		Short: "Check exported logs, receipts and certificates, without a server",
		Long: `Checks files that ` + "`dsvault log --export`" + `, ` + "`dsvault pull`" + ` and ` + "`dsvault erase`" + ` have
written, on any machine and without a server. Files that are given together are also
compared: an exported log has to hold the reads that receipts are of, and a
whole log (of the scope /) has to be the one that the others are of. Of a file
that ` + "`dsvault log --format`" + ` has written, name the note: the file is looked for
beside it.

The log's key is the one given with --key, or one that this machine keeps from
its logins: the newest, and those that led to it. Without either it is the key
in the file: then compare the key that is shown with the one that the operator
publishes.`,
		Example: `  dsvault verify acme.bundle
  dsvault verify --key dsvault-log-0123456789abcdef+89abcdef+AdK… acme.bundle
  dsvault verify work.receipts/batch-1-0000.63.json acme.bundle
  dsvault verify batch-1.certificate.json`,
		Args: args(1, 1000),
	}
	cmd.Flags().StringVar(&key, "key", "", "the log's key, as NAME+1234abcd+BASE64")
	cmd.Flags().BoolVar(&records, "records", false, "show the records of an exported log")
	proof.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		pins, err := a.pins(key)
		if err != nil {
			return err
		}
		v := fileVerifier{app: a, pins: pins, records: records, proof: proof}
		return v.run(args)
	}
	return cmd
}

// pins are the logs that are known here: the one of --key, or those of all
// logins.
func (a *app) pins(key string) ([]client.LogPin, error) {
	if key != "" {
		name, _, _ := strings.Cut(key, "+")
		return []client.LogPin{{Origin: name, Key: key}}, nil
	}
	home, err := client.OpenHome(a.env("DSVAULT_CONFIG"))
	if err != nil {
		return nil, nil // a machine without a config folder knows no log
	}
	return home.Pins()
}

// fileVerifier checks files, one after the other; receipts first, since exported
// logs are checked against them.
type fileVerifier struct {
	*app
	pins    []client.LogPin
	records bool
	proof   proofFlags

	receipts []audit.Receipt
	others   []audit.Checkpoint // of what was verified so far
}

func (v *fileVerifier) run(files []string) error {
	var failed []error
	try := func(path string, err error) {
		if err != nil {
			failed = append(failed, inFile(path, err))
		}
	}
	var parts, wholes []string
	for _, path := range files {
		begin, header, err := beginning(path)
		switch {
		case err != nil:
			try(path, err)
		case audit.IsCertificate(begin):
			try(path, v.certificate(path))
		case audit.IsListing(begin):
			try(path, v.listing(path))
		case header == nil:
			try(path, v.receipt(path))
		case header.Whole: // last: they are compared with the others
			wholes = append(wholes, path)
		default:
			parts = append(parts, path)
		}
	}
	for _, path := range append(parts, wholes...) {
		try(path, v.bundle(path))
	}
	for i, err := range failed {
		if i < len(failed)-1 {
			v.printError(err)
		}
	}
	if len(failed) > 0 {
		return failed[len(failed)-1]
	}
	return nil
}

// inFile names the file that an error is about.
func inFile(path string, err error) error {
	var e *fault.Error
	if errors.As(err, &e) {
		named := *e
		named.Message = path + ": " + e.Message
		return &named
	}
	return err
}

// pin is what a file of the log called origin is checked with.
func (v *fileVerifier) pin(origin string) client.LogPin {
	name, _ := audit.SplitOrigin(origin)
	for _, p := range v.pins {
		if pinned, _ := audit.SplitOrigin(p.Origin); pinned == name {
			return p
		}
	}
	if len(v.pins) > 0 {
		return v.pins[0] // which it then is found not to be of
	}
	return client.LogPin{}
}

func openFile(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, unreadable("dsvault.verify", "it", err)
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		f.Close()
		return nil, 0, fault.Wrap(fault.Invalid, "dsvault.verify", "it is not a file", err).WithHint("name the files one by one")
	}
	return f, info.Size(), nil
}

// beginning gives the first bytes of a file, by which its kind is told, and the
// header if it is an exported log.
func beginning(path string) ([]byte, *audit.BundleHeader, error) {
	f, _, err := openFile(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	begin, err := in.Peek(64)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, unreadable("dsvault.verify", "it", err)
	}
	if !audit.IsBundle(begin) {
		return begin, nil, nil
	}
	header, err := audit.PeekBundle(in)
	if err != nil {
		return nil, nil, client.Failed(err)
	}
	return begin, &header, nil
}

// bundle checks an exported log.
func (v *fileVerifier) bundle(path string) error {
	f, size, err := openFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<20)
	header, err := audit.PeekBundle(in)
	if err != nil {
		return client.Failed(err)
	}
	out := verification{File: path}
	pin := v.pin(header.Origin)
	if pin.Key == "" {
		out.Key = keyFromFile
	}
	opts := client.VerifyOptions{
		Witnesses: v.proof.witnesses, Receipts: v.receipts, Others: v.others, AcceptRecovery: v.proof.accept,
	}
	view := logView{app: v.app}
	if v.records {
		opts.Each = func(r wire.Record) error { return view.add(r) }
	}
	start := now()
	bar := v.progress("verify")
	bar.Expect(size)
	verified, err := client.VerifyBundle(counting{in, bar}, pin, opts)
	bar.finish()
	if shown := view.end(); err == nil && v.records {
		err = shown
	}
	if err == nil {
		err = v.proof.check(verified.Witnesses)
	}
	if err != nil {
		return err
	}
	v.others = append(v.others, audit.Checkpoint{Origin: verified.Origin, Size: verified.Size, Root: audit.Hash(verified.Root)})
	out.Verified = &verified
	return v.verdict(out, now().Sub(start))
}

// counting tells the progress what is read.
type counting struct {
	r   io.Reader
	bar *progress
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.bar.Done(int64(n))
	return n, err
}

// export is a file that gets its name once it is whole.
type export struct {
	*bufio.Writer
	tmp  *os.File
	path string
}

func newExport(path string) (*export, error) {
	if path == "" {
		return nil, nil
	}
	if _, err := os.Lstat(path); err == nil {
		return nil, fault.New(fault.Conflict, "dsvault.export", path+" is there already").WithHint("name a new file, or remove that one")
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".dsvault-export-*") // 0600: it names people
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "dsvault.export", "cannot write "+path, err).WithHint("name a file in a folder that you may write to")
	}
	return &export{Writer: bufio.NewWriterSize(tmp, 1<<20), tmp: tmp, path: path}, nil
}

// keep gives the file its name.
func (e *export) keep() error {
	if e == nil {
		return nil
	}
	err := e.Flush()
	if err == nil {
		err = e.tmp.Sync()
	}
	if closing := e.tmp.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Link(e.tmp.Name(), e.path) // never over another file
		if err != nil && !errors.Is(err, os.ErrExist) {
			err = os.Rename(e.tmp.Name(), e.path) // a file system without hard links
		}
	}
	if err != nil {
		return fault.Wrap(fault.Invalid, "dsvault.export", "cannot write "+e.path, err).WithHint("check the folder and the space on the disk")
	}
	return nil
}

// discard removes what has no name.
func (e *export) discard() {
	if e != nil {
		e.tmp.Close()
		os.Remove(e.tmp.Name())
	}
}
