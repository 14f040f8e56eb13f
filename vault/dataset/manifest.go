package dataset

import (
	"bytes"
	"encoding/json"
	"io"
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
)

// Manifest describes one shard. It travels sealed beside the shard: names of
// files are client data and are nowhere in clear on the server.
type Manifest struct {
	Version   int      `json:"version"` // ManifestVersion
	Number    int      `json:"number"`  // the shard's number in its dataset
	Packing   Packing  `json:"packing"`
	Name      string   `json:"name"` // tar: NAME-000003.tar; file: its path below the folder that was pushed; part: its base name
	MediaType string   `json:"media_type,omitempty"`
	Size      int64    `json:"size"`            // plaintext, bytes
	SHA256    HexBytes `json:"sha256"`          // of the plaintext
	Files     int      `json:"files,omitempty"` // regular files in a tar
	Part      int      `json:"part,omitempty"`  // part: 0, 1, …
	Parts     int      `json:"parts,omitempty"` // part: how many make the file
	Mode      uint32   `json:"mode,omitempty"`  // file and part: permission bits
	ModTime   int64    `json:"mtime,omitempty"` // file and part: Unix nanoseconds
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
	case m.Name == "" || m.Name == "." || m.Name == ".." || strings.ContainsAny(m.Name, "/\\\x00"):
		return Manifest{}, fault.New(fault.Invalid, op, "the manifest's name is not that of a file").
			WithHint("a shard is named like one file, without a folder")
	case m.Number < 0 || m.Number >= MaxShards || m.Size < 0 || len(m.SHA256) != 32:
		return Manifest{}, fault.New(fault.Invalid, op, "the manifest's number, size or hash cannot be")
	}
	return m, nil
}
