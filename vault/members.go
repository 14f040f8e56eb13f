package vault

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"

	"dsvault/storage"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/ledger"
	"dsvault/vault/seal"
)

// member finds a member of a shard for an opened read, in. The shard's index is
// opened for that under a permit of its own: a read of it is recorded, of which
// no byte is sent. Where a member lies is then remembered, under the hash of its
// name, so that players that seek do not read the index again and again.
func (v *Vault) member(ctx context.Context, c identity.Caller, in ledger.Intent, shard storage.Shard, name string) (place, error) {
	key := memberKey(shard.Attempt, name)
	if p, ok := v.members.get(key); ok {
		return p, nil
	}
	if shard.Index.Size == 0 {
		if _, err := v.ledger.Check(ctx, in); err != nil {
			return place{}, err
		}
		return place{}, fault.New(fault.Conflict, "vault.member", "the files in this shard are not listed").
			WithHint("fetch the whole shard; one that was pushed by an older dsvault has no list")
	}
	in.Fields = append(slices.Clone(in.Fields), audit.StringField(audit.FieldContent, "index"), audit.Uint64Field(audit.FieldMaxBytes, 0))
	in.Note = maps.Clone(in.Note)
	in.Access = &ledger.Access{Dataset: shard.Dataset, Shard: shard.Number}
	r, err := v.admit(ctx, c, in, shard)
	if err != nil {
		return place{}, err
	}
	m, err := r.find(name)
	if err != nil && !fault.Is(err, fault.NotFound) {
		r.Close()
		return place{}, err
	}
	r.end(0, ledger.Finished)
	if err != nil {
		return place{}, err
	}
	p := place{offset: m.Offset, size: m.Size, mediaType: m.Type}
	v.members.put(key, p)
	return p, nil
}

// find looks for a member in the shard's index.
func (r *reading) find(name string) (dataset.Member, error) {
	x := r.shard.Index
	key, err := r.fileKey(x.Header)
	if err != nil {
		return dataset.Member{}, err
	}
	defer key.Destroy()
	header := int64(len(x.Header))
	body, err := r.v.objects.Open(r.ctx, storage.IndexKey(r.shard.Key), header, x.Size-header, x.ETag)
	if err != nil {
		return dataset.Member{}, lost(err)
	}
	defer body.Close()
	plain, err := seal.OpenPayload(key, body)
	if err != nil {
		return dataset.Member{}, lost(err)
	}
	m, err := dataset.FindMember(plain, r.shard.PlainSize, name)
	if fault.Is(err, fault.Invalid) || fault.Is(err, fault.TooLarge) {
		err = fault.Wrap(fault.Corrupt, "vault.find", "the list of the files in this shard is damaged", err)
	}
	return m, lost(err)
}

// place is where a member lies in its shard's plaintext.
type place struct {
	offset, size int64
	mediaType    string
}

func memberKey(attempt dataset.AttemptID, name string) [32]byte {
	return sha256.Sum256(append(attempt[:], name...))
}

// places remembers where members lie, a bounded number of them. When it is full
// it starts anew. A shard that is uploaded again is another attempt.
type places struct {
	mu    sync.Mutex
	known map[[32]byte]place // guarded by mu
}

const maxPlaces = 1 << 14

func (p *places) get(key [32]byte) (place, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.known[key]
	return at, ok
}

func (p *places) put(key [32]byte, at place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxPlaces {
		p.known = make(map[[32]byte]place)
	}
	p.known[key] = at
}
