package vault

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/identity"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

// PutFile takes a plain file, seals it while it streams, and makes it the one
// shard of a dataset's next version. Plaintext touches neither disk nor log.
// size -1 means until the end of body. The file of the newest version changes
// nothing; that shows only when all of it has come.
func (v *Vault) PutFile(ctx context.Context, c identity.Caller, scope dataset.Scope, name string, body io.Reader, size int64) (wire.Dataset, error) {
	const op = "vault.PutFile"
	if err := checkText("file name", name, 255); err != nil {
		return wire.Dataset{}, err
	}
	if size > maxPlain {
		return wire.Dataset{}, tooLarge(op)
	}
	if _, err := v.CreateDataset(ctx, c, scope); err != nil {
		return wire.Dataset{}, err
	}
	d, err := v.uploadTo(ctx, c, scope)
	if err != nil {
		return wire.Dataset{}, err
	}
	number, newest, err := v.oneShard(ctx, d)
	if err != nil {
		return wire.Dataset{}, err
	}
	recipient, err := seal.ParseRecipient(d.Recipient)
	if err != nil {
		return wire.Dataset{}, err
	}
	push, err := v.BeginPush(ctx, c, scope)
	if err != nil {
		return wire.Dataset{}, err
	}
	a := v.newAttempt(d, number, size, c)
	a.Push = push.Push
	ctx, end := v.writing(ctx, d.ID, scope)
	defer end()
	if err := v.addAttempt(ctx, a); err != nil {
		return wire.Dataset{}, err
	}
	if err := v.claim(ctx, a.ID); err != nil {
		return wire.Dataset{}, err
	}
	plain, err := v.sealTo(ctx, &a, recipient, body, size)
	if err != nil {
		return wire.Dataset{}, erasedMeanwhile(ctx, err)
	}
	if a.Fingerprint = fingerprintFile(d.Salt, name, a.PlainSize, plain); a.Fingerprint == newest {
		v.giveUp(ctx, a)
		return v.wireDataset(ctx, d, true)
	}
	m := dataset.Manifest{Version: dataset.ManifestVersion, Number: number, Packing: dataset.PackFile, Name: name,
		Size: a.PlainSize, SHA256: plain, Mode: 0o644, ModTime: v.now().UnixNano()}
	data, err := m.Encode()
	if err != nil {
		return wire.Dataset{}, err
	}
	manifest, err := seal.SealBytes(data, recipient)
	if err != nil {
		return wire.Dataset{}, err
	}
	if err := v.indexFile(ctx, &a, m, recipient); err != nil {
		return wire.Dataset{}, err
	}
	if _, err := v.commitShard(ctx, c, d, a, manifest); err != nil {
		return wire.Dataset{}, err
	}
	return v.Complete(ctx, c, scope, wire.Complete{Shards: dataset.ListOf([]int{number}), Push: push.Push})
}

// oneShard gives the number for the next shard of a dataset whose versions are
// plain files, and the fingerprint of the newest. Any other dataset is a
// Conflict.
func (v *Vault) oneShard(ctx context.Context, d storage.Dataset) (number int, newest [32]byte, err error) {
	err = v.db.View(ctx, func(tx *catalog.Tx) error {
		count, highest, _, _, err := tx.ShardCount(ctx, d.ID)
		if err != nil {
			return err
		}
		if d.Shards > 1 || !d.Complete && count > 1 {
			return fault.New(fault.Conflict, "vault.PutFile", d.Scope.String()+" has several shards").
				WithHint("put the file under a new dataset name, or push the next version with dsvault")
		}
		if !d.Complete {
			return nil // a shard without a version is left over, and is replaced
		}
		number = highest + 1
		version, err := tx.Version(ctx, d.ID, d.Version)
		if err != nil {
			return missingRow("version", err)
		}
		s, err := tx.Shard(ctx, d.ID, version.Shards[0].First)
		newest = s.Fingerprint
		return missingRow("shard", err)
	})
	if err == nil && number >= dataset.MaxShards {
		err = fault.New(fault.Conflict, "vault.PutFile", "the dataset has used up its shard numbers").WithHint("put the file under a new dataset name")
	}
	return number, newest, err
}

// fingerprintFile names a plain file's content.
func fingerprintFile(salt [32]byte, name string, size int64, plain []byte) [32]byte {
	mac := hmac.New(sha256.New, salt[:])
	fmt.Fprintf(mac, "dsvault file\x00%d\x00%x\x00%s", size, plain, name)
	return [32]byte(mac.Sum(nil))
}

// sealTo streams body through age into storage and completes the attempt. It
// gives the plaintext's hash.
func (v *Vault) sealTo(ctx context.Context, a *storage.Attempt, to seal.Recipient, body io.Reader, size int64) ([]byte, error) {
	const op = "vault.sealTo"
	plain := sha256.New()
	counted := &counter{hash: plain}
	r, w := io.Pipe()
	sealing := make(chan error, 1)
	go func() { // ends when body ends or when Put closes the pipe
		err := sealStream(w, to, io.TeeReader(io.LimitReader(body, maxPlain+1), counted))
		switch {
		case err != nil:
		case counted.n > maxPlain:
			err = tooLarge(op)
		case size >= 0 && counted.n != size:
			err = fault.Wrap(fault.Invalid, op, "the file was cut off", io.ErrUnexpectedEOF)
		}
		w.CloseWithError(err)
		sealing <- err
	}()
	sealedSize := int64(-1)
	if size >= 0 {
		sealedSize = seal.SealedSize(size)
	}
	o, sum, err := storage.PutHashed(ctx, v.objects, a.Key, r, sealedSize)
	r.CloseWithError(errPutEnded)
	if e := <-sealing; err == nil && !errors.Is(e, errPutEnded) {
		err = e
	}
	if err != nil {
		return nil, err
	}
	a.PlainSize, a.ETag, a.SealedSize, a.SHA256 = counted.n, o.ETag, o.Size, sum
	return plain.Sum(nil), v.storeAttempt(ctx, *a, o, a.SHA256)
}

var errPutEnded = errors.New("storage stopped reading")

func sealStream(w io.Writer, to seal.Recipient, body io.Reader) error {
	sealer, err := seal.Seal(w, to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(sealer, body); err != nil {
		return err
	}
	return sealer.Close()
}

// counter hashes and counts what passes.
type counter struct {
	hash hash.Hash
	n    int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.hash.Write(p)
}
