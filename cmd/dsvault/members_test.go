package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dsvault/vault/client"
	"dsvault/vault/dataset"
	"dsvault/vault/fault"
	"dsvault/vault/seal"
)

// TestCatTrustsNothing gives the reader lists of members that lie, and ranges
// that are not what was asked for: no such file comes out whole.
func TestCatTrustsNothing(t *testing.T) {
	w := newWorld(t)
	carol, dir := pushed(t, w, 2)
	ref := dataset.ShardRef{Dataset: scope(t, batch)}
	good, err := carol.Index(t.Context(), ref, "")
	if err != nil || len(good.Members) != 1 || good.Members[0].Size != 60_000 {
		t.Fatalf("%+v, %v", good, err)
	}
	me, err := carol.Whoami(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	device, err := seal.ParseRecipient(me.Devices[0].Recipient)
	if err != nil {
		t.Fatal(err)
	}
	member := good.Members[0]
	want, err := os.ReadFile(filepath.Join(dir, member.Name))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if m, err := carol.Cat(t.Context(), ref, member.Name, "", &out); err != nil || !bytes.Equal(out.Bytes(), want) || m.Offset != member.Offset {
		t.Fatalf("%d bytes, %v", out.Len(), err)
	}
	// swap gives an index of its own making instead.
	swap := func(index []byte) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			if !strings.HasSuffix(r.URL.Path, "/index") {
				next.ServeHTTP(rw, r)
				return
			}
			sealed, err := seal.SealBytes(index, device)
			if err != nil {
				t.Error(err)
			}
			rw.Write(sealed)
		}
	}
	encode := func(change func(*dataset.Index)) []byte {
		x := good
		x.Members = append([]dataset.Member{}, good.Members...)
		change(&x)
		data, err := x.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	line := fmt.Sprintf(`{"name":%q,"offset":%d,"size":60000,"sha256":"%s"}`+"\n", member.Name, member.Offset, member.SHA256)
	head := func(members int) string {
		return fmt.Sprintf(`{"version":1,"number":0,"size":%d,"members":%d}`+"\n", good.Size, members)
	}
	wrong := sha256.Sum256([]byte("something else"))
	lies := map[string]func(http.ResponseWriter, *http.Request, http.Handler){
		"another hash":             swap(encode(func(x *dataset.Index) { x.Members[0].SHA256 = wrong[:] })),
		"another offset":           swap(encode(func(x *dataset.Index) { x.Members[0].Offset++ })),
		"another size":             swap(encode(func(x *dataset.Index) { x.Members[0].Size-- })),
		"nothing of something":     swap(encode(func(x *dataset.Index) { x.Members[0].Size = 0 })),
		"another shard":            swap(encode(func(x *dataset.Index) { x.Number = 1 })),
		"a larger shard":           swap(encode(func(x *dataset.Index) { x.Size += 100_000 })),
		"a shard larger by a byte": swap(encode(func(x *dataset.Index) { x.Size++ })),
		"a smaller shard":          swap(encode(func(x *dataset.Index) { x.Size = x.Members[0].Offset + x.Members[0].Size })),
		"overlapping members":      swap([]byte(head(2) + line + strings.Replace(line, member.Name, "x", 1))),
		"one name twice":           swap([]byte(head(2) + line + line)),
		"a member beyond the end":  swap([]byte(head(1) + strings.Replace(line, `"offset":`, `"offset":9`, 1))),
		"a huge count":             swap([]byte(head(1_000_000) + line)),
		"no index":                 swap([]byte("nonsense")),
		"empty":                    swap(nil),
		"not sealed to us":         func(rw http.ResponseWriter, _ *http.Request, _ http.Handler) { rw.Write([]byte("nonsense")) },
		"a flipped bit": func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := record(r, next)
			if r.URL.RawQuery != "" {
				rec.Body.Bytes()[rec.Body.Len()/2] ^= 1
			}
			replay(rw, rec, rec.Body.Bytes())
		},
		"another shard's range": func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.URL.RawQuery != "" {
				r.URL.Path = strings.Replace(r.URL.Path, "/shards/0/", "/shards/1/", 1)
			}
			next.ServeHTTP(rw, r)
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			w.between(lie)
			defer w.between(nil)
			var out bytes.Buffer
			_, err := carol.Cat(t.Context(), ref, member.Name, "", &out)
			wantCode(t, err, fault.Corrupt)
			if out.Len() > 0 {
				t.Errorf("%d bytes came out", out.Len())
			}
		})
	}
}

// TestCatOfLargeMembers: what is larger than the memory that cat takes comes out
// as it arrives, but never whole if it is not what the list says.
func TestCatOfLargeMembers(t *testing.T) {
	w := newWorld(t)
	carol := w.join("carol", dataset.ClientUser, "acme")
	dir := t.TempDir()
	data := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	for name, content := range map[string][]byte{"a": []byte("first"), "large": data, "z": []byte("last")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := carol.Push(t.Context(), dir, scope(t, batch), client.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	ref := dataset.ShardRef{Dataset: scope(t, batch)}
	var out bytes.Buffer
	if _, err := carol.Cat(t.Context(), ref, "large", "", &out); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Fatalf("%d bytes, %v", out.Len(), err)
	}
	ranges := func(change func(r *http.Request)) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.URL.RawQuery != "" {
				change(r)
			}
			next.ServeHTTP(rw, r)
		}
	}
	for name, lie := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){
		"another range":    ranges(func(r *http.Request) { r.URL.RawQuery = "offset=100000&size=3100000" }),
		"a shorter range":  ranges(func(r *http.Request) { r.URL.RawQuery = "offset=0&size=1000" }),
		"a member of less": ranges(func(r *http.Request) { r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "size=3", "size=2", 1) }),
		"a connection that breaks": func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := record(r, next)
			if r.URL.RawQuery == "" {
				replay(rw, rec, rec.Body.Bytes())
				return
			}
			replay(rw, rec, rec.Body.Bytes()[:rec.Body.Len()-1000])
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w.between(lie)
			defer w.between(nil)
			var out bytes.Buffer
			_, err := carol.Cat(t.Context(), ref, "large", "", &out)
			wantCode(t, err, fault.Corrupt)
			if out.Len() >= len(data) {
				t.Errorf("%d bytes came out", out.Len())
			}
		})
	}
}
