package catalog

import (
	"context"
	"time"

	"dsvault/storage"
	"dsvault/vault/dataset"
)

var conditions = table[storage.Conditions]{
	name: "conditions", columns: "slot, path, requires, contractor_max, contractor_delivery, hours, networks, transfers, revision",
	into: func(c *storage.Conditions) []any {
		return []any{&c.Slot, text{&c.Scope}, text{(*words[string])(&c.Requires)}, span{&c.ContractorMax},
			text{(*words[dataset.Delivery])(&c.ContractorDelivery)}, text{(*words[string])(&c.Hours)}, text{(*words[string])(&c.Networks)}, text{(*items[dataset.Transfer])(&c.Transfers)}, &c.Revision}
	},
	values: func(c *storage.Conditions) []any {
		return []any{int64(c.Slot), c.Scope.String(), words[string](c.Requires).String(), c.ContractorMax.Microseconds(),
			words[dataset.Delivery](c.ContractorDelivery).String(), words[string](c.Hours).String(), words[string](c.Networks).String(), items[dataset.Transfer](c.Transfers).String(), int64(c.Revision)}
	},
}

var conditionsUpsert = conditions.upsert("slot")

// PutConditions adds or replaces a scope's conditions. The scope has to be there.
func (tx *Tx) PutConditions(ctx context.Context, c storage.Conditions) error {
	return conditions.insert(ctx, tx, "catalog.PutConditions", conditionsUpsert, c)
}

// Conditions lists the conditions at a scope and at those above it, the vault's
// first. Scopes without any have no row.
func (tx *Tx) Conditions(ctx context.Context, scope dataset.Scope) ([]storage.Conditions, error) {
	var w filter
	w.reach(scope)
	return conditions.list(ctx, tx, "catalog.Conditions", w.where()+"ORDER BY path", w.args...)
}

// ConditionsUnder lists the conditions at a scope and below it, by path.
func (tx *Tx) ConditionsUnder(ctx context.Context, scope dataset.Scope) ([]storage.Conditions, error) {
	var w filter
	w.under(scope)
	return conditions.list(ctx, tx, "catalog.ConditionsUnder", w.where()+"ORDER BY path", w.args...)
}

// ConditionsSince streams the conditions changed after revision rev, in the
// order of their revisions. The transaction cannot be used inside f.
func (tx *Tx) ConditionsSince(ctx context.Context, rev uint64, f func(storage.Conditions, uint64) error) error {
	return since(ctx, tx, &conditions, "catalog.ConditionsSince", rev, func(c storage.Conditions) error { return f(c, c.Revision) })
}

// span scans microseconds.
type span struct{ *time.Duration }

func (s span) Scan(value any) error {
	us, ok := value.(int64)
	if !ok {
		return badRow{"a time span"}
	}
	*s.Duration = time.Duration(us) * time.Microsecond
	return nil
}
