package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// MaxCertificate is the most bytes of a certificate.
const MaxCertificate = 16 << 20

const certificateLabel = "dsvault/certificate/v1"

// Erasure is what a certificate says.
type Erasure struct {
	ID       string          `json:"erasure"`
	Scope    string          `json:"scope"`
	Cause    string          `json:"cause"`                 // request, retention or restored
	Basis    string          `json:"basis,omitempty"`       // of a retention: its period and what it rests on
	Reason   string          `json:"reason,omitempty"`      // as it was given
	By       string          `json:"by,omitempty"`          // on whose word; nobody's for a retention
	Second   string          `json:"approved_by,omitempty"` // who approved it, where that takes two people
	Started  time.Time       `json:"started"`               // the keys were destroyed
	Ended    time.Time       `json:"ended"`                 // nothing was left
	Final    time.Time       `json:"final"`                 // from then on no backup brings it back
	Epoch    uint32          `json:"epoch"`                 // the newest that the destroyed keys were sealed to
	Datasets []ErasedDataset `json:"datasets"`
	Objects  int64           `json:"objects"`         // that were removed
	Versions int64           `json:"object_versions"` // of objects, the last ones included
	Markers  int64           `json:"delete_markers"`  //
	Uploads  int64           `json:"unfinished_uploads"`
	Bytes    int64           `json:"bytes"` // of the versions
}

// ErasedDataset is one dataset of an erasure.
type ErasedDataset struct {
	Scope    string `json:"scope"`
	ID       string `json:"id"`
	Versions int64  `json:"object_versions"`
	Bytes    int64  `json:"bytes"`
}

// CertifiedLeaf is a leaf with the proof that it is in the log of a checkpoint.
type CertifiedLeaf struct {
	Index uint64   `json:"index"`
	Leaf  []byte   `json:"leaf"`
	Proof [][]byte `json:"proof"`
}

// Certificate proves that data was erased, to somebody who has the log's key. As
// a file it is one JSON document.
type Certificate struct {
	Version     int             `json:"dsvault_certificate"` // 1
	Origin      string          `json:"origin"`              // the log's name
	Key         string          `json:"key"`                 // the log's note verifier key, for who has not got it elsewhere
	Successions [][]byte        `json:"successions,omitempty"`
	Erasure     json.RawMessage `json:"erasure"` // an Erasure
	Note        string          `json:"note"`    // signs the SHA-256 of Erasure, without space between its parts
	Start       CertifiedLeaf   `json:"start"`   // the record by which the keys were destroyed
	End         CertifiedLeaf   `json:"end"`     // the record that nothing was left
	Checkpoint  string          `json:"checkpoint"`
}

// IsCertificate reports whether a file that begins like this is a certificate.
func IsCertificate(begin []byte) bool { return bytes.Contains(begin, []byte(`"dsvault_certificate"`)) }

// SignCertificate fills in what is signed: Erasure and Note.
func (c *Certificate) SignCertificate(e Erasure, signers ...note.Signer) error {
	if !isOrigin(c.Origin) {
		return errors.New("audit: the log's origin must be 1 to 255 bytes of text on one line")
	}
	var err error
	if c.Erasure, err = json.Marshal(e); err != nil {
		return err
	}
	text, err := certificateText(c.Origin, c.Erasure)
	if err != nil {
		return err
	}
	data, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		return fmt.Errorf("audit: cannot sign the certificate: %w", err)
	}
	c.Note = string(data)
	return nil
}

func certificateText(origin string, erasure []byte) (string, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, erasure); err != nil {
		return "", err
	}
	sum := sha256.Sum256(compact.Bytes())
	return certificateLabel + "\nlog " + origin + "\nsha256 " + hex.EncodeToString(sum[:]) + "\n", nil
}

// ParseCertificate reads a certificate. It checks nothing else: see Verify.
// Errors are *VerifyError of CheckCertificate.
func ParseCertificate(data []byte) (Certificate, error) {
	var c Certificate
	if len(data) > MaxCertificate {
		return c, certificateError("it is %d bytes long, more than %d", len(data), MaxCertificate)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Certificate{}, certificateError("it is not a certificate")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Certificate{}, certificateError("something follows its end")
	}
	if c.Version != 1 {
		return Certificate{}, certificateError("it is a certificate of another version")
	}
	return c, nil
}

// CertificateReport is what a verified certificate shows.
type CertificateReport struct {
	Erasure    Erasure
	Start, End Leaf
	Checkpoint Checkpoint
	Witnesses  []string // names of those that have cosigned that checkpoint
}

// Verify checks the log's signature over what the certificate says, that both
// records are in the log of the signed checkpoint, and that they say the same.
// Of opts it looks at Keys, Pin, Origin and Witnesses. Errors are *VerifyError.
func (c *Certificate) Verify(opts BundleOptions) (CertificateReport, error) {
	none := CertificateReport{}
	keys, origin, err := opts.trust(c.Origin, c.Key, c.Successions)
	if err != nil {
		return none, err
	}
	text, err := certificateText(origin, c.Erasure)
	if err != nil {
		return none, certificateError("what it says is not JSON")
	}
	n, err := note.Open([]byte(c.Note), note.VerifierList(keys...))
	switch {
	case len(c.Note) > MaxCheckpoint || err != nil || len(n.Sigs) == 0:
		return none, certificateError("it is not signed by the log's key")
	case n.Text != text:
		return none, certificateError("the log has signed something else than what it says")
	}
	var out CertificateReport
	dec := json.NewDecoder(bytes.NewReader(c.Erasure))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&out.Erasure); err != nil {
		return none, certificateError("what it says cannot be read")
	}
	if out.Checkpoint, err = openWith([]byte(c.Checkpoint), origin, keys); err != nil {
		return none, err
	}
	if out.Start, err = c.Start.verify(out.Checkpoint); err != nil {
		return none, err
	}
	if out.End, err = c.End.verify(out.Checkpoint); err != nil {
		return none, err
	}
	if err := out.agree(c); err != nil {
		return none, err
	}
	out.Witnesses = cosigned([]byte(c.Checkpoint), opts.Witnesses)
	return out, nil
}

func (l *CertifiedLeaf) verify(cp Checkpoint) (Leaf, error) {
	leaf, err := ParseLeaf(l.Leaf)
	if err != nil {
		return leaf, err
	}
	if len(l.Proof) > MaxProof {
		return leaf, certificateError("its proof is too long")
	}
	path := make([]Hash, len(l.Proof))
	for i, h := range l.Proof {
		if len(h) != len(Hash{}) {
			return leaf, certificateError("its proof is not of hashes")
		}
		path[i] = Hash(h)
	}
	return leaf, CheckInclusion(cp, l.Index, LeafHash(l.Leaf), path)
}

// agree checks that the two records say what the certificate says.
func (r *CertificateReport) agree(c *Certificate) error {
	e := r.Erasure
	begun, _ := r.Start.Bytes(FieldErasureID)
	ended, _ := r.End.Bytes(FieldErasureID)
	number := func(id FieldID) uint64 { n, _ := r.End.Uint64(id); return n }
	starts := r.Start.Kind == KindErase || r.Start.Kind == KindExpire
	switch {
	case !starts || r.Start.Decision != Allowed || r.End.Kind != KindEraseEnd || c.Start.Index >= c.End.Index:
		return certificateError("its records are not those of an erasure")
	case len(begun) != 16 || !bytes.Equal(begun, ended) || r.Start.Slot != r.End.Slot || r.Start.Tag != r.End.Tag:
		return certificateError("its records are of two erasures")
	case e.ID != erasureID(begun):
		return certificateError("its records are of another erasure than it says")
	case r.Start.Time != e.Started.UnixMicro() || r.End.Time != e.Ended.UnixMicro():
		return certificateError("its records were made at other times than it says")
	case number(FieldFinal) != uint64(e.Final.UnixMicro()) || number(FieldEpoch) != uint64(e.Epoch):
		return certificateError("the log says another time from which on it is final")
	case number(FieldCount) != uint64(e.Objects), number(FieldVersions) != uint64(e.Versions), number(FieldMarkers) != uint64(e.Markers),
		number(FieldUploads) != uint64(e.Uploads), number(FieldErasedBytes) != uint64(e.Bytes), number(FieldDatasets) != uint64(len(e.Datasets)):
		return certificateError("the log counts something else than it says")
	}
	return nil
}

// erasureID is the text form of the ID that a leaf holds.
func erasureID(raw []byte) string {
	return "ers_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw))
}

func certificateError(format string, args ...any) error {
	return &VerifyError{Check: CheckCertificate, Index: -1, Detail: fmt.Sprintf(format, args...)}
}
