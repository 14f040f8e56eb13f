package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// Reads of a shard are sealed to the caller's device key (HeaderDevice), each a
// record of its own (HeaderLeaf):
//
//	GET /v1/datasets/…/shards/{n}/sealed                    the shard, with HeaderManifest
//	GET /v1/datasets/…/shards/{n}/sealed?offset=N&size=N    a range of its plaintext: a header, the
//	                                                        nonce, and the chunks that hold the range
//	GET /v1/datasets/…/shards/{n}/index                     its dataset.Index

// Push begins a push to a dataset, which ends every other one: their uploads
// are refused from then on. Uploads and Complete name it.
// POST /v1/datasets/…/pushes gives Push.
type Push struct {
	Push    int `json:"push"`
	Version int `json:"version"` // the newest one; 0: none yet
}

// Complete makes the dataset's next version of the shards in the list, in this
// order. Shards that are in no version are left over from an earlier plan and
// are dropped. The list of the newest version, asked for again, changes nothing.
// POST /v1/datasets/…/complete gives Dataset.
type Complete struct {
	Shards dataset.ShardList `json:"shards"`
	Push   int               `json:"push,omitempty"`
}

// Version is one completed state of a dataset. GET
// /v1/datasets/…/versions?after=N&limit= gives Page[Version]; GET
// /v1/datasets/…/versions/{n} one of them, 0 being the newest. Annotators see
// only the shards that are assigned to them.
type Version struct {
	Version   int               `json:"version"`
	Count     int               `json:"count"`            // shards
	Shards    dataset.ShardList `json:"shards,omitempty"` // in the order of what was pushed
	Size      int64             `json:"size"`             // plaintext, bytes
	Sealed    int64             `json:"sealed"`           // stored, bytes
	Completed time.Time         `json:"completed"`
	By        string            `json:"by,omitempty"` // handle; for those who oversee the dataset
}
