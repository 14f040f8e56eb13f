package vault

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// claimKey is an object that names the vault to which a store belongs.
const (
	claimKey = "vault"
	maxClaim = 512
)

// claimStores makes the object stores this vault's, and each that of its region,
// or refuses one that is another's: two vaults in one store would clear away each
// other's bytes. Every region that ever had a store has to have it still.
func (v *Vault) claimStores(ctx context.Context) error {
	named := storage.RegionsOf(v.objects)
	if err := v.keepRegions(ctx, named); err != nil {
		return err
	}
	if err := v.claimStore(ctx, claimKey, v.origin); err != nil {
		return err
	}
	for _, region := range named {
		if err := v.claimStore(ctx, storage.RegionKey(region, claimKey), v.origin+"\nregion "+region); err != nil {
			return err
		}
	}
	return nil
}

func (v *Vault) claimStore(ctx context.Context, key, owner string) error {
	const op = "vault.claimStore"
	r, err := v.objects.Open(ctx, key, 0, -1, "")
	if errors.Is(err, storage.ErrNoObject) {
		_, err = v.objects.Put(ctx, key, strings.NewReader(owner), int64(len(owner)))
		return err
	}
	if err != nil {
		return err
	}
	defer r.Close()
	found, err := io.ReadAll(io.LimitReader(r, maxClaim))
	if err != nil {
		return err
	}
	if string(found) != owner {
		return fault.New(fault.Conflict, op, "the object store belongs to another vault, or to another region of this one").
			WithHint("give each vault, and each of its regions, a folder, a bucket or a prefix of its own with --objects and --store")
	}
	return nil
}

const metaRegions = "regions" // that have an object store of their own, as a JSON array

// keepRegions notes the regions with a store. All nodes have to know all of them:
// one that does not would put elsewhere what belongs there.
func (v *Vault) keepRegions(ctx context.Context, named []string) error {
	const op = "vault.keepRegions"
	return v.update(ctx, func(tx *catalog.Tx) error {
		known := []string{}
		text, err := tx.Meta(ctx, metaRegions)
		if err == nil {
			err = json.Unmarshal(text, &known)
		}
		if err := none(err); err != nil {
			return err
		}
		for _, region := range known {
			if !slices.Contains(named, region) {
				return fault.New(fault.Conflict, op, "this vault keeps objects of the region "+region+" in a store of its own").
					WithHint("name it as before: serve --store " + region + "=…")
			}
		}
		if len(named) == len(known) {
			return nil
		}
		text, err = json.Marshal(named)
		if err != nil {
			return fault.Wrap(fault.Internal, op, "cannot encode the regions", err)
		}
		return tx.SetMeta(ctx, metaRegions, text)
	})
}

// storeFor is the region in whose store a project's objects are put; empty: the
// one without a name. A vault that has no regions puts all of them there.
func (v *Vault) storeFor(region string) (string, error) {
	named := storage.RegionsOf(v.objects)
	if region == "" || len(named) == 0 {
		return "", nil
	}
	if !slices.Contains(named, region) {
		return "", fault.New(fault.Conflict, "vault.storeFor", "there is no object store for the region "+region).
			WithHint("regions are " + strings.Join(named, ", ") + "; the operator adds one with serve --store " + region + "=…")
	}
	return region, nil
}

// stays refuses a region for a project whose objects are in another one.
func (v *Vault) stays(ctx context.Context, tx *ledger.Tx, scope dataset.Scope, region string) error {
	store, err := v.storeFor(region)
	if err != nil {
		return err
	}
	for after := ""; ; {
		list, err := tx.DatasetsUnder(ctx, scope, after, rowPage)
		if err != nil {
			return err
		}
		for _, d := range list {
			if d.Store != store {
				return fault.New(fault.Conflict, "vault.UpdateProject", "the project's data is stored elsewhere, and does not move").
					WithHint("make another project in that region, and push the data there")
			}
		}
		if len(list) < rowPage {
			return nil
		}
		after = list[len(list)-1].Scope.String()
	}
}
