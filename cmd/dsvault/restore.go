package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
)

func (a *app) restoreCmd() *cobra.Command {
	var cfg nodeConfig
	var identity string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a data folder from a backup",
		Long: `Opens a backup with the identity that it was sealed to, verifies every record of
its log, and puts keys and catalog into a new data folder; with --catalog the
catalog goes into an empty database instead. Put the objects back under the
keys that they had, and run ` + "`dsvault check --read-data --repair`" + `, which pins them
anew, once the server runs.

If the vault has signed records that the backup lacks, and its log.checkpoint
is still there, put that file into the new keys folder: serve will say what is
lost, and ` + "`dsvault recover`" + ` goes on, on record.`,
		Example: `  dsvault restore vault.backup --identity backup-key.txt --data /srv/vault
  dsvault restore vault.backup --identity backup-key.txt --data /srv/vault --catalog postgres://vault@db.example.org/vault`,
		Args: args(1, 1),
	}
	cmd.Flags().StringVar(&identity, "identity", "", "file with the age identity that the backup was sealed to")
	cmd.Flags().StringVar(&cfg.Catalog, "catalog", "", "empty database to put the catalog into: sqlite:PATH or postgres://… (default: sqlite in the data folder)")
	cmd.RunE = func(cmd *cobra.Command, words []string) (err error) {
		if cfg.Data, err = a.dataDir(); err != nil {
			return err
		}
		if identity == "" {
			return usage("--identity is needed", "name the file with the age identity that the backup was sealed to")
		}
		secret, err := readSmall(identity, maxKeyFile)
		if err != nil {
			return err
		}
		id, err := seal.ParseIdentity(secret)
		if err != nil {
			return err
		}
		doc, err := restore(cmd.Context(), cfg, words[0], id)
		if err != nil {
			return err
		}
		return a.result(doc, "restored %s with %d records, as of %s, to %s", doc.Log, doc.Size, doc.At.Format("2006-01-02 15:04:05 MST"), cfg.Data)
	}
	return cmd
}

func readSmall(path string, most int64) ([]byte, error) {
	const op = "dsvault.read"
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(op, path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return nil, unreadable(op, path, err)
	case int64(len(data)) > most:
		return nil, fault.New(fault.TooLarge, op, path+" is too large").WithHint("name the file that is meant: it has a few lines")
	}
	return data, nil
}

// restore makes the data folder in a folder beside it, so that it is whole or
// is not there.
func restore(ctx context.Context, cfg nodeConfig, file string, id *seal.Identity) (doc backedUp, err error) {
	const op = "dsvault.restore"
	f, err := os.Open(file)
	if err != nil {
		return doc, fault.Wrap(fault.Invalid, op, "cannot read "+file, err).WithHint("name a file that `dsvault backup` has written")
	}
	defer f.Close()
	stage, publish, discard, err := stageData(cfg.Data, op)
	if err != nil {
		return doc, err
	}
	defer discard()
	plain, err := seal.Open(f, id)
	if err != nil {
		return doc, fault.Wrap(fault.CodeOf(err), op, "the backup cannot be opened with this identity", err).
			WithHint("give the file that `dsvault backup` has written, and the identity of the recipient that it was sealed to")
	}
	if doc, err = unpackBackup(ctx, plain, stage); err != nil {
		return doc, err
	}
	cp, err := restoredCatalog(ctx, cfg, filepath.Join(stage, backupCatalog))
	if err != nil {
		return doc, err
	}
	if cp.Origin != doc.Log || cp.Size != doc.Size || string(cp.Root[:]) != string(doc.Root) {
		return doc, fault.New(fault.Corrupt, op, "the catalog in the backup is not the one that the backup says").WithHint("take another backup")
	}
	return doc, publish()
}

// restoredCatalog verifies the catalog that was unpacked, and moves it to
// another database if one is named.
func restoredCatalog(ctx context.Context, cfg nodeConfig, file string) (audit.Checkpoint, error) {
	source, err := catalog.Open(ctx, "sqlite:"+file, catalog.Options{})
	if err != nil {
		return audit.Checkpoint{}, err
	}
	defer source.Close()
	if cfg.Catalog == "" {
		return vault.VerifyCatalog(ctx, source)
	}
	target, err := catalog.Open(ctx, cfg.Catalog, catalog.Options{})
	if err != nil {
		return audit.Checkpoint{}, err
	}
	defer target.Close()
	cp, err := vault.SnapshotCatalog(ctx, source, target, func(int64) {})
	if err != nil {
		return cp, err
	}
	source.Close()
	return cp, os.Remove(file)
}

// unpackBackup writes what the archive holds below folder: nothing but what a
// backup consists of.
func unpackBackup(ctx context.Context, r io.Reader, folder string) (doc backedUp, err error) {
	const op = "dsvault.restore"
	damaged := func(message string, err error) error {
		return fault.Wrap(fault.Corrupt, op, message, err).WithHint("take another backup")
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return doc, fault.Wrap(fault.Unavailable, op, "cannot write to "+folder, err)
	}
	defer root.Close()
	if err := root.Mkdir("keys", 0o700); err != nil {
		return doc, fault.Wrap(fault.Unavailable, op, "cannot write to "+folder, err)
	}
	archive := tar.NewReader(r)
	files := 0
	seen := map[string]bool{}
	for ctx.Err() == nil {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			if !seen[backupHead] || !seen[backupCatalog] || files == 0 {
				return doc, damaged("the backup is not whole", io.ErrUnexpectedEOF)
			}
			// The seal says by its end that nothing was cut off.
			if _, err := io.Copy(io.Discard, r); err != nil {
				return doc, damaged("the backup is damaged", err)
			}
			return doc, nil
		}
		if err != nil {
			return doc, damaged("the backup is damaged", err)
		}
		name, isKey := strings.CutPrefix(h.Name, backupKeys)
		switch {
		case seen[h.Name] || h.Typeflag != tar.TypeReg:
			return doc, damaged("the backup holds something strange", fmt.Errorf("%q", h.Name))
		case h.Name == backupHead && h.Size <= maxBackupHead:
			err = json.NewDecoder(io.LimitReader(archive, maxBackupHead)).Decode(&doc)
			if err == nil && doc.Version != 1 {
				return doc, fault.New(fault.Invalid, op, "the backup was written by a newer version of dsvault").WithHint("restore it with that version")
			}
		case isKey && files < maxKeyFiles && h.Size <= maxKeyFile && filepath.Base(name) == name && !strings.HasPrefix(name, "."):
			files++
			err = unpackFile(root, "keys/"+name, archive)
		case h.Name == backupCatalog:
			if free, _, unknown := diskSpace(folder); unknown == nil && uint64(h.Size) > free {
				return doc, fault.New(fault.Unavailable, op, "there is no room for the catalog of this backup").WithHint("make room, or name another folder with --data")
			}
			err = unpackFile(root, backupCatalog, archive)
		default:
			return doc, damaged("the backup holds something strange", fmt.Errorf("%q", h.Name))
		}
		if err != nil {
			return doc, damaged("cannot unpack the backup", err)
		}
		seen[h.Name] = true
	}
	return doc, ctx.Err()
}

func unpackFile(root *os.Root, name string, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	return err
}
