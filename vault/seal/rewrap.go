package seal

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"slices"

	"filippo.io/age"

	"dsvault/vault/fault"
)

// postQuantum is the one label that a hybrid recipient gives.
const postQuantum = "postquantum"

// Rewrap gives a fresh header of HeaderSize bytes that wraps key to one
// recipient. The header followed by the unchanged payload is an age file that
// opens with that recipient's identity.
func Rewrap(key FileKey, to Recipient) (header []byte, err error) {
	const op = "seal.Rewrap"
	secret, err := key.bytes(op)
	if err != nil {
		return nil, err
	}
	hybrid, err := to.hybrid(op)
	if err != nil {
		return nil, err
	}
	stanzas, labels, err := hybrid.WrapWithLabels(secret)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, "wrapping the file key failed", err)
	}
	// Writing a header by hand goes around age's own check of the labels.
	if !slices.Equal(labels, []string{postQuantum}) || len(stanzas) != 1 || stanzas[0].Type != hybridStanza {
		return nil, fault.New(fault.Internal, op, "the recipient is not post-quantum")
	}
	if header, err = sealHeader(secret, stanzas); err != nil {
		return nil, fault.Wrap(fault.Internal, op, "writing the header failed", err)
	}
	if err := checkHeader(op, header); err != nil {
		return nil, fault.Wrap(fault.Internal, op, "the new header is not one that we would read", err)
	}
	return header, nil
}

// sealHeader writes a header by the age specification: the stanzas, and an
// HMAC-SHA256 of everything up to and including "---" under a key that
// HKDF-SHA256 derives from the file key, without salt, for "header".
func sealHeader(fileKey []byte, stanzas []*age.Stanza) ([]byte, error) {
	macKey, err := hkdf.Key(sha256.New, fileKey, nil, "header", sha256.Size)
	if err != nil {
		return nil, err
	}
	header := appendStanzas(make([]byte, 0, headerSize), stanzas)
	mac := hmac.New(sha256.New, macKey)
	mac.Write(header)
	return appendFooter(header, mac.Sum(nil)), nil
}

// appendStanzas appends the part of a header that the MAC covers.
func appendStanzas(b []byte, stanzas []*age.Stanza) []byte {
	b = append(b, intro...)
	for _, s := range stanzas {
		b = append(b, stanzaMark+" "...)
		b = append(b, s.Type...)
		for _, arg := range s.Args {
			b = append(b, ' ')
			b = append(b, arg...)
		}
		b = append(b, '\n')
		body := b64.EncodeToString(s.Body)
		// The last line is always short, and empty if it has to be.
		for ; len(body) >= columns; body = body[columns:] {
			b = append(b, body[:columns]...)
			b = append(b, '\n')
		}
		b = append(b, body...)
		b = append(b, '\n')
	}
	return append(b, footerMark...)
}

func appendFooter(b, mac []byte) []byte {
	b = append(b, ' ')
	b = b64.AppendEncode(b, mac)
	return append(b, '\n')
}
