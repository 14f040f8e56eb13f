package client

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/pack"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// pusher sends the shards of one plan.
type pusher struct {
	c        *Client
	scope    dataset.Scope
	to       seal.Recipient
	first    *pack.Plan // as if the dataset were new
	recut    bool
	salt     []byte
	push     int
	progress Progress
	direct   bool
	parts    partBuffers // if direct

	// As look finds it.
	plan    *pack.Plan
	newest  dataset.ShardList // the newest version
	numbers []int             // of the plan's shards in the dataset
	missing []int             // shards of the plan that it has not
	sums    [][]byte          // SHA-256 of the sealed shards; each set by whoever sends it
}

// look compares the plan with the shards that the dataset has, in whichever
// version or in none. Those that it has not get the lowest numbers that are free.
func (p *pusher) look(ctx context.Context) error {
	p.newest = nil
	version, err := p.c.Version(ctx, p.scope, 0)
	switch {
	case err == nil:
		p.newest = version.Shards
	case !fault.Is(err, fault.NotFound): // there is none yet
		return err
	}
	var have []wire.Shard
	for s, err := range p.c.Shards(ctx, p.scope) {
		if err != nil {
			return err
		}
		have = append(have, s)
	}
	if err := p.keepCuts(have); err != nil {
		return err
	}
	byPrint := make(map[string]int, len(have))
	taken := make(map[int]bool, len(have))
	for i, s := range have {
		if _, twice := byPrint[string(s.Fingerprint)]; !twice {
			byPrint[string(s.Fingerprint)] = i
		}
		taken[s.Number] = s.Version > 0
	}
	count := p.plan.Shards()
	p.numbers, p.sums, p.missing = make([]int, count), make([][]byte, count), nil
	for n := range count {
		print := p.plan.Fingerprint(n, p.salt)
		i, found := byPrint[string(print[:])]
		if !found {
			p.missing = append(p.missing, n)
			continue
		}
		p.numbers[n], p.sums[n] = have[i].Number, have[i].SHA256
		taken[have[i].Number] = true
	}
	free := 0
	for _, n := range p.missing {
		for taken[free] {
			free++
		}
		p.numbers[n], free = free, free+1
	}
	if free > dataset.MaxShards {
		return fault.New(fault.Conflict, "client.Push", p.scope.String()+" has used up its shard numbers").
			WithHint("push the data as a new dataset")
	}
	return nil
}

// keepCuts makes the plan cut where the newest version was cut.
func (p *pusher) keepCuts(have []wire.Shard) error {
	p.plan = p.first
	if p.recut {
		return nil
	}
	newest := p.newest.Set()
	var starts [][]byte
	for _, s := range have {
		if len(s.Start) > 0 && newest.Has(s.Number) {
			starts = append(starts, s.Start)
		}
	}
	var err error
	p.plan, err = p.first.KeepCuts(starts, p.salt)
	return err
}

// list is the version that the plan makes.
func (p *pusher) list() dataset.ShardList { return dataset.ListOf(p.numbers) }

// send sends what is missing, so many shards at a time.
func (p *pusher) send(ctx context.Context, parallel int) error {
	for _, n := range p.missing {
		p.progress.Expect(p.plan.Size(n))
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, n := range p.missing {
		if groupCtx.Err() != nil {
			break
		}
		group.Go(func() error { return p.shard(groupCtx, n) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return contextFault(ctx, "client.Push", err)
	}
	return nil
}

// verify compares the version that was made with what was read here: the list
// of its shards, and of each the sizes and the hash of its sealed bytes.
func (p *pusher) verify(ctx context.Context) error {
	const op = "client.Push"
	differs := func(what string) error {
		return fault.New(fault.Corrupt, op, "the server says that it has other data than was sent: "+what).
			WithHint("tell the operator; push again under a new dataset name")
	}
	version, err := p.c.Version(ctx, p.scope, 0)
	if err != nil {
		return err
	}
	if !version.Shards.Equal(p.list()) {
		return differs(fmt.Sprintf("version %d is not of the shards that were sent", version.Version))
	}
	have := make(map[int]wire.Shard, len(p.numbers))
	for s, err := range p.c.Shards(ctx, p.scope) {
		if err != nil {
			return err
		}
		have[s.Number] = s
	}
	for n, number := range p.numbers {
		s, size := have[number], p.plan.Size(n)
		if s.Size != size || s.Sealed != seal.SealedSize(size) || !bytes.Equal(s.SHA256, p.sums[n]) {
			return differs(fmt.Sprintf("shard %d", number))
		}
	}
	return nil
}
