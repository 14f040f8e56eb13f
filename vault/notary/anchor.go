package notary

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"
	"time"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

const (
	anchorEvery = 5 * time.Minute
	anchorLimit = time.Minute // for one look at the anchors, or one anchor
	maxForeign  = 1000        // objects among the anchors that are none
)

// Anchor is a store whose objects nobody can remove before their time, not even
// with its credentials: a bucket with object lock. It is read by versions: what
// was put over an anchor since, or a mark that it is deleted, hides nothing.
type Anchor interface {
	// PutRetained stores data under key, locked until a time. A key that is
	// there gets a newer version.
	PutRetained(ctx context.Context, key string, data []byte, until time.Time) error
	// Versions yields every version below a prefix in key order, also those that
	// others were put over, or that were deleted.
	Versions(ctx context.Context, prefix string) iter.Seq2[storage.ObjectVersion, error]
	OpenVersion(ctx context.Context, v storage.ObjectVersion) (io.ReadCloser, error)
}

// anchorPrefix is where the anchors of an origin are. A store may hold those of
// several logs; the origin's hash keeps a name out of it.
func anchorPrefix(origin string) string {
	return fmt.Sprintf("log/%x/", sha256.Sum256([]byte(origin)))
}

// anchorKey names an anchor by its size, so that the largest is listed first,
// and by its content.
func anchorKey(cp audit.Checkpoint, data []byte) string {
	sum := sha256.Sum256(data)
	return fmt.Sprintf("%s%019d-%x.checkpoint", anchorPrefix(cp.Origin), math.MaxInt64-cp.Size, sum[:8])
}

// bundleKey is where the bundle of an anchor is: not among the anchors, which are
// searched.
func bundleKey(cp audit.Checkpoint, data []byte) string {
	return "bundle/" + strings.TrimSuffix(strings.TrimPrefix(anchorKey(cp, data), "log/"), ".checkpoint") + ".bundle"
}

// anchor leaves the newest checkpoint in the anchor, and its bundle before it: a
// Task.
func (n *Notary) anchor(ctx context.Context, size uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, anchorLimit)
	defer cancel()
	signed, bundle, err := n.cfg.Bundle(ctx, size, n.left)
	if err != nil {
		return 0, err
	}
	cp, err := n.open(signed)
	if err != nil {
		return 0, err
	}
	until := n.cfg.Now().Add(n.cfg.AnchorKeep)
	if err := n.cfg.Anchor.PutRetained(ctx, bundleKey(cp, signed), bundle, until); err != nil {
		return 0, err
	}
	if err := n.cfg.Anchor.PutRetained(ctx, anchorKey(cp, signed), signed, until); err != nil {
		return 0, err
	}
	n.left = cp.Size
	return cp.Size, nil
}

// anchored finds the largest anchored checkpoint of an epoch; found is false if
// there is none. What is not signed by the log's key is passed over: whoever may
// write there can add what they like.
func (n *Notary) anchored(ctx context.Context, epoch uint64) (cp audit.Checkpoint, found bool, err error) {
	const op = "notary.anchored"
	origin, foreign := audit.EpochOrigin(n.cfg.Origin, epoch), 0
	for object, err := range n.cfg.Anchor.Versions(ctx, anchorPrefix(origin)) {
		if err != nil {
			return cp, false, err
		}
		cp, err := n.readAnchor(ctx, object)
		if err == nil && cp.Origin == origin {
			return cp, true, nil
		}
		var unsigned *audit.VerifyError
		if err != nil && !errors.As(err, &unsigned) {
			return cp, false, err
		}
		n.log.Warn("an object among the anchors is none", "key", object.Key, "err", err)
		if foreign++; foreign == maxForeign {
			return cp, false, fault.New(fault.Corrupt, op, "the anchor is full of objects that are no anchors").
				WithHint("give the log a bucket or a prefix of its own with --anchor")
		}
	}
	return cp, false, nil
}

func (n *Notary) readAnchor(ctx context.Context, v storage.ObjectVersion) (audit.Checkpoint, error) {
	r, err := n.cfg.Anchor.OpenVersion(ctx, v)
	if err != nil {
		return audit.Checkpoint{}, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, audit.MaxCheckpoint+1))
	if err != nil {
		return audit.Checkpoint{}, err
	}
	return n.open(data)
}

// checkAnchor compares the catalog with the anchor. An anchor that does not
// answer is an outage: what it would say is not known.
func (n *Notary) checkAnchor(ctx context.Context) error {
	const op = "notary.checkAnchor"
	ctx, cancel := context.WithTimeout(ctx, anchorLimit)
	defer cancel()
	later, found, err := n.anchored(ctx, n.epoch+1)
	if err == nil && found {
		return lost(op, "it is of epoch %d of the log, but %d leaves of epoch %d are anchored", n.epoch, later.Size, n.epoch+1)
	}
	var newest audit.Checkpoint
	if err == nil {
		newest, found, err = n.anchored(ctx, n.epoch)
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, op, "the anchor of the log cannot be read", err).
			WithHint("check --anchor; the log is not served before it was compared with its anchor").WithRetry(time.Minute)
	}
	if !found {
		return nil
	}
	return n.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		head, err := headOf(ctx, tx)
		if err != nil {
			return err
		}
		return extends(ctx, tx, op, newest, head)
	})
}
