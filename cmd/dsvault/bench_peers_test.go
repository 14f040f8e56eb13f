//go:build peers && linux

package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"dsvault/storage/storagetest"
)

var (
	peersReport = flag.String("peers-report", "", "put the figures into this file, between its markers")
	peersRounds = flag.Int("peers-rounds", 5, "how often everything is measured; the medians count")
	peersLimit  = flag.Duration("peers-limit", 13*time.Minute, "begin no round that would end after this")
	peersOnly   = flag.String("peers-only", "", "measure only the works that this pattern matches")
	peersServer = flag.String("peers-s3", "minio", "the S3 server: minio or versitygw")
	peersSize   = flag.Int64("peers-size", 1<<30, "bytes of the large file")
	peersFiles  = flag.Int("peers-files", 20_000, "how many small files")
	peersCPU    = flag.String("peers-profile", "", "put CPU profiles of every dsvault process into this folder")
)

// profileTo is peersCPU for the processes that the test starts.
const profileTo = "DSVAULT_TEST_PROFILE"

// This file's init comes before that of harness_test.go, which does the same
// without a profile.
func init() {
	folder := os.Getenv(profileTo)
	if os.Getenv(asProgram) != "1" || folder == "" {
		return
	}
	f, err := os.Create(filepath.Join(folder, fmt.Sprintf("%s-%d.pprof", os.Args[1], os.Getpid())))
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		panic(err)
	}
	status := dsvault()
	pprof.StopCPUProfile()
	os.Exit(status)
}

const smallFile = 20_000 // bytes

// TestPeers is `make bench-peers`: dsvault and what people would use in its
// place, on one S3 server in memory, one after the other in every round.
func TestPeers(t *testing.T) {
	p := newPeers(t)
	for start := time.Now(); p.rounds < *peersRounds; {
		for _, work := range []struct {
			name string
			do   func(round int)
		}{
			{"large", p.large}, {"small", p.small}, {"deliver", p.deliver}, {"ranges", p.ranges},
		} {
			if ok, err := regexp.MatchString(*peersOnly, work.name); err != nil || !ok {
				continue
			}
			work.do(p.rounds)
			p.empty()
		}
		p.rounds++
		if each := time.Since(start) / time.Duration(p.rounds); time.Since(start)+each > *peersLimit {
			break
		}
	}
	p.report()
}

// peers is one run of the comparison.
type peers struct {
	t      *testing.T
	dir    string // on a memory file system
	s3     storagetest.S3Server
	store  int // its process
	plain  *minio.Client
	site   *site
	env    []string // of the peers
	costs  map[string][]cost
	rounds int
	gets   int // requests to storage for one range, at the most
}

// cost is what one run of one thing took.
type cost struct {
	wall   time.Duration
	server time.Duration // CPU time of the server in the middle, where there is one
	all    time.Duration // CPU time of every process that has to do with it
}

func newPeers(t *testing.T) *peers {
	const shm, prefix = "/dev/shm", "dsvault-peers-"
	old, _ := filepath.Glob(filepath.Join(shm, prefix+"*"))
	for _, path := range old { // of runs that were killed
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), prefix), "-")
		if n, err := strconv.Atoi(pid); err == nil && syscall.Kill(n, 0) == syscall.ESRCH {
			os.RemoveAll(path)
		}
	}
	dir, err := os.MkdirTemp(shm, fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	disk := os.TempDir()
	t.Setenv("TMPDIR", dir) // the S3 server's data, too
	p := &peers{t: t, dir: dir, costs: make(map[string][]cost)}
	switch *peersServer {
	case "minio":
		p.s3 = storagetest.MinIO(t)
	case "versitygw":
		p.s3 = storagetest.Versitygw(t)
	default:
		t.Fatalf("no S3 server %q", *peersServer)
	}
	p.store = p.child(*peersServer)
	host := strings.TrimPrefix(p.s3.Endpoint, "http://")
	if p.plain, err = p.client(host); err != nil {
		t.Fatal(err)
	}
	// The catalog is on the disk, and waits for it, as in real life.
	base, err := os.MkdirTemp(disk, "dsvault-peers-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	p.site = &site{t: t, dir: base, data: filepath.Join(base, "vault"),
		env:   []string{"AWS_ACCESS_KEY_ID=" + p.s3.AccessKey, "AWS_SECRET_ACCESS_KEY=" + p.s3.SecretKey},
		flags: []string{"--objects", fmt.Sprintf("s3://%s/vault?endpoint=%s&region=%s", p.s3.Bucket, p.s3.Endpoint, p.s3.Region)},
	}
	if *peersCPU != "" {
		p.site.env = append(p.site.env, profileTo+"="+*peersCPU)
		p.site.clients = []string{profileTo + "=" + *peersCPU}
	}
	p.site.open()
	t.Cleanup(func() { p.site.stop() }) // writes its profile
	p.site.project()
	p.site.ok("cleo", "project", "update", "acme/signs", "--delivery", "direct,opened")
	p.prepare()
	return p
}

func (p *peers) client(host string) (*minio.Client, error) {
	return minio.New(host, &minio.Options{Creds: credentials.NewStaticV4(p.s3.AccessKey, p.s3.SecretKey, ""), Region: p.s3.Region})
}

// prepare makes the data, and sets the peers up.
func (p *peers) prepare() {
	p.must(os.MkdirAll(p.path("many"), 0o700))
	large, err := os.Create(p.path("large.bin"))
	p.must(err)
	_, err = io.CopyN(large, rand.Reader, *peersSize)
	p.must(err)
	p.must(large.Close())
	data := make([]byte, smallFile)
	for i := range *peersFiles {
		rand.Read(data)
		sub := p.path("many", fmt.Sprintf("%03d", i/100))
		if i%100 == 0 {
			p.must(os.Mkdir(sub, 0o700))
		}
		p.must(os.WriteFile(filepath.Join(sub, fmt.Sprintf("image-%05d.jpg", i)), data, 0o600))
	}
	obscured, err := exec.Command(storagetest.Binary(p.t, "rclone"), "obscure", rand.Text()).Output()
	p.must(err)
	p.env = []string{
		"HOME=" + p.dir, "TMPDIR=" + p.dir, "PATH=" + os.Getenv("PATH"), "RCLONE_CONFIG=" + p.path("rclone.conf"),
		"RCLONE_CONFIG_S3_TYPE=s3", "RCLONE_CONFIG_S3_PROVIDER=Other", "RCLONE_CONFIG_S3_ENDPOINT=" + p.s3.Endpoint,
		"RCLONE_CONFIG_S3_ACCESS_KEY_ID=" + p.s3.AccessKey, "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY=" + p.s3.SecretKey,
		"RCLONE_CONFIG_S3_REGION=" + p.s3.Region,
		"RCLONE_CONFIG_CRYPT_TYPE=crypt", "RCLONE_CONFIG_CRYPT_REMOTE=s3:" + p.s3.Bucket + "/crypt",
		"RCLONE_CONFIG_CRYPT_PASSWORD=" + strings.TrimSpace(string(obscured)),
		"AWS_ACCESS_KEY_ID=" + p.s3.AccessKey, "AWS_SECRET_ACCESS_KEY=" + p.s3.SecretKey, "RESTIC_PASSWORD=" + rand.Text(),
	}
	p.must(os.WriteFile(p.path("rclone.conf"), nil, 0o600))
	key, err := exec.Command(storagetest.Binary(p.t, "age-keygen"), "-pq", "-o", p.path("age.key")).CombinedOutput()
	if err != nil {
		p.t.Fatalf("age-keygen: %v %s", err, key)
	}
	recipient, err := exec.Command(storagetest.Binary(p.t, "age-keygen"), "-y", p.path("age.key")).Output()
	p.must(err)
	p.env = append(p.env, "RECIPIENT="+strings.TrimSpace(string(recipient)))
}

func (p *peers) path(elements ...string) string {
	return filepath.Join(append([]string{p.dir}, elements...)...)
}

func (p *peers) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// measure runs one thing, and keeps what it took under work and name. pid is
// the server in the middle, or 0.
func (p *peers) measure(work, name string, pid int, do func() error) {
	p.t.Helper()
	p.warm()
	var before, others time.Duration
	var start time.Time
	p.try(func() error {
		before, others, start = p.cpu(pid), p.others(), time.Now()
		return do()
	})
	c := cost{wall: time.Since(start), server: p.cpu(pid) - before}
	c.all = p.others() - others + c.server
	p.keep(work, name, c)
	p.t.Logf("%-50s %6.2f s, CPU %6.2f s, of it the server %5.2f s", work+": "+name, c.wall.Seconds(), c.all.Seconds(), c.server.Seconds())
}

// warm has the machine hand out memory for as much as any of them writes: on a
// virtual one, who asks first for what was given back waits for the host.
func (p *peers) warm() {
	path := p.path("warm")
	size, block := *peersSize+*peersSize/4, make([]byte, 1<<20)
	f, err := os.Create(path)
	p.must(err)
	for written := int64(0); written < size; written += int64(len(block)) {
		_, err := f.Write(block)
		p.must(err)
	}
	p.must(f.Close())
	p.must(os.Remove(path))
}

func (p *peers) keep(work, name string, c cost) {
	key := work + ": " + name
	p.costs[key] = append(p.costs[key], c)
}

// others is the CPU time of this process, of those that it has waited for, and
// of the S3 server.
func (p *peers) others() time.Duration {
	total := p.cpu(p.store)
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		p.must(syscall.Getrusage(who, &r))
		total += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return total
}

// child finds a process that this one has started.
func (p *peers) child(name string) int {
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	p.must(err)
	for _, path := range all {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		var pid, parent int
		var comm, state string
		if n, _ := fmt.Sscan(string(stat), &pid, &comm, &state, &parent); n == 4 && parent == os.Getpid() && comm == "("+name+")" {
			return pid
		}
	}
	p.t.Fatalf("%s does not run", name)
	return 0
}

// cpu is the CPU time that a process has taken.
func (p *peers) cpu(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	p.must(err)
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	p.must(err1)
	p.must(err2)
	return time.Duration(user+system) * (time.Second / 100) // the kernel's USER_HZ
}

// try does something that may fail on a busy machine, at most three times.
func (p *peers) try(do func() error) {
	p.t.Helper()
	for again := 2; ; again-- {
		err := do()
		if err == nil {
			return
		}
		if again == 0 {
			p.t.Fatal(err)
		}
		p.t.Logf("once more, after %v", err)
	}
}

// sh runs a peer.
func (p *peers) sh(script string) error {
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = p.dir, p.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %v\n%s", script, err, out)
	}
	return nil
}

// empty clears the bucket, but for the name of the vault to which it belongs.
func (p *peers) empty() {
	ctx := context.Background()
	doomed := make(chan minio.ObjectInfo)
	go func() {
		defer close(doomed)
		for o := range p.plain.ListObjects(ctx, p.s3.Bucket, minio.ListObjectsOptions{Recursive: true}) {
			if o.Key != "vault/vault" {
				doomed <- o
			}
		}
	}()
	for e := range p.plain.RemoveObjects(ctx, p.s3.Bucket, doomed, minio.RemoveObjectsOptions{}) {
		p.t.Fatal(e.Err)
	}
	// MinIO keeps what is deleted for minutes, and the memory would be full.
	trash, err := filepath.Glob(p.path("*", "*", "data", ".minio.sys", "tmp", ".trash", "*"))
	p.must(err)
	for _, path := range trash {
		p.must(os.RemoveAll(path))
	}
}
