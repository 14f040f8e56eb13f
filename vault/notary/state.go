package notary

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"dsvault/vault/audit"
	"dsvault/vault/fault"
)

// InitState begins the record of what the log has signed, for a new log: its
// empty tree. A file that is there is fault.Conflict.
func InitState(path string, key Key) error {
	const op = "notary.InitState"
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Conflict, op, path+" is there already", err)
	}
	data, err := audit.SignCheckpoint(key.Signer.Name(), 0, audit.EmptyRoot(), key.Signer)
	if err != nil {
		return fault.Wrap(fault.Internal, op, "cannot sign a checkpoint", err)
	}
	return writeState(path, data)
}

// readState reads the last checkpoint that this node has signed; found is false
// if there is no such file.
func (n *Notary) readState() (cp audit.Checkpoint, found bool, err error) {
	const op = "notary.readState"
	f, err := os.Open(n.cfg.State)
	if errors.Is(err, fs.ErrNotExist) {
		return cp, false, nil
	}
	if err != nil {
		return cp, false, fault.Wrap(fault.Unavailable, op, "cannot read "+n.cfg.State, err).WithHint("name a file that the server may read and write with --log-state")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, audit.MaxCheckpoint+1))
	if err != nil {
		return cp, false, fault.Wrap(fault.Unavailable, op, "cannot read "+n.cfg.State, err)
	}
	if cp, err = n.open(data); err != nil {
		return cp, false, fault.Wrap(fault.Corrupt, op, n.cfg.State+", the record of what the log has signed, is damaged", err).
			WithHint("restore it from a backup; an older one will do. If there is none, run `dsvault recover`")
	}
	return cp, true, nil
}

// open reads a checkpoint of this log that one of its keys has signed, of
// whatever epoch.
func (n *Notary) open(data []byte) (audit.Checkpoint, error) {
	origin, _, _ := bytes.Cut(data, []byte("\n"))
	_, epoch := audit.SplitOrigin(string(origin))
	var last error
	for _, key := range n.cfg.Keys {
		v, err := verifierOf(key, epoch)
		if err != nil {
			return audit.Checkpoint{}, err
		}
		cp, err := audit.OpenCheckpoint(data, audit.EpochOrigin(n.cfg.Origin, epoch), v)
		if err == nil {
			return cp, nil
		}
		last = err
	}
	return audit.Checkpoint{}, last
}

// writeState makes data durable at path, whole or not at all.
func writeState(path string, data []byte) (err error) {
	defer func() {
		if err != nil {
			err = fault.Wrap(fault.Unavailable, "notary.writeState", "cannot write "+path, err).
				WithHint("nothing is signed before it is written there; name another file with --log-state")
		}
	}()
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".log-state-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
