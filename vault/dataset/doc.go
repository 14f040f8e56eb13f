// Package dataset is the vocabulary of dsvault: typed IDs, scopes, shard sets,
// roles, states and the shard manifest. It does no I/O and imports only fault.
package dataset
