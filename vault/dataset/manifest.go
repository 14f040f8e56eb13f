package dataset

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"strings"

	"dsvault/vault/fault"
)

// ManifestVersion is the version that this program writes and reads.
const ManifestVersion = 1

// MaxManifest is the most bytes that a manifest's JSON may have.
const MaxManifest = 64 << 10

// Packing says how a shard's plaintext is to be read.
type Packing string

const (
	PackTar  Packing = "tar"  // a tar archive of whole files
	PackFile Packing = "file" // one whole file
	PackPart Packing = "part" // a consecutive piece of one file; parts join in shard order
	// PackSlice is whole records or row groups of one file, with what makes
	// them a file of their own before and behind. Without that, the slices of a
	// file join to it: in shard order, or as a PackOrder shard says.
	PackSlice Packing = "slice"
	PackOrder Packing = "order" // where the bytes of each slice lie in the file; of no other use
)

// Manifest describes one shard. It travels sealed beside the shard: names of
// files are client data and are nowhere in clear on the server.
type Manifest struct {
	Version   int      `json:"version"` // ManifestVersion
	Number    int      `json:"number"`  // the shard's number in its dataset
	Packing   Packing  `json:"packing"`
	Name      string   `json:"name"` // tar: NAME-000003.tar; file: its path below the folder that was pushed; otherwise the whole file's base name
	MediaType string   `json:"media_type,omitempty"`
	Size      int64    `json:"size"`              // plaintext, bytes
	SHA256    HexBytes `json:"sha256"`            // of the plaintext
	Files     int      `json:"files,omitempty"`   // tar: regular files
	Records   int64    `json:"records,omitempty"` // slice: lines, records or rows
	Part      int      `json:"part,omitempty"`    // part, slice, order: 0, 1, …
	Parts     int      `json:"parts,omitempty"`   // part, slice, order: how many make the file
	Head      int64    `json:"head,omitempty"`    // slice: bytes at its front that are not of the file
	Tail      int64    `json:"tail,omitempty"`    // slice: bytes at its end that are not of the file
	Whole     *Whole   `json:"whole,omitempty"`   // slice, order: the file
	Field     string   `json:"field,omitempty"`   // slice, order: records are grouped by this field
	Value     string   `json:"value,omitempty"`   // slice: and these have this value
	Mode      uint32   `json:"mode,omitempty"`    // all but tar: the file's permission bits
	ModTime   int64    `json:"mtime,omitempty"`   // all but tar: the file's time, Unix nanoseconds
}

// Whole is the file that slices join to.
type Whole struct {
	Size   int64    `json:"size"` // bytes
	SHA256 HexBytes `json:"sha256"`
}

// Encode writes the manifest as JSON. One that is too large is TooLarge.
func (m Manifest) Encode() ([]byte, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "dataset.Encode", "cannot encode a manifest", err)
	}
	if len(data) > MaxManifest {
		return nil, fault.New(fault.TooLarge, "dataset.Encode", "the manifest is too large")
	}
	return data, nil
}

// ParseManifest reads what Encode wrote: one JSON object of known fields, of
// the version that this program knows, with a size, a number and a hash that
// can be, and a name without a path; what else makes names safe to unpack is
// for pack to say.
func ParseManifest(data []byte) (Manifest, error) {
	const op = "dataset.ParseManifest"
	if len(data) > MaxManifest {
		return Manifest{}, fault.New(fault.TooLarge, op, "the manifest is too large")
	}
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Manifest{}, fault.Wrap(fault.Invalid, op, "not a manifest", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Manifest{}, fault.New(fault.Invalid, op, "something follows the manifest")
	}
	switch {
	case m.Version != ManifestVersion:
		return Manifest{}, fault.New(fault.Invalid, op, "a manifest of another version").WithHint("a newer dsvault may know it")
	case !isName(m.Name, m.Packing == PackFile):
		return Manifest{}, fault.New(fault.Invalid, op, "the manifest's name is not that of a file").
			WithHint("a shard is named like one file; only a whole file's name may have folders")
	case m.Number < 0 || m.Number >= MaxShards || m.Size < 0 || len(m.SHA256) != 32:
		return Manifest{}, fault.New(fault.Invalid, op, "the manifest's number, size or hash cannot be")
	case m.Head < 0 || m.Tail < 0 || m.Head > m.Size || m.Tail > m.Size-m.Head || m.Records < 0:
		return Manifest{}, fault.New(fault.Invalid, op, "the manifest's head, tail or records cannot be")
	case (m.Packing == PackSlice || m.Packing == PackOrder) != (m.Whole != nil),
		m.Whole != nil && (m.Whole.Size < 0 || len(m.Whole.SHA256) != 32):
		return Manifest{}, fault.New(fault.Invalid, op, "the manifest does not say of which file it is a slice")
	}
	return m, nil
}

// isName reports whether name is that of a file, below folders if path is set.
func isName(name string, path bool) bool {
	return fs.ValidPath(name) && name != "." && !strings.ContainsAny(name, "\\\x00") && (path || !strings.Contains(name, "/"))
}
