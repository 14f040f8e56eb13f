// Package audit is the audit log's format: leaves, Merkle tree, checkpoints and
// offline verification.
package audit
