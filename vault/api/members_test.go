package api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvault/vault/api"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
	"dsvault/vault/wire"
)

const memberRoute = dataRoute + "/shards/:n/members/*"

// oddNames are names of files that URLs, headers and browsers have trouble with.
var oddNames = []string{"clip.mp4", "a/b/c.txt", "with space+plus.txt", "100%.txt", "%2e%2e", "q?x=1&y#z.txt", "ünï.png", "日本/語.txt",
	"a;b=c", "members/x", "shards/0/open", "semi\u202ecolon.txt", strings.Repeat("long/", 800) + "x", "empty"}

// members makes a dataset whose one shard has these members with noise between
// them, and gives where each lies in it.
func (w *world) members(ds string, names ...string) (base string, plain []byte, where map[string][2]int) {
	w.t.Helper()
	base = "/v1/datasets/acme/signs/" + ds
	plain, where = noise(300_000), map[string][2]int{}
	d := call[wire.Dataset](w, "carol", "PUT", base, nil)
	x := dataset.Index{Size: int64(len(plain))}
	at := 777
	for i, name := range names {
		size := 1 + i*1000
		switch name {
		case "clip.mp4":
			size = 150_000
		case "empty":
			size = 0
		}
		sum := sha256.Sum256(plain[at : at+size])
		m := dataset.Member{Name: name, Offset: int64(at), Size: int64(size), SHA256: sum[:]}
		if strings.HasSuffix(name, ".mp4") {
			m.Type = "video/mp4"
		}
		x.Members = append(x.Members, m)
		where[name] = [2]int{at, at + size}
		at += size + 512
	}
	to := must(seal.ParseRecipient(d.Recipient))(w.t)
	sum := sha256.Sum256(plain)
	manifest := must(json.Marshal(dataset.Manifest{Version: 1, Packing: dataset.PackTar, Name: "m-000000.tar", Size: int64(len(plain)), SHA256: sum[:], Files: len(names)}))(w.t)
	sealed := must(seal.SealBytes(plain, to))(w.t)
	index := must(seal.SealBytes(must(x.Encode())(w.t), to))(w.t)
	push := call[wire.Push](w, "carol", "POST", base+"/pushes", nil)
	up := call[wire.Upload](w, "carol", "POST", base+"/shards/0/uploads", wire.NewUpload{Fingerprint: sum[:], Size: int64(len(plain)), Push: push.Push})
	call[wire.Stored](w, "carol", "PUT", base+"/uploads/"+up.Attempt.String(), bytes.NewReader(sealed))
	call[wire.Stored](w, "carol", "PUT", base+"/uploads/"+up.Attempt.String()+"/index", bytes.NewReader(index))
	sealedSum, indexSum := sha256.Sum256(sealed), sha256.Sum256(index)
	call[wire.Shard](w, "carol", "POST", base+"/uploads/"+up.Attempt.String()+"/commit",
		wire.Commit{SHA256: sealedSum[:], Manifest: must(seal.SealBytes(manifest, to))(w.t), Index: indexSum[:]})
	call[wire.Dataset](w, "carol", "POST", base+"/complete", wire.Complete{Shards: dataset.FirstShards(1), Push: push.Push})
	call[wire.Entry](w, "carol", "PATCH", "/v1/projects/acme/signs", wire.ProjectUpdate{Delivery: &[]dataset.Delivery{dataset.Opened}})
	call[wire.Assignment](w, "root", "POST", "/v1/assignments",
		wire.Assignment{Dataset: d.Scope, Person: "lena", Shards: dataset.ShardSet{{First: 0, Last: 0}}})
	return base + "/shards/0/members/", plain, where
}

func TestMembers(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(10)
	base, plain, where := w.members("many", oddNames...)
	etags := map[string]bool{}
	for _, name := range oddNames {
		want := plain[where[name][0]:where[name][1]]
		// As browsers, curl and the strictest of clients write it.
		for _, path := range []string{(&url.URL{Path: name}).EscapedPath(), strings.ReplaceAll(url.PathEscape(name), "%2F", "/"), url.PathEscape(name)} {
			a := w.send("lena", "GET", base+path, nil)
			if a.status != 200 || !bytes.Equal(a.body, want) || a.header.Get("Content-Length") != fmt.Sprint(len(want)) {
				t.Errorf("%.60q as %.60s: %d %v, %d bytes", name, path, a.status, a.header, len(a.body))
				break
			}
			etags[a.header.Get("ETag")] = true
		}
		head := w.send("lena", "HEAD", base+url.PathEscape(name), nil)
		if head.status != 200 || head.header.Get("Content-Length") != fmt.Sprint(len(want)) || !etags[head.header.Get("ETag")] {
			t.Errorf("HEAD of %.60q: %d %v", name, head.status, head.header)
		}
	}
	if len(etags) != len(oddNames) {
		t.Errorf("%d members have %d ETags", len(oddNames), len(etags))
	}
	clip := plain[where["clip.mp4"][0]:where["clip.mp4"][1]]
	for header, status := range map[string]int{"bytes=0-9": 206, "bytes=65000-66000": 206, "bytes=-10": 206, "bytes=149999-": 206,
		"bytes=150000-": 416, "bytes=0-0,70000-70009,-1": 206, "bytes=0-999999": 206} {
		a := w.send("lena", "GET", base+"clip.mp4", nil, "Range", header)
		if a.status != status {
			t.Errorf("%s: %d", header, a.status)
		}
		if status == 206 && !strings.Contains(header, ",") && !bytes.Contains(clip, a.body) {
			t.Errorf("%s: bytes of something else", header)
		}
	}
	if a := w.send("lena", "GET", base+"clip.mp4", nil); a.header.Get("Content-Type") != "video/mp4" || a.header.Get("Content-Disposition") != `inline; filename="clip.mp4"` {
		t.Errorf("%v", a.header)
	}
	for path, status := range map[string]int{"none.txt": 404, "clip.mp4/": 400, "": 400, "a/../clip.mp4": 400, "%2e%2e/clip.mp4": 400, "a//b": 400,
		"%00": 404, "%ff": 400, "a/b": 404, strings.Repeat("x", 4097): 400, strings.Repeat("x", 13_000): 400, "/clip.mp4": 400} {
		a := w.send("lena", "GET", base+path, nil)
		if a.status != status || a.problem(t).Detail == "" {
			t.Errorf("%.60s: %d %s", path, a.status, a.body)
		}
	}
	// A path is encoded only where members are named.
	for _, path := range []string{"/v1/datasets/%61cme/signs/many/shards/0/members/clip.mp4", strings.Replace(base, "/0/", "/%30/", 1) + "clip.mp4"} {
		if a := w.send("lena", "GET", path, nil); a.status != 400 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if text := w.logs.String(); strings.Contains(text, "clip.mp4") || !strings.Contains(text, memberRoute) {
		t.Error("the server's log has the name of a member, or not its route")
	}
}

// A member is looked up once, under a permit; then each request is one read.
func TestMembersAreRecorded(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(10)
	base, _, where := w.members("many", "a.txt", "clip.mp4")
	for range 3 {
		w.send("lena", "GET", base+"clip.mp4", nil, "Range", "bytes=100-199")
	}
	w.send("lena", "GET", base+"none", nil)
	var reads []map[string]string
	page := call[wire.Page[wire.Record]](w, "root", "GET", "/v1/log?under=acme/signs/many&actor=lena", nil)
	for _, r := range page.Items {
		if r.Kind == "read" {
			reads = append(reads, r.Detail)
			if name := "clip.mp4"; r.Detail["content"] == "" && !bytes.Contains(r.Personal, []byte(name)) || bytes.Contains(r.Leaf, []byte(name)) {
				t.Errorf("the member's name is missing in the sealed details, or is in the leaf: %s", r.Personal)
			}
		}
	}
	if len(reads) != 5 || reads[0]["content"] != "index" || reads[0]["max-bytes"] != "0" || reads[4]["content"] != "index" {
		t.Fatalf("%v", reads)
	}
	for _, r := range reads[1:4] {
		if r["delivery"] != "opened" || r["range-start"] != fmt.Sprint(where["clip.mp4"][0]+100) || r["range-length"] != "100" || r["max-bytes"] != "100" {
			t.Errorf("%v", r)
		}
	}
	// A shard that is uploaded without a list of its files has no members.
	plain := noise(1000)
	d := call[wire.Dataset](w, "carol", "PUT", "/v1/datasets/acme/signs/bare", nil)
	sealed, manifest := sealedShard(t, d.Recipient, 0, plain)
	sum, sealedSum := sha256.Sum256(plain), sha256.Sum256(sealed)
	push := call[wire.Push](w, "carol", "POST", "/v1/datasets/acme/signs/bare/pushes", nil)
	up := call[wire.Upload](w, "carol", "POST", "/v1/datasets/acme/signs/bare/shards/0/uploads", wire.NewUpload{Fingerprint: sum[:], Size: 1000, Push: push.Push})
	call[wire.Stored](w, "carol", "PUT", "/v1/datasets/acme/signs/bare/uploads/"+up.Attempt.String(), bytes.NewReader(sealed))
	call[wire.Shard](w, "carol", "POST", "/v1/datasets/acme/signs/bare/uploads/"+up.Attempt.String()+"/commit", wire.Commit{SHA256: sealedSum[:], Manifest: manifest})
	path := "/v1/datasets/acme/signs/bare/shards/0/members/a.jsonl"
	if a := w.send("carol", "GET", path, nil); a.status != 409 || a.problem(t).Code != fault.Conflict {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := w.send("lena", "GET", path, nil); a.status == 409 || a.status < 400 {
		t.Errorf("who may not read learns of it: %d %s", a.status, a.body)
	}
}

func TestMemberLinks(t *testing.T) {
	w := newWorld(t, api.Options{})
	w.populate(10)
	_, plain, where := w.members("many", "a.txt", "dir/the clip.mp4")
	want := plain[where["dir/the clip.mp4"][0]:where["dir/the clip.mp4"][1]]
	l := call[wire.Link](w, "lena", "POST", "/v1/links", wire.NewLink{Shard: "acme/signs/many/0", Member: "dir/the clip.mp4"})
	if page := call[wire.Page[wire.Link]](w, "lena", "GET", "/v1/links", nil); len(page.Items) != 1 || page.Items[0].Member != "dir/the clip.mp4" {
		t.Errorf("%+v", page)
	}
	a := w.send("", "GET", wire.LinkPath+l.Secret, nil)
	if a.status != 200 || !bytes.Equal(a.body, want) || a.header.Get("Content-Disposition") != `inline; filename="the clip.mp4"` {
		t.Errorf("%d %v", a.status, a.header)
	}
	for _, bad := range []string{"none", "../x", "dir", "dir/"} {
		if a := w.send("lena", "POST", "/v1/links", wire.NewLink{Shard: "acme/signs/many/0", Member: bad}); a.status != 404 && a.status != 400 {
			t.Errorf("%s: %d", bad, a.status)
		}
	}
	t.Run("curl", func(t *testing.T) {
		dir := t.TempDir()
		code, msg := command(t, "curl", "-sSf", "--noproxy", "*", "-OJ", "--output-dir", dir, w.server.URL+wire.LinkPath+l.Secret)
		if got, err := os.ReadFile(filepath.Join(dir, "the clip.mp4")); code != 0 || err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d %s: %v, %d bytes", code, msg, err, len(got))
		}
	})
	if a := w.send("", "GET", wire.LinkPath+l.Secret, nil, "Range", "bytes=5-9"); a.status != http.StatusPartialContent || !bytes.Equal(a.body, want[5:10]) {
		t.Errorf("%d %v", a.status, a.header)
	}
}
