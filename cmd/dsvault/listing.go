package main

import (
	"bufio"
	"context"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dsvault/vault/audit"
	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/wire"
)

// noteEnding is what the name of a listing's note has behind that of its file.
const noteEnding = ".note"

// listingFlags say into which file records go.
type listingFlags struct{ format, out string }

func (f *listingFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.format, "format", "", "write the records to a file for auditors, as jsonl or csv, with a signed note beside it")
	cmd.Flags().StringVarP(&f.out, "out", "o", "", "that file; the note is the same name with "+noteEnding)
}

func (f *listingFlags) check() error {
	switch {
	case f.format == "" && f.out == "":
		return nil
	case f.format == "" || f.out == "":
		return usage("--format and --out belong together", "give both, for example --format csv -o log.csv")
	case !slices.Contains([]string{wire.FormatJSONL, wire.FormatCSV}, f.format):
		return usage("bad --format "+clip(clean(f.format)), "give jsonl or csv")
	}
	return nil
}

// listed is what is said of a file that was written, or checked.
type listed struct {
	File    string           `json:"file"`
	Note    string           `json:"note"`
	Records uint64           `json:"records"`
	Bytes   int64            `json:"bytes"`
	SHA256  dataset.HexBytes `json:"sha256"`
	Query   string           `json:"query"`
	Origin  string           `json:"origin"`
}

func listedOf(file string, l audit.Listing) listed {
	return listed{File: file, Note: file + noteEnding, Records: l.Records, Bytes: l.Bytes, SHA256: l.SHA256[:], Query: l.Query, Origin: l.Origin}
}

// saveListing writes the records and the signed note of them.
func (a *app) saveListing(ctx context.Context, s *session, scope dataset.Scope, filter client.LogFilter, f listingFlags) error {
	file, err := newExport(f.out)
	if err != nil {
		return err
	}
	defer file.discard()
	note, err := newExport(f.out + noteEnding)
	if err != nil {
		return err
	}
	defer note.discard()
	data, l, err := s.ListLog(ctx, scope, filter, f.format, s.login.Pin(), file)
	if err != nil {
		return err
	}
	if _, err := note.Write(data); err != nil {
		return err
	}
	if err := file.keep(); err != nil {
		return err
	}
	if err := note.keep(); err != nil {
		return err
	}
	return a.result(listedOf(f.out, l), "wrote %s: %s, %d bytes, SHA-256 %s, signed by %s in %s",
		f.out, plural(int(l.Records), "record", "records"), l.Bytes, dataset.HexBytes(l.SHA256[:]), l.Origin, f.out+noteEnding)
}

// listing checks a listing: path is its note, beside its file.
func (v *fileVerifier) listing(path string) error {
	file, ok := strings.CutSuffix(path, noteEnding)
	if !ok {
		return fault.New(fault.Invalid, "dsvault.verify", "the note of a listing is named as its file, with "+noteEnding+" behind").
			WithHint("give both their names back, side by side")
	}
	n, _, err := openFile(path)
	if err != nil {
		return err
	}
	defer n.Close()
	data, err := io.ReadAll(io.LimitReader(n, audit.MaxListingNote+1))
	if err != nil {
		return unreadable("dsvault.verify", "it", err)
	}
	origin, err := audit.ListingOrigin(data)
	if err != nil {
		return client.Failed(err)
	}
	pin := v.pin(origin)
	if pin.Key == "" {
		return fault.New(fault.Invalid, "dsvault.verify", "the log's key is not known on this machine").
			WithHint("give it with --key, as the operator publishes it; a note does not bring its own")
	}
	l, err := client.OpenListing(data, pin)
	if err != nil {
		return err
	}
	if len(v.proof.witnesses) > 0 {
		return fault.New(fault.Corrupt, "dsvault.verify", "no witness cosigns what `dsvault log --format` writes").
			WithHint("check an exported log with --witness, or leave it out")
	}
	f, _, err := openFile(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := l.Check(bufio.NewReaderSize(f, 1<<20)); err != nil {
		return client.Failed(err)
	}
	return v.result(struct {
		Listing listed `json:"listing"`
	}{listedOf(file, l)}, "unchanged: %s, %s of %s, written %s by %s", file,
		plural(int(l.Records), "record", "records"), l.Query, timeText(l.Time), l.Origin)
}
