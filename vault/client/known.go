package client

import (
	"maps"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// maxKnownScopes is the most scopes whose names are remembered.
const maxKnownScopes = 50_000

// Known is what was verified of a log: how many leaves, the root of their tree,
// and the scopes that were there.
type Known struct {
	Origin string           `json:"origin"`
	Size   uint64           `json:"size"`
	Root   dataset.HexBytes `json:"root"`
	// Scopes are the tags of the scopes that were seen, by name. A tag stands for
	// one scope for good.
	Scopes map[string]dataset.HexBytes `json:"scopes,omitempty"`
}

// And is what is known after another verification of the log that k is of.
func (k Known) And(v Verified) Known {
	next := Known{Origin: v.Origin, Size: v.Size, Root: v.Root, Scopes: map[string]dataset.HexBytes{}}
	if k.Origin == v.Origin {
		maps.Copy(next.Scopes, k.Scopes)
	}
	for _, s := range v.Scopes {
		if s.Name != "" && len(next.Scopes) < maxKnownScopes {
			next.Scopes[s.Name] = s.Tag
		}
	}
	return next
}

// checkpoint is what the log has to continue.
func (k Known) checkpoint() (audit.Checkpoint, error) {
	if k.Size == 0 {
		return audit.Checkpoint{}, nil
	}
	if len(k.Root) != 32 {
		return audit.Checkpoint{}, fault.New(fault.Invalid, "client.Known", "what is known of the log has no root")
	}
	return audit.Checkpoint{Origin: k.Origin, Size: k.Size, Root: audit.Hash(k.Root)}, nil
}
