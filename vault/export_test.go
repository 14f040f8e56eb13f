package vault

import (
	"context"
	"time"
)

// Tests move the clock and look at what is so before and after the chores; none
// may come in between by itself.
func init() { choreTick = 24 * time.Hour }

// SetMaxScan changes how many records one page of the log looks through, until
// the returned function is called.
func SetMaxScan(n uint64) func() {
	was := maxScan
	maxScan = n
	return func() { maxScan = was }
}

// Mentions is mentions.
var Mentions = mentions

// WakeOutbox is wakeOutbox: for tests that have moved the clock.
func (v *Vault) WakeOutbox() { v.wakeOutbox() }

// Remind is remind.
func (v *Vault) Remind(ctx context.Context) error { return v.remind(ctx) }
