package vault

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/ledger"
)

// claimStores makes the object stores this vault's, and each that of its region,
// or refuses one that is another's: two vaults in one store would clear away each
// other's bytes. Every region that ever had a store has to have it still.
func (v *Vault) claimStores(ctx context.Context) error {
	named := storage.RegionsOf(v.objects)
	if err := v.keepRegions(ctx, named); err != nil {
		return err
	}
	regions := append([]string{""}, named...)
	var stores storeIDs
	var used map[string]bool
	err := v.db.View(ctx, func(tx *catalog.Tx) (err error) {
		if stores, err = readStores(ctx, tx); err == nil {
			used, err = usedStores(ctx, tx, regions)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, region := range regions {
		write, err := judgeStore(ctx, v.objects, v.origin, region, stores, used[region])
		if err == nil && write != nil {
			err = writeMark(ctx, v.objects, storage.RegionKey(region, markKey), *write)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckStores makes sure that the object stores are those of a catalog, as Open
// does, and changes nothing. One that nothing was ever put into is as good.
func CheckStores(ctx context.Context, db *catalog.DB, objects storage.Objects) error {
	regions := append([]string{""}, storage.RegionsOf(objects)...)
	var stores storeIDs
	var used map[string]bool
	var origin []byte
	err := db.View(ctx, func(tx *catalog.Tx) (err error) {
		if stores, err = readStores(ctx, tx); err != nil {
			return err
		}
		if used, err = usedStores(ctx, tx, regions); err != nil {
			return err
		}
		origin, err = tx.Meta(ctx, metaOrigin)
		return err
	})
	if errors.Is(err, storage.ErrNoRow) {
		return noVault("vault.CheckStores", err)
	}
	if err != nil {
		return err
	}
	for _, region := range regions {
		if _, err := judgeStore(ctx, objects, string(origin), region, stores, used[region]); err != nil {
			return err
		}
	}
	return nil
}

// usedStores says of which regions' stores the catalog names an object.
func usedStores(ctx context.Context, tx *catalog.Tx, regions []string) (map[string]bool, error) {
	used := map[string]bool{}
	for _, region := range regions {
		list, err := tx.StoredObjects(ctx, storage.RegionKey(region, "v1/"), 1)
		if err != nil {
			return nil, err
		}
		if len(list) > 0 {
			found, _ := storage.SplitRegion(list[0].Key)
			used[region] = found == region
		}
	}
	return used, nil
}

// judgeStore compares the mark of a store with what the catalog says, and gives
// the mark that is to be written, if any: into a store without one, unless the
// catalog has used a store already.
func judgeStore(ctx context.Context, objects storage.Objects, origin, region string, stores storeIDs, used bool) (write *storeMark, err error) {
	const op = "vault.claimStore"
	if stores.Switching[region] {
		return nil, fault.New(fault.Conflict, op, "the vault is being switched to another object store").
			WithHint("run `dsvault storage migrate` again, as before: it goes on where it was")
	}
	want := storeMark{owner: markOwner(origin, region), id: stores.Now[region]}
	found, err := readMark(ctx, objects, storage.RegionKey(region, markKey))
	switch {
	case errors.Is(err, storage.ErrNoObject) && want.id == "" && !used:
		return &want, nil
	case errors.Is(err, storage.ErrNoObject):
		return nil, fault.Wrap(fault.Conflict, op, "the vault's objects are in another store: this one has no mark", err).
			WithHint("name the store that they are in with --objects or --store; one that was copied by other tools needs the object " + markKey + ", too")
	case err != nil:
		return nil, err
	case found.owner != want.owner:
		return nil, fault.New(fault.Conflict, op, "the object store belongs to another vault, or to another region of this one").
			WithHint("give each vault, and each of its regions, a folder, a bucket or a prefix of its own with --objects and --store")
	case found.id == want.id && found.unfinished: // its catalog was switched, and then something broke
		return &want, nil
	case found.unfinished:
		return nil, fault.New(fault.Conflict, op, "the vault's objects are not all in this store yet").
			WithHint("run `dsvault storage migrate` again, as before, or serve the store that they are copied from")
	case want.id != "" && found.id != want.id:
		return nil, fault.New(fault.Conflict, op, "the vault's objects were moved to another store").
			WithHint("name that one with --objects or --store; if this one is right, as after a restore, say so: `dsvault storage migrate --from URL --to URL`, with its URL twice")
	}
	return nil, nil // a catalog from before the store was moved to is good, too
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
