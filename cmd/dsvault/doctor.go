package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dsvault/storage"
	"dsvault/storage/catalog"
	"dsvault/vault"
	"dsvault/vault/fault"
	"dsvault/vault/keys"
)

// finding is one line of `doctor`, and of its JSON.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // "ok", "warning" or "failed"
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

const (
	healthy = "ok"
	warning = "warning"
	failed  = "failed"
)

func (a *app) doctorCmd() *cobra.Command {
	var cfg serveConfig
	var passphraseFile string
	var verify bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check a deployment and say what to fix",
		Long: `Looks at the keys folder, the catalog, the signed log, the object store, the
clock, the disks and the certificate of a server, whether or not it runs. Give
it the flags and variables of its serve. It changes nothing, but writes, reads
and removes one small object in the store.

The exit status is 7 if a check failed; warnings do not change it.`,
		Example: `  dsvault doctor
  dsvault doctor --data /srv/vault --catalog postgres://vault@db.example.org/vault --objects 's3://vault?endpoint=https://s3.example.org'`,
		Args: args(0, 0),
	}
	a.storeFlags(cmd, &cfg.nodeConfig)
	a.regionFlags(cmd, &cfg.nodeConfig)
	a.logSettingFlags(cmd, &cfg.Log)
	f := cmd.Flags()
	f.StringVar(&cfg.Cert, "tls-cert", "", "PEM file with the server's certificate chain")
	f.StringVar(&cfg.Policies, "policies", "", "folder with model.conf, policy.csv and truth.csv (default: the built-in policy)")
	f.StringVar(&passphraseFile, "passphrase-file", "", "file whose first line is the root key's passphrase")
	f.BoolVar(&verify, "verify-log", false, "verify every record of the log as well")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if cfg.Data, err = a.dataDir(); err != nil {
			return err
		}
		if err := cfg.exists(); err != nil {
			return err
		}
		if err := a.rootPassphrase(&cfg.nodeConfig, passphraseFile); err != nil {
			return err
		}
		d := doctor{cfg: cfg, verify: verify}
		d.examine(cmd.Context())
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		return a.printFindings(d.found)
	}
	return cmd
}

func (a *app) printFindings(found []finding) error {
	bad := 0
	t := newTable(a.out, "CHECK", "STATUS", "DETAIL")
	for _, f := range found {
		if f.Status == failed {
			bad++
		}
		if a.json {
			if err := writeJSON(a.out, f); err != nil {
				return err
			}
			continue
		}
		detail := f.Detail
		if f.Hint != "" {
			detail += "; " + f.Hint
		}
		t.row(f.Check, f.Status, detail)
	}
	if !a.json {
		if err := t.flush(); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fault.New(fault.Corrupt, "dsvault.doctor", fmt.Sprintf("%d of %d checks failed", bad, len(found))).
			WithHint("mend what is listed as failed, and run it again")
	}
	return nil
}

// doctor examines one deployment.
type doctor struct {
	cfg    serveConfig
	verify bool
	found  []finding
}

func (d *doctor) say(check, status, detail, hint string) {
	d.found = append(d.found, finding{check, status, detail, hint})
}

// report says how a check ended, and whether it did well.
func (d *doctor) report(check string, err error, detail string) bool {
	if err == nil {
		d.say(check, healthy, detail, "")
		return true
	}
	message := "it does not answer"
	var known *fault.Error
	if errors.As(err, &known) {
		message = known.Message
	}
	d.say(check, failed, message, fault.HintOf(err))
	return false
}

// checkLimit is how long one check may take.
const checkLimit = 30 * time.Second

func (d *doctor) examine(ctx context.Context) {
	d.keys()
	d.policy()
	d.certificate()
	d.disks()
	d.within(ctx, checkLimit, d.objects)
	db, err := d.cfg.openCatalog(ctx, catalog.Options{})
	if err != nil {
		d.report("catalog", err, "")
		return
	}
	d.say("catalog", healthy, fmt.Sprintf("answers, and has the tables of version %d", db.Schema()), "")
	defer db.Close()
	d.within(ctx, checkLimit, func(ctx context.Context) { d.stores(ctx, db) })
	d.within(ctx, checkLimit, func(ctx context.Context) { d.clock(ctx, db) })
	d.within(ctx, checkLimit, func(ctx context.Context) { d.log(ctx, db) })
	d.within(ctx, checkLimit, func(ctx context.Context) { d.messages(ctx, db) })
	d.within(ctx, checkLimit, func(ctx context.Context) { d.emergencies(ctx, db) })
	d.within(ctx, checkLimit, func(ctx context.Context) { d.requests(ctx, db) })
	if d.verify {
		cp, err := vault.VerifyCatalog(ctx, db)
		d.report("records", err, fmt.Sprintf("all %d verified", cp.Size))
	}
}

func (d *doctor) within(ctx context.Context, limit time.Duration, f func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	f(ctx)
}

func (d *doctor) keys() {
	folder := d.cfg.keyFolder()
	protected, err := keys.Protected(folder)
	if err == nil {
		_, err = keys.Open(folder, d.cfg.Passphrase, nil, rand.Reader)
	}
	if err == nil && !protected {
		d.say("keys", warning, "the root key is not protected by a passphrase", "whoever copies the keys folder can open everything; `dsvault root-key rotate --new-passphrase` gives it one")
		return
	}
	d.report("keys", err, "the root key is protected by a passphrase, and opens all others")
}

func (d *doctor) policy() {
	policy, err := d.cfg.policy()
	detail := ""
	if err == nil {
		hash := policy.Hash()
		detail = fmt.Sprintf("meets its truth table and the guardrails, hash %x", hash[:4])
	}
	d.report("policy", err, detail)
}

// soon is how long before its end a certificate should be replaced.
const soon = 14 * 24 * time.Hour

func (d *doctor) certificate() {
	const op = "dsvault.certificate"
	if d.cfg.Cert == "" {
		return
	}
	data, err := readSmall(d.cfg.Cert, maxKeyFile)
	var leaf *x509.Certificate
	if err == nil {
		if block, _ := pem.Decode(data); block == nil || block.Type != "CERTIFICATE" {
			err = fault.New(fault.Invalid, op, d.cfg.Cert+" is no PEM certificate").WithHint("name the certificate chain with --tls-cert")
		} else if leaf, err = x509.ParseCertificate(block.Bytes); err != nil {
			err = fault.Wrap(fault.Invalid, op, d.cfg.Cert+" is no certificate", err).WithHint("name the certificate chain with --tls-cert")
		}
	}
	if err != nil {
		d.report("certificate", err, "")
		return
	}
	until := "good until " + leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST")
	switch at := now(); {
	case at.After(leaf.NotAfter) || at.Before(leaf.NotBefore):
		d.say("certificate", failed, "not good now; "+until, "replace it")
	case at.Add(soon).After(leaf.NotAfter):
		d.say("certificate", warning, until, "replace it in time")
	default:
		d.say("certificate", healthy, until, "")
	}
}

// disks looks at the room in the folders that the server writes to.
func (d *doctor) disks() {
	folders := map[string]string{"disk": d.cfg.Data}
	if dir, ok := strings.CutPrefix(d.cfg.Objects, "dir:"); ok {
		folders["disk of objects"] = dir
	}
	if file, ok := strings.CutPrefix(d.cfg.Catalog, "sqlite:"); ok {
		folders["disk of catalog"] = filepath.Dir(file)
	}
	for _, name := range []string{"disk", "disk of objects", "disk of catalog"} {
		folder, ok := folders[name]
		if !ok {
			continue
		}
		free, total, err := diskSpace(folder)
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		if err != nil {
			d.report(name, fault.Wrap(fault.Unavailable, "dsvault.disk", "cannot look at "+folder, err).WithHint("check that it is there"), "")
			continue
		}
		detail := fmt.Sprintf("%s of %s free", size(int64(free)), size(int64(total)))
		switch {
		case free < 64<<20:
			d.say(name, failed, detail, "make room: nothing is served when the log cannot be written")
		case free < 1<<30 || free < total/20:
			d.say(name, warning, detail, "make room before it is full: nothing is served when the log cannot be written")
		default:
			d.say(name, healthy, detail, "")
		}
	}
}

// objects puts, reads and removes a small object.
func (d *doctor) objects(ctx context.Context) {
	objects, err := d.cfg.openObjects(ctx)
	if err == nil {
		err = tryStores(ctx, objects)
	}
	d.report("objects", err, "an object was written, read and removed")
}

// tryStores tries the store of each region.
func tryStores(ctx context.Context, objects storage.Objects) error {
	for _, region := range append([]string{""}, storage.RegionsOf(objects)...) {
		if err := tryObjects(ctx, objects, region); err != nil {
			return err
		}
	}
	return nil
}

func tryObjects(ctx context.Context, objects storage.Objects, region string) error {
	key := storage.RegionKey(region, "doctor/"+strings.ToLower(rand.Text()))
	data := []byte(rand.Text())
	put, err := objects.Put(ctx, key, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return err
	}
	r, err := objects.Open(ctx, key, 0, -1, put.ETag)
	if err == nil {
		var got []byte
		got, err = io.ReadAll(io.LimitReader(r, 1024))
		r.Close()
		if err == nil && !bytes.Equal(got, data) {
			err = fault.New(fault.Corrupt, "dsvault.objects", "the object store gave other bytes back than were put").WithHint("do not use this store")
		}
	}
	return errors.Join(err, objects.Delete(ctx, key))
}

// stores compares the marks of the stores with what the catalog says of them.
func (d *doctor) stores(ctx context.Context, db *catalog.DB) {
	objects, err := d.cfg.openObjects(ctx)
	if err != nil {
		return // said already
	}
	d.report("stores", vault.CheckStores(ctx, db, objects), "each is marked as this vault's")
}

// clock compares the machine's clock with the database's.
func (d *doctor) clock(ctx context.Context, db *catalog.DB) {
	if d.cfg.embedded() {
		return
	}
	before := now()
	var there time.Time
	err := db.View(ctx, func(tx *catalog.Tx) (err error) {
		there, err = tx.Now(ctx)
		return err
	})
	if err != nil {
		d.report("clock", err, "")
		return
	}
	off := there.Sub(before.Add(now().Sub(before) / 2)).Round(time.Millisecond)
	detail := fmt.Sprintf("%v apart from the database's", off.Abs())
	switch {
	case off.Abs() > time.Minute:
		d.say("clock", failed, detail, "set the clocks by NTP: grants and links end by them")
	case off.Abs() > 2*time.Second:
		d.say("clock", warning, detail, "set the clocks by NTP")
	default:
		d.say("clock", healthy, detail, "")
	}
}

// log compares the catalog with what the log has signed.
func (d *doctor) log(ctx context.Context, db *catalog.DB) {
	ring, err := keys.Open(d.cfg.keyFolder(), d.cfg.Passphrase, db, rand.Reader)
	if err != nil {
		d.report("log", err, "")
		return
	}
	settings, err := d.cfg.Log.open(ctx, now())
	if err == nil {
		err = vault.CheckSigned(ctx, vault.RecoverConfig{
			Catalog: db, Keys: ring, Log: settings, Logger: slog.New(slog.DiscardHandler), Now: now, Random: rand.Reader,
		})
	}
	d.report("log", err, "the catalog holds all that was signed")
}
