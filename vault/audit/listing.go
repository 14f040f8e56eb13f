package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// listingLabel begins the text that is signed of a listing. With its second
// line it keeps the text from being taken for a checkpoint or a promise.
const listingLabel = "dsvault/listing/v1"

// MaxListingNote is the most bytes of a listing's note.
const MaxListingNote = 64 << 10

// Listing is what the log signs of a file with records that it has written for
// somebody: which records were asked for, how the file reads, its hash, and the
// checkpoint of the log at the time. It says that the log's operator gave these
// records for this question; that they are in the log, and all that there are,
// is shown by a bundle.
type Listing struct {
	Origin  string // the log's name
	Time    time.Time
	Query   string // what was asked for, as a URL's query with its names in order
	Format  string // of the file: "jsonl" or "csv"
	Before  uint64 // the records looked at have indexes below this one
	Records uint64 // in the file
	Bytes   int64  // of the file
	SHA256  [32]byte
	Size    uint64 // of the log that Root is of; not below Before
	Root    Hash
}

// text is what is signed. A listing that a line cannot hold is refused.
func (l *Listing) text() (string, error) {
	for _, s := range []string{l.Query, l.Format} {
		for i := range len(s) {
			if s[i] <= ' ' || s[i] > '~' {
				return "", errors.New("audit: a listing's query and format are printable ASCII without spaces")
			}
		}
	}
	if !isOrigin(l.Origin) || l.Format == "" || l.Bytes < 0 || l.Size < l.Before || l.Time.Before(time.Unix(0, 0)) {
		return "", errors.New("audit: not a listing")
	}
	query := ""
	if l.Query != "" {
		query = " " + l.Query
	}
	return listingLabel + "\nlog " + l.Origin + "\ntime " + l.Time.UTC().Truncate(time.Second).Format(time.RFC3339) +
		"\nquery" + query + "\nformat " + l.Format + "\nbefore " + strconv.FormatUint(l.Before, 10) +
		"\nrecords " + strconv.FormatUint(l.Records, 10) + "\nbytes " + strconv.FormatInt(l.Bytes, 10) +
		"\nsha256 " + hex.EncodeToString(l.SHA256[:]) +
		"\ncheckpoint " + strconv.FormatUint(l.Size, 10) + " " + base64.StdEncoding.EncodeToString(l.Root[:]) + "\n", nil
}

// SignListing signs l: a C2SP signed-note.
func SignListing(l Listing, signers ...note.Signer) ([]byte, error) {
	text, err := l.text()
	if err != nil {
		return nil, err
	}
	data, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		return nil, fmt.Errorf("audit: cannot sign the listing: %w", err)
	}
	return data, nil
}

// IsListing reports whether a file that begins so is a listing's note.
func IsListing(begin []byte) bool { return bytes.HasPrefix(begin, []byte(listingLabel+"\n")) }

// OpenListing reads a listing's note that one of the keys has signed. What fails
// is a *VerifyError of CheckListing.
func OpenListing(data []byte, keys ...note.Verifier) (Listing, error) {
	if len(data) > MaxListingNote {
		return Listing{}, listingError("its note is %d bytes long, more than %d", len(data), MaxListingNote)
	}
	n, err := note.Open(data, note.VerifierList(keys...))
	if err != nil {
		return Listing{}, listingError("its note is not signed by the log's key")
	}
	l, err := parseListing(n.Text)
	if err != nil {
		return Listing{}, err
	}
	for _, sig := range n.Sigs { // the key's name is the log's
		if sig.Name == l.Origin {
			return l, nil
		}
	}
	return Listing{}, listingError("it is signed by another log than it says")
}

// ListingOrigin is the name of the log that a listing's note says it is of. The
// note is not checked: this is for choosing the key to check it with.
func ListingOrigin(data []byte) (string, error) {
	if len(data) > MaxListingNote {
		return "", listingError("its note is %d bytes long, more than %d", len(data), MaxListingNote)
	}
	text, _, _ := strings.Cut(string(data), "\n\n")
	l, err := parseListing(text + "\n")
	return l.Origin, err
}

func parseListing(text string) (Listing, error) {
	var l Listing
	lines := strings.Split(text, "\n")
	names := []string{"log", "time", "query", "format", "before", "records", "bytes", "sha256", "checkpoint"}
	if len(lines) != len(names)+2 || lines[0] != listingLabel || lines[len(lines)-1] != "" {
		return l, listingError("it is not a listing's note")
	}
	values := make([]string, len(names))
	for i, name := range names {
		key, value, _ := strings.Cut(lines[i+1], " ")
		if key != name {
			return l, listingError("its note has no %s", name)
		}
		values[i] = value
	}
	var errs [7]error
	l.Origin, l.Query, l.Format = values[0], values[2], values[3]
	l.Time, errs[0] = time.Parse(time.RFC3339, values[1])
	l.Before, errs[1] = strconv.ParseUint(values[4], 10, 64)
	l.Records, errs[2] = strconv.ParseUint(values[5], 10, 64)
	l.Bytes, errs[3] = strconv.ParseInt(values[6], 10, 64)
	errs[4] = hash32(l.SHA256[:], values[7], hex.DecodeString)
	size, root, _ := strings.Cut(values[8], " ")
	l.Size, errs[5] = strconv.ParseUint(size, 10, 64)
	errs[6] = hash32(l.Root[:], root, base64.StdEncoding.DecodeString)
	if errors.Join(errs[:]...) != nil {
		return Listing{}, listingError("its note does not parse")
	}
	if again, err := l.text(); err != nil || again != text {
		return Listing{}, listingError("its note is not in the one form that there is")
	}
	return l, nil
}

func hash32(into []byte, s string, decode func(string) ([]byte, error)) error {
	b, err := decode(s)
	if err == nil && len(b) != len(into) {
		err = errors.New("another length")
	}
	copy(into, b)
	return err
}

// Check reads the listing's file and compares its size and hash. Errors of r are
// returned as they are.
func (l *Listing) Check(r io.Reader) error {
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(r, l.Bytes+1))
	switch {
	case err != nil:
		return err
	case n != l.Bytes:
		return listingError("the file has another size than the %d bytes that were signed", l.Bytes)
	case [32]byte(h.Sum(nil)) != l.SHA256:
		return listingError("the file is not the one that was signed")
	}
	return nil
}

func listingError(format string, args ...any) *VerifyError {
	return &VerifyError{Check: CheckListing, Index: -1, Detail: fmt.Sprintf(format, args...)}
}
