package wire

import (
	"time"

	"dsvault/vault/dataset"
)

// Transfers counts reads by where the data is and where it went.
// GET /v1/transfers?under=&from=&until=
type Transfers struct {
	Scope   dataset.Scope `json:"scope"`
	From    time.Time     `json:"from"`
	Until   time.Time     `json:"until"` // not included
	Items   []TransferRow `json:"items"`
	LeftOff int           `json:"left_off,omitempty"` // reads beyond MaxReport rows
}

// TransferRow is the reads of one dataset in one month by people of one region.
type TransferRow struct {
	Period  string        `json:"period"` // the month in UTC, 2026-11
	Dataset string        `json:"dataset"`
	Region  string        `json:"region,omitempty"` // the project's; empty: it asks for none
	Reader  string        `json:"reader,omitempty"` // the region declared for the readers; empty: any, where the project asks for none
	Basis   dataset.Basis `json:"basis,omitempty"`  // empty: the record is of before these were kept
	Reads   int           `json:"reads"`
	Bytes   uint64        `json:"bytes"`             // really sent
	AtMost  uint64        `json:"at_most,omitempty"` // may have been sent besides: of reads past the vault, or that a crash ended
}
