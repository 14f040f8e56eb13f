package seal

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"

	"filippo.io/age"

	"dsvault/vault/fault"
)

const (
	// maxHeader and maxStanzas are the most that a header may have. A header
	// with maxStanzas hybrid stanzas stays below maxHeader.
	maxHeader  = 64 << 10
	maxStanzas = 32

	intro        = "age-encryption.org/v1\n"
	introAnyAge  = "age-encryption.org/"
	armorBegin   = "-----BEGIN AGE"
	stanzaMark   = "->"
	footerMark   = "---"
	hybridStanza = "mlkem768x25519"

	encSize  = 1088 + 32              // ML-KEM-768 ciphertext and X25519 share
	bodySize = fileKeySize + Overhead // the wrapped file key
	macSize  = 32
	columns  = 64

	encText  = (encSize*8 + 5) / 6
	bodyText = (bodySize*8 + 5) / 6
	macText  = (macSize*8 + 5) / 6

	headerSize = len(intro) +
		len(stanzaMark+" "+hybridStanza+" ") + encText + 1 + bodyText + 1 +
		len(footerMark+" ") + macText + 1
)

// Why a header is refused; also what the tests compare.
const (
	msgArmored    = "the file is armored (text), not binary age"
	msgVersion    = "the file is of another age version"
	msgNotAge     = "not an age file"
	msgCut        = "the age header is cut short"
	msgTooLarge   = "the age header is larger than 64 KiB"
	msgStanzas    = "the age header has more than 32 stanzas"
	msgMalformed  = "the age header is malformed"
	msgTrailing   = "there is data after the age header"
	msgNoStanza   = "the age header has no stanza"
	msgMixed      = "the file is sealed to other kinds of key beside a hybrid one"
	msgPassphrase = "the file is sealed with a passphrase"
	msgClassic    = "the file is sealed to an X25519 key"
	msgForeign    = "the file is sealed to an unknown kind of key"
	msgNoMatch    = "not sealed to this dataset"
	msgAltered    = "the age header was altered"

	hintSealAgain = "encrypt the file again to one age1pq1… recipient and to nothing else"
)

var b64 = base64.RawStdEncoding.Strict()

// ReadHeader reads the header of a binary age v1 file from r. The payload
// follows in rest; r itself may have been read up to 4 KiB further.
//
// A header of more than 64 KiB or 32 stanzas is TooLarge, found without
// reading on. Armor, another version, and anything but canonical hybrid
// stanzas is Invalid with a hint. The header's MAC is not checked here: that
// takes the file key (OpenHeader). A failing r gives an error of the same code.
func ReadHeader(r io.Reader) (header []byte, rest io.Reader, err error) {
	const op = "seal.ReadHeader"
	// The struct hides a bufio.Reader, which bufio would return as it is: its
	// buffered bytes would then be read twice.
	buffered := bufio.NewReader(struct{ io.Reader }{r})
	if header, err = scanHeader(op, buffered); err != nil {
		return nil, nil, err
	}
	if err := checkHeader(op, header); err != nil {
		return nil, nil, err
	}
	ahead, _ := buffered.Peek(buffered.Buffered())
	return header, io.MultiReader(bytes.NewReader(ahead), r), nil
}

// OpenHeader unwraps the file key from a header that ReadHeader gave. All of
// ReadHeader's checks are made again. It is Invalid if the header is not sealed
// to id, or if it was altered in any way. The caller destroys the key.
func OpenHeader(header []byte, id *Identity) (FileKey, error) {
	const op = "seal.OpenHeader"
	if id == nil || id.hybrid == nil {
		return FileKey{}, fault.New(fault.Internal, op, "no identity is set")
	}
	scanned, err := scanHeader(op, bufio.NewReader(bytes.NewReader(header)))
	if err != nil {
		return FileKey{}, err
	}
	if len(scanned) != len(header) {
		return FileKey{}, fault.New(fault.Invalid, op, msgTrailing)
	}
	if err := checkHeader(op, header); err != nil {
		return FileKey{}, err
	}
	key, err := age.DecryptHeader(header, id.hybrid)
	var noMatch *age.NoIdentityMatchError
	switch {
	case errors.As(err, &noMatch):
		return FileKey{}, fault.Wrap(fault.Invalid, op, msgNoMatch, err).
			WithHint("seal the file to this dataset's own recipient, or use the key that it was sealed to")
	case err != nil:
		return FileKey{}, fault.Wrap(fault.Invalid, op, msgAltered, err)
	case len(key) != fileKeySize:
		return FileKey{}, fault.New(fault.Invalid, op, msgAltered)
	}
	return newFileKey(key), nil
}

// scanHeader reads up to the end of the footer line, within the limits.
func scanHeader(op string, r *bufio.Reader) ([]byte, error) {
	if err := checkIntro(op, r); err != nil {
		return nil, err
	}
	header := make([]byte, 0, headerSize)
	stanzas, lineStart := 0, 0
	for {
		part, err := r.ReadSlice('\n')
		if len(header)+len(part) > maxHeader {
			return nil, fault.New(fault.TooLarge, op, msgTooLarge).WithHint(hintSealAgain)
		}
		header = append(header, part...)
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF:
			return nil, fault.New(fault.Invalid, op, msgCut)
		case err != nil:
			return nil, sourceFailed(op, err)
		}
		line := header[lineStart:]
		lineStart = len(header)
		// Neither mark can begin a line of base64.
		if bytes.HasPrefix(line, []byte(footerMark)) {
			return header, nil
		}
		if bytes.HasPrefix(line, []byte(stanzaMark)) {
			if stanzas++; stanzas > maxStanzas {
				return nil, fault.New(fault.TooLarge, op, msgStanzas).WithHint(hintSealAgain)
			}
		}
	}
}

// checkIntro looks at the first line without consuming it, so that a file of
// another kind is told from a header that is too long.
func checkIntro(op string, r *bufio.Reader) error {
	head, err := r.Peek(len(intro))
	if string(head) == intro {
		return nil
	}
	if err != nil && err != io.EOF {
		return sourceFailed(op, err)
	}
	head, _ = r.Peek(r.Buffered())
	switch {
	case bytes.HasPrefix(bytes.TrimSpace(head), []byte(armorBegin)):
		return fault.New(fault.Invalid, op, msgArmored).
			WithHint("encrypt without -a (--armor), or turn it into binary with `age -d` and encrypt again")
	case len(head) > 0 && len(head) < len(intro) && strings.HasPrefix(intro, string(head)):
		return fault.New(fault.Invalid, op, msgCut)
	case bytes.HasPrefix(head, []byte(introAnyAge)):
		return fault.New(fault.Invalid, op, msgVersion).WithHint("only age v1 files are accepted")
	default:
		return fault.New(fault.Invalid, op, msgNotAge).WithHint(hintSealAgain)
	}
}

// checkHeader checks that a scanned header is canonical and that its stanzas
// are hybrid, all of them.
func checkHeader(op string, header []byte) error {
	stanzas, mac, ok := parseHeader(header)
	if !ok {
		return fault.New(fault.Invalid, op, msgMalformed)
	}
	hybrid, foreign := 0, ""
	for _, s := range stanzas {
		if s.Type == hybridStanza {
			hybrid++
		} else if foreign == "" {
			foreign = s.Type
		}
	}
	var refused string
	switch {
	case len(stanzas) == 0:
		refused = msgNoStanza
	case foreign == "":
	case hybrid > 0:
		refused = msgMixed
	case foreign == "scrypt":
		refused = msgPassphrase
	case foreign == "X25519":
		refused = msgClassic
	default:
		refused = msgForeign
	}
	if refused != "" {
		return fault.New(fault.Invalid, op, refused).WithHint(hintSealAgain)
	}
	for _, s := range stanzas {
		if !wellFormed(s) {
			return fault.New(fault.Invalid, op, msgMalformed)
		}
	}
	// What we would not write the same way is not canonical.
	if !bytes.Equal(appendFooter(appendStanzas(nil, stanzas), mac), header) {
		return fault.New(fault.Invalid, op, msgMalformed)
	}
	return nil
}

// wellFormed checks the fixed sizes of a hybrid stanza.
func wellFormed(s *age.Stanza) bool {
	if len(s.Args) != 1 || len(s.Body) != bodySize {
		return false
	}
	enc, err := b64.DecodeString(s.Args[0])
	return err == nil && len(enc) == encSize && b64.EncodeToString(enc) == s.Args[0]
}

// parseHeader splits a scanned header. It is lenient about line lengths and
// stray characters: checkHeader compares with the canonical form.
func parseHeader(header []byte) (stanzas []*age.Stanza, mac []byte, ok bool) {
	text, ok := strings.CutPrefix(string(header), intro)
	if !ok {
		return nil, nil, false
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch fields := strings.Split(line, " "); {
		case fields[0] == stanzaMark && len(fields) > 1:
			stanzas = append(stanzas, &age.Stanza{Type: fields[1], Args: fields[2:]})
		case fields[0] == footerMark && len(fields) == 2:
			mac, err := b64.DecodeString(fields[1])
			return stanzas, mac, err == nil && len(mac) == macSize
		case len(stanzas) == 0:
			return nil, nil, false
		default:
			part, err := b64.DecodeString(line)
			if err != nil {
				return nil, nil, false
			}
			last := stanzas[len(stanzas)-1]
			last.Body = append(last.Body, part...)
		}
	}
	return nil, nil, false
}

// sourceFailed keeps the code of a reader's own error, so that an outage is
// never taken for a bad file.
func sourceFailed(op string, err error) error {
	code := fault.CodeOf(err)
	if code == fault.Internal && errors.Is(err, io.ErrUnexpectedEOF) {
		code = fault.Unavailable // the reader knows its length: a connection was cut
	}
	return fault.Wrap(code, op, "reading the sealed file failed", err)
}
