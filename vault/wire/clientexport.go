package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// DatasetExport says that a dataset may be taken out as a whole, and that this is
// in the log. Its versions and shards are then read as usual.
// POST /v1/datasets/{client}/{project}/{dataset}/export
type DatasetExport struct {
	Dataset dataset.Scope     `json:"dataset"`
	ID      dataset.DatasetID `json:"id"`
	State   dataset.State     `json:"state"`
	Version int               `json:"version"` // the newest
	Created time.Time         `json:"created"`
	Record  uint64            `json:"record"` // index in the log

	Pending *Approval `json:"pending,omitempty"` // nothing is given out before another person approves
}
