package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/keys"
	"dsvault/vault/seal"
)

// A backup is a tar, sealed to one recipient: backupHead, the files of the keys
// folder below keys/, and the catalog as a SQLite file, whatever it was on.
const (
	backupHead    = "backup.json"
	backupCatalog = "catalog.db"
	backupKeys    = "keys/"
	signedState   = "log.checkpoint"
)

// What a backup may hold, against archives that are made to do harm.
const (
	maxBackupHead = 64 << 10
	maxKeyFiles   = 10_000
	maxKeyFile    = 1 << 20
)

// backedUp is what backup.json says, and the document of `backup --json` and
// `restore --json`.
type backedUp struct {
	Version int              `json:"version"`
	At      time.Time        `json:"at"`
	Log     string           `json:"log"`  // its name
	Size    uint64           `json:"size"` // records of the log
	Root    dataset.HexBytes `json:"root"`
}

func (a *app) backupCmd() *cobra.Command {
	var cfg nodeConfig
	var to, out string
	cmd := &cobra.Command{
		Use:   "backup --to RECIPIENT -o FILE",
		Short: "Back up catalog and keys, sealed to a recipient",
		Long: `Writes the catalog as of one moment, whichever database it is in, and the keys
folder into one file, sealed to the recipient of an age identity that you keep
elsewhere (` + "`age-keygen -pq`" + ` makes one). Servers may run meanwhile. Every record
of the log is verified in the copy.

The objects are not in it: they are sealed already. Back them up after this, so
that every object which the catalog names is there.

The file opens everything to whoever has its identity. Destroy backups when the
time is over that you promise for erased data.`,
		Example: `  dsvault backup --to age1pq1… -o vault.backup
  dsvault backup --data /srv/vault --catalog postgres://vault@db.example.org/vault --to age1pq1… -o vault.backup`,
		Args: args(0, 0),
	}
	cmd.Flags().StringVar(&cfg.Catalog, "catalog", "", "sqlite:PATH or postgres://… (default: sqlite in the data folder)")
	cmd.Flags().StringVar(&to, "to", "", "recipient that the file is sealed to: age1pq1…")
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write; it must not be there")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if cfg.Data, err = a.dataDir(); err != nil {
			return err
		}
		if out == "" || to == "" {
			return usage("--to and -o are needed", "name a recipient, age1pq1…, and the file to write")
		}
		if err := cfg.exists(); err != nil {
			return err
		}
		recipient, err := seal.ParseRecipient(to)
		if err != nil {
			return err
		}
		bar := a.progressOf("backing up", false)
		defer bar.finish()
		doc, err := backUp(cmd.Context(), cfg, recipient, out, bar.Done)
		bar.finish()
		if err != nil {
			return err
		}
		return a.result(doc, "backed up %s with %d records to %s", doc.Log, doc.Size, out)
	}
	return cmd
}

// backUp writes the file whole or not at all.
func backUp(ctx context.Context, cfg nodeConfig, to seal.Recipient, out string, progress func(int64)) (doc backedUp, err error) {
	const op = "dsvault.backup"
	if _, err := os.Lstat(out); err == nil {
		return doc, fault.New(fault.Conflict, op, out+" is there already").WithHint("name another file with -o")
	}
	stage, err := os.MkdirTemp(filepath.Dir(out), ".dsvault-backup-*") // 0700
	if err != nil {
		code := fault.Unavailable
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EROFS) {
			code = fault.Invalid
		}
		return doc, fault.Wrap(code, op, "cannot write beside "+out, err).WithHint("name a file in a folder that you may write to")
	}
	defer os.RemoveAll(stage)
	// What the log has signed comes before the catalog, or the catalog would
	// seem to lack records; the keys after it, which may have got more.
	signed, err := os.ReadFile(filepath.Join(cfg.keyFolder(), signedState))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return doc, fault.Wrap(fault.Unavailable, op, "cannot read the keys folder", err)
	}
	file := filepath.Join(stage, backupCatalog)
	cp, err := snapshotCatalog(ctx, cfg, file, progress)
	if err != nil {
		return doc, err
	}
	doc = backedUp{Version: 1, At: now().UTC(), Log: cp.Origin, Size: cp.Size, Root: cp.Root[:]}
	sealed := filepath.Join(stage, "sealed")
	f, err := os.OpenFile(sealed, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return doc, fault.Wrap(fault.Unavailable, op, "cannot write beside "+out, err)
	}
	err = writeBackup(f, to, cfg.keyFolder(), doc, signed, file)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Link(sealed, out) // unlike a rename it never replaces a file
	}
	if err == nil {
		err = syncFolder(filepath.Dir(out))
	}
	if fault.Is(err, fault.Conflict) {
		return doc, err
	}
	if err != nil {
		return doc, fault.Wrap(fault.Unavailable, op, "cannot write "+out, err).WithHint("see that there is room, and begin again")
	}
	return doc, nil
}

func snapshotCatalog(ctx context.Context, cfg nodeConfig, file string, progress func(int64)) (audit.Checkpoint, error) {
	source, err := cfg.openCatalog(ctx, catalog.Options{})
	if err != nil {
		return audit.Checkpoint{}, err
	}
	defer source.Close()
	target, err := catalog.Open(ctx, "sqlite:"+file, catalog.Options{})
	if err != nil {
		return audit.Checkpoint{}, err
	}
	cp, err := vault.SnapshotCatalog(ctx, source, target, progress)
	if closing := target.Close(); err == nil {
		err = closing // the file has everything now, its -wal is gone
	}
	return cp, err
}

func writeBackup(w io.Writer, to seal.Recipient, keyFolder string, doc backedUp, signed []byte, catalogFile string) error {
	buffered := bufio.NewWriterSize(w, 1<<20)
	sealer, err := seal.Seal(buffered, to)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(sealer)
	add := func(name string, data []byte) error {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), Format: tar.FormatPAX}); err != nil {
			return err
		}
		_, err := archive.Write(data)
		return err
	}
	head, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	if err := add(backupHead, head); err != nil {
		return err
	}
	root, err := settledRoot(keyFolder)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(keyFolder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") || e.Name() == signedState {
			continue
		}
		data, err := os.ReadFile(filepath.Join(keyFolder, e.Name()))
		if err != nil {
			return err
		}
		if err := add(backupKeys+e.Name(), data); err != nil {
			return err
		}
	}
	after, err := settledRoot(keyFolder)
	if err != nil {
		return err
	}
	if !bytes.Equal(root, after) {
		return fault.New(fault.Conflict, "dsvault.backup", "the root key was rotated meanwhile").WithHint("begin again")
	}
	if signed != nil {
		if err := add(backupKeys+signedState, signed); err != nil {
			return err
		}
	}
	if err := addFile(archive, catalogFile); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	if err := sealer.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

// settledRoot reads the root key's file; not in the middle of a rotation, when the
// files of the folder do not belong together.
func settledRoot(keyFolder string) ([]byte, error) {
	half, err := keys.Rotating(keyFolder)
	if err != nil {
		return nil, err
	}
	if half {
		return nil, fault.New(fault.Conflict, "dsvault.backup", "a rotation of the root key was interrupted").
			WithHint("run `dsvault root-key rotate` again, then back up")
	}
	return os.ReadFile(filepath.Join(keyFolder, "root.key"))
}

func addFile(archive *tar.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Name: backupCatalog, Mode: 0o600, Size: info.Size(), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.Copy(archive, f)
	return err
}
