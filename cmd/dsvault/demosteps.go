package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/pack"
	"dsvault/vault/wire"
)

const demoDataset = "acme/signs/batch-1"

// plan chooses a shard size that gives a few shards.
func plan(ctx context.Context, source string) (scene, error) {
	whole, err := pack.NewPlan(ctx, source, pack.Options{})
	if err != nil {
		return scene{}, err
	}
	limit := min(max(whole.TotalSize()/4, pack.MinShardSize), pack.DefaultShardSize)
	cut, err := pack.NewPlan(ctx, source, pack.Options{ShardSize: limit})
	if err != nil {
		return scene{}, err
	}
	return scene{shardSize: fmt.Sprint(limit), shards: cut.Shards(), folder: cut.Packing() == dataset.PackTar}, nil
}

// play runs the steps, each of which stops the demo when it does not come out
// as it has to.
func (d *demo) play(ctx context.Context) error {
	for _, act := range []func(context.Context) error{
		d.people, d.upload, d.labeler, d.contractor, d.revoked, d.storage, d.log,
	} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// run does several commands of one person that have to succeed.
func (d *demo) run(ctx context.Context, who string, commands ...[]string) error {
	for _, args := range commands {
		if _, err := d.do(ctx, who, "", exitOK, args...); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) login(ctx context.Context, who string) error {
	_, err := d.do(ctx, who, d.tokens[who]+"\n", exitOK, "login", d.server, "--device", who+"-laptop")
	return err
}

func (d *demo) people(ctx context.Context) error {
	d.say("Ada, the admin, logs in with the first token and prepares a project")
	if err := d.login(ctx, "ada"); err != nil {
		return err
	}
	err := d.run(ctx, "ada",
		[]string{"client", "create", "acme"},
		[]string{"agreement", "publish", "nda", filepath.Join(d.dir, "sample", "nda.txt")},
		[]string{"project", "create", "acme/signs", "--purpose", "labeling"},
	)
	if err != nil {
		return err
	}
	d.say("She invites Cleo (the client), Lee (a labeler), Kim (a contractor) and Ann (an auditor)")
	for _, p := range []struct{ handle, name string }{{"cleo", "Cleo Client"}, {"lee", "Lee Labeler"}, {"kim", "Kim Contractor"}, {"ann", "Ann Auditor"}} {
		out, err := d.do(ctx, "ada", "", exitOK, "person", "invite", p.handle, "--name", p.name, "--email", p.handle+"@example.org")
		if err != nil {
			return err
		}
		d.tokens[p.handle] = lastLine(out)
	}
	err = d.run(ctx, "ada",
		[]string{"grant", "client", "cleo", "acme"},
		[]string{"grant", "labeler", "lee", "acme/signs", "--until", "90d"},
		[]string{"grant", "contractor", "kim", "acme/signs", "--until", "30d", "--reason", "contract 17"},
		[]string{"grant", "auditor", "ann", "/"},
	)
	if err != nil {
		return err
	}
	d.say("Each logs in with the token that they got; a device key is made on their machine")
	for _, who := range []string{"cleo", "lee", "kim", "ann"} {
		if err := d.login(ctx, who); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) upload(ctx context.Context) error {
	d.say("Cleo pushes the data; it is sealed before it leaves her machine")
	push := []string{"push", d.source, demoDataset, "--shard-size", d.rules.shardSize}
	if err := d.run(ctx, "cleo", push); err != nil {
		return err
	}
	d.say("Again: nothing is missing, so nothing is sent")
	if err := d.run(ctx, "cleo", push); err != nil {
		return err
	}
	d.say("Ada assigns the shards")
	return d.run(ctx, "ada",
		[]string{"assign", demoDataset, "lee", "--shards", d.rules.lee(), "--until", "14d"},
		[]string{"assign", demoDataset, "kim", "--shards", d.rules.kim(), "--until", "14d"},
		[]string{"assignments", demoDataset},
	)
}

func (d *demo) labeler(ctx context.Context) error {
	d.say("Lee fetches exactly what was assigned")
	if err := d.run(ctx, "lee", []string{"ls"}, []string{"pull", demoDataset, "-o", d.out("lee")}); err != nil {
		return err
	}
	return d.compare("lee")
}

// compare checks that what a person has is what the client gave.
func (d *demo) compare(who string) error {
	source := make(map[string][32]byte)
	err := everyFile(d.source, func(path, rel string) error {
		sum, err := hashFile(path)
		source[rel] = sum
		return err
	})
	n := 0
	if err == nil {
		err = everyFile(d.out(who), func(path, rel string) error {
			sum, err := hashFile(path)
			if err != nil {
				return err
			}
			n++
			return d.expect(sum == source[rel], "%s of %s differs from the original", rel, who)
		})
	}
	if err != nil {
		return err
	}
	if err := d.expect(n > 0, "%s got no files", who); err != nil {
		return err
	}
	return d.check(fmt.Sprintf("%s has %s, the same as the original, byte for byte", who, plural(n, "file", "files")))
}

func hashFile(path string) (sum [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [32]byte(h.Sum(nil)), err
}

func (d *demo) contractor(ctx context.Context) error {
	shard := demoDataset + "/" + d.rules.kim()
	pull := []string{"pull", demoDataset, "-o", d.out("kim"), "--shard", d.rules.kim()}
	d.say("Kim, the contractor, has an assignment too, but has not signed the agreement")
	if _, err := d.do(ctx, "kim", "", exitForbidden, pull...); err != nil {
		return err
	}
	if _, err := d.do(ctx, "ada", "", exitFailed, "can", "kim", "read", shard); err != nil {
		return err
	}
	d.say("Kim signs, and may read")
	if err := d.run(ctx, "kim", []string{"agreement", "sign", "nda", "--until", "1y", "--yes"}, pull); err != nil {
		return err
	}
	if d.rules.folder {
		return d.compare("kim")
	}
	return nil
}

func (d *demo) revoked(ctx context.Context) error {
	d.say("Ada takes Lee's role back; from then on no read starts")
	if err := d.run(ctx, "ada", []string{"revoke", "labeler", "lee", "acme/signs"}); err != nil {
		return err
	}
	_, err := d.do(ctx, "lee", "", exitForbidden, "pull", demoDataset, "-o", d.out("lee-again"), "--shard", "0")
	return err
}

// scanLimit bounds how much of the stored objects is searched for plaintext.
const scanLimit = 256 << 20

func (d *demo) storage(ctx context.Context) error {
	d.say("What lies in storage is age ciphertext")
	var objects []string
	err := everyFile(filepath.Join(d.vault(), "objects"), func(path, rel string) error {
		if filepath.Ext(path) == ".age" {
			objects = append(objects, path)
		}
		return ctx.Err()
	})
	if err != nil {
		return fault.Wrap(fault.Internal, "dsvault.demo", "cannot read the objects", err)
	}
	if err := d.expect(len(objects) == 2*d.rules.shards, "there are %d objects for %d shards and their lists", len(objects), d.rules.shards); err != nil {
		return err
	}
	samples, err := snippets(d.source)
	if err != nil {
		return err
	}
	const magic = "age-encryption.org/v1\n"
	scanned := int64(0)
	for _, path := range objects {
		data, err := readUpTo(path, scanLimit-scanned)
		if err != nil {
			return err
		}
		if scanned += int64(len(data)); len(data) > 0 {
			if err := d.expect(bytes.HasPrefix(data, []byte(magic)), "%s is not an age file", path); err != nil {
				return err
			}
		}
		for _, s := range samples {
			if err := d.expect(!bytes.Contains(data, s), "%s holds plaintext", path); err != nil {
				return err
			}
		}
	}
	err = d.report(step{As: "operator", Command: "head -n 1 " + quote(objects[:1]), Stdout: magic})
	if err != nil {
		return err
	}
	return d.check(fmt.Sprintf("%s of %s begin so, and nothing of the %s looked for is in them",
		plural(len(objects), "object", "objects"), size(scanned), plural(len(samples), "piece of plaintext", "pieces of plaintext")))
}

func readUpTo(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

const maxSnippets = 50

// snippets takes a few bytes from the middle of up to fifty files.
func snippets(source string) ([][]byte, error) {
	var out [][]byte
	err := everyFile(source, func(path, _ string) error {
		if len(out) == maxSnippets {
			return fs.SkipAll
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		piece := make([]byte, 32)
		n, _ := f.ReadAt(piece, max(0, info.Size()/2-16))
		if n >= 16 {
			out = append(out, piece[:n])
		}
		return nil
	})
	return out, err
}

func (d *demo) log(ctx context.Context) error {
	d.say("Cleo looks at what happened to her data, and verifies it with the key from her first login")
	if err := d.run(ctx, "cleo", []string{"log", "acme", "--verify"}); err != nil {
		return err
	}
	d.say("Ann, the auditor, verifies the whole log; what she may see of it is not data")
	if err := d.run(ctx, "ann", []string{"log", "--actor", "kim", "--verify"}); err != nil {
		return err
	}
	s, err := d.session("ann")
	if err != nil {
		return err
	}
	count := map[string]int{}
	pin := s.login.Pin()
	_, err = s.VerifyLog(ctx, dataset.Root, pin, client.VerifyOptions{Each: func(r wire.Record) error {
		count[r.Actor+" "+r.Kind]++
		return nil
	}})
	if err != nil {
		return err
	}
	for _, want := range []string{"lee read", "kim read", "kim refused", "lee refused", "kim agreement-sign", "ada revoke"} {
		if err := d.expect(count[want] > 0, "the log has no record of %q", want); err != nil {
			return err
		}
	}
	return d.check(fmt.Sprintf("the log has each read (lee %d, kim %d) and each refusal (lee %d, kim %d)",
		count["lee read"], count["kim read"], count["lee refused"], count["kim refused"]))
}
