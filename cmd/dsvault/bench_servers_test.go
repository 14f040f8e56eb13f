//go:build peers && linux

package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"filippo.io/age"
	"github.com/minio/minio-go/v7"

	"dsvault/storage/storagetest"
	"dsvault/vault/client"
	"dsvault/vault/wire"
)

// asServer makes the test binary one of the servers that dsvault is compared
// with: proxy, or reencrypt.
const asServer = "DSVAULT_PEERS_AS"

func init() {
	kind := os.Getenv(asServer)
	if kind == "" {
		return
	}
	target, err := url.Parse(os.Args[1])
	if err != nil {
		panic(err)
	}
	var h http.Handler = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is in the signature
	}}
	if kind == "reencrypt" {
		h = reencrypt(os.Args[2])
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	panic(http.Serve(l, h))
}

// reencrypt answers with what the URL in the query gives, decrypted with the
// identity in a file and encrypted to it anew.
func reencrypt(file string) http.Handler {
	f, err := os.Open(file)
	if err != nil {
		panic(err)
	}
	ids, err := age.ParseIdentities(f)
	if err != nil {
		panic(err)
	}
	to := ids[0].(*age.HybridIdentity).Recipient()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := http.Get(r.URL.Query().Get("of"))
		if err != nil {
			panic(err)
		}
		defer resp.Body.Close()
		plain, err := age.Decrypt(resp.Body, ids...)
		if err != nil {
			panic(err)
		}
		w.Header().Set("Content-Length", fmt.Sprint(resp.ContentLength)) // headers of one recipient have one size
		sealed, err := age.Encrypt(w, to)
		if err == nil {
			_, err = io.CopyBuffer(struct{ io.Writer }{sealed}, plain, make([]byte, 256<<10))
		}
		if err == nil {
			err = sealed.Close()
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	})
}

// start runs one of these servers, and gives its address and process.
func (p *peers) start(kind string, args ...string) (address string, pid int) {
	p.t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asServer+"="+kind)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	p.must(err)
	p.must(cmd.Start())
	p.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	p.must(err)
	return strings.TrimSpace(line), cmd.Process.Pid
}

// deliver has servers send one large sealed object to a client that throws it
// away, and take one: what counts is the CPU time of the server.
func (p *peers) deliver(round int) {
	ctx := context.Background()
	proxy, proxyPID := p.start("proxy", p.s3.Endpoint)
	again, againPID := p.start("reencrypt", p.s3.Endpoint, p.path("age.key"))
	name := fmt.Sprintf("acme/signs/one-%d", round)
	p.site.ok("cleo", "push", p.path("large.bin"), name, "--shard-size", "2GiB")
	p.must(p.sh(storagetest.Binary(p.t, "age") + ` -r "$RECIPIENT" -o sealed.age large.bin`))
	p.put("sealed.age")
	signed, err := p.plain.PresignedGetObject(ctx, p.s3.Bucket, "sealed.age", time.Hour, nil)
	p.must(err)

	p.measure(deliverSealed, "dsvault", p.site.server.cmd.Process.Pid, func() error {
		p.fetch(p.asCleo(http.MethodGet, "/v1/datasets/"+name+"/shards/0/sealed"))
		return nil
	})
	through := *signed
	through.Host = proxy
	p.measure(deliverSealed, "a reverse proxy", proxyPID, func() error {
		req, err := http.NewRequest(http.MethodGet, through.String(), nil)
		p.must(err)
		req.Host = signed.Host
		p.fetch(req)
		return nil
	})
	p.measure(deliverSealed, "decrypting and encrypting anew", againPID, func() error {
		req, err := http.NewRequest(http.MethodGet, "http://"+again+"/?of="+url.QueryEscape(signed.String()), nil)
		p.must(err)
		p.fetch(req)
		return nil
	})
	by, err := p.client(proxy)
	p.must(err)
	p.measure(takeSealed, "a reverse proxy", proxyPID, func() error {
		_, err := by.FPutObject(ctx, p.s3.Bucket, "by-proxy", p.path("large.bin"), minio.PutObjectOptions{})
		return err
	})
	p.remove("sealed.age")
}

// put stores a file as it is.
func (p *peers) put(name string) {
	p.t.Helper()
	p.try(func() error {
		_, err := p.plain.FPutObject(context.Background(), p.s3.Bucket, name, p.path(name), minio.PutObjectOptions{})
		return err
	})
}

// asCleo makes a request of the vault.
func (p *peers) asCleo(method, path string) *http.Request {
	p.t.Helper()
	home, err := client.OpenHome(p.site.config("cleo"))
	p.must(err)
	login, err := home.Current().Login()
	p.must(err)
	token, err := home.Current().Token()
	p.must(err)
	req, err := http.NewRequest(method, login.URL+path, nil)
	p.must(err)
	req.Header.Set("Authorization", "Bearer "+token.Expose())
	req.Header.Set(wire.HeaderDevice, login.Device.String())
	return req
}

// fetch reads an answer to its end, and gives the time to its first byte.
func (p *peers) fetch(req *http.Request) time.Duration {
	p.t.Helper()
	start := time.Now()
	resp, err := http.DefaultClient.Do(req)
	p.must(err)
	defer resp.Body.Close()
	if resp.StatusCode > 299 {
		answer, _ := io.ReadAll(resp.Body)
		p.t.Fatalf("%s: %s %s", req.URL.Path, resp.Status, answer)
	}
	_, err = io.ReadFull(resp.Body, make([]byte, 1))
	p.must(err)
	first := time.Since(start)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 256<<10))
	if err != nil || n+1 != resp.ContentLength {
		p.t.Fatalf("%d bytes of %d, %v", n+1, resp.ContentLength, err)
	}
	return first
}

const rangeTries = 40

// ranges asks for pieces of one large shard, opened, and for the same pieces of
// a plain object; and counts the requests that one piece costs.
func (p *peers) ranges(round int) {
	ctx := context.Background()
	name := fmt.Sprintf("acme/signs/ranges-%d", round)
	p.site.ok("cleo", "push", p.path("large.bin"), name, "--shard-size", "2GiB")
	p.put("large.bin")
	signed, err := p.plain.PresignedGetObject(ctx, p.s3.Bucket, "large.bin", time.Hour, nil)
	p.must(err)
	for range rangeTries {
		offset, err := rand.Int(rand.Reader, big.NewInt(*peersSize-1<<20))
		p.must(err)
		bytes := fmt.Sprintf("bytes=%d-%d", offset, offset.Int64()+1<<20-1)
		plain, err := http.NewRequest(http.MethodGet, signed.String(), nil)
		p.must(err)
		plain.Header.Set("Range", bytes)
		p.keep(firstByte, "a plain GET of a range", cost{wall: p.fetch(plain)})
		opened := p.asCleo(http.MethodGet, "/v1/datasets/"+name+"/shards/0/open")
		opened.Header.Set("Range", bytes)
		p.keep(firstByte, "dsvault", cost{wall: p.fetch(opened)})
	}
	if round == 0 {
		p.gets = p.countGets()
	}
}

// countGets gives the most requests to storage that any of some ranges takes, on
// a vault of its own whose way to storage is watched.
func (p *peers) countGets() int {
	target, err := url.Parse(p.s3.Endpoint)
	p.must(err)
	var gets atomic.Int64
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	watched := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gets.Add(1)
		forward.ServeHTTP(w, r)
	}))
	defer watched.Close()
	base := p.site
	defer func() { p.site = base }()
	p.site = &site{t: p.t, dir: filepath.Join(base.dir, "watched"), data: filepath.Join(base.dir, "watched", "vault"), env: base.env,
		flags: []string{"--objects", fmt.Sprintf("s3://%s/watched?endpoint=%s&region=%s", p.s3.Bucket, watched.URL, p.s3.Region)}}
	p.must(os.MkdirAll(p.site.dir, 0o700))
	p.site.open()
	p.site.project()
	p.site.ok("cleo", "project", "update", "acme/signs", "--delivery", "opened")
	p.site.ok("cleo", "push", p.path("large.bin"), "acme/signs/ranges", "--shard-size", "2GiB")
	most := int64(0)
	for _, bytes := range []string{"0-0", "-1", "100-70000", "65535-65536", "1000000-", "0-", fmt.Sprint(*peersSize/2, "-", *peersSize/2+5)} {
		gets.Store(0)
		req := p.asCleo(http.MethodGet, "/v1/datasets/acme/signs/ranges/shards/0/open")
		req.Header.Set("Range", "bytes="+bytes)
		p.fetch(req)
		most = max(most, gets.Load())
	}
	p.site.stop()
	return int(most)
}
