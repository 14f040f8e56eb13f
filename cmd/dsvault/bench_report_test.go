//go:build peers && linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"dsvault/storage/storagetest"
)

func wall(c cost) time.Duration   { return c.wall }
func server(c cost) time.Duration { return c.server }

// median is that of all rounds; 0 if it was not measured.
func (p *peers) median(work, name string, of func(cost) time.Duration) time.Duration {
	var all []time.Duration
	for _, c := range p.costs[work+": "+name] {
		all = append(all, of(c))
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// goal is one row of the report: ours against theirs.
type goal struct {
	what, ours, theirs string
	work, against      string // against is the work of theirs, if it is another
	of                 func(cost) time.Duration
	most               float64 // of ours by theirs
	rate               bool    // theirs by ours, and most is the least
}

var goals = []goal{
	{what: "push one file", work: pushLarge, ours: "dsvault", theirs: "minio-go", of: wall, most: 1.25},
	{what: "push one file", work: pushLarge, ours: "dsvault", theirs: "rclone crypt", of: wall, most: 0.8},
	{what: "push one file", work: pushLarge, ours: "dsvault --direct", theirs: "minio-go", of: wall, most: 1.1},
	{what: "push one file", work: pushLarge, ours: "dsvault --direct", theirs: "rclone crypt", of: wall, most: 0.8},
	{what: "pull it", work: pullLarge, ours: "dsvault", theirs: "minio-go", of: wall, most: 1.25},
	{what: "pull it", work: pullLarge, ours: "dsvault", theirs: "rclone crypt", of: wall, most: 1},
	{what: "pull it", work: pullLarge, ours: "dsvault --direct", theirs: "minio-go", of: wall, most: 1.1},
	{what: "pull it", work: pullLarge, ours: "dsvault --direct", theirs: "rclone crypt", of: wall, most: 1},
	{what: "push many files", work: pushSmall, ours: "dsvault", theirs: "tar, age, rclone rcat", of: wall, most: 0.8},
	{what: "push many files", work: pushSmall, ours: "dsvault", theirs: "restic", of: wall, most: 0.5},
	{what: "pull them", work: pullSmall, ours: "dsvault", theirs: "restic", of: wall, most: 0.8},
	{what: "send a sealed shard, per second of the server's CPU", work: deliverSealed, ours: "dsvault", theirs: "decrypting and encrypting anew", of: server, most: 3, rate: true},
	{what: "first byte of a range", work: firstByte, ours: "dsvault", theirs: "a plain GET of a range", of: wall, most: 2},
	{what: "send a sealed shard, CPU of the server", work: deliverSealed, ours: "dsvault", theirs: "a reverse proxy", of: server, most: 1.3},
	{what: "take a sealed shard, CPU of the server", work: pushLarge, ours: "dsvault", theirs: "a reverse proxy", against: takeSealed, of: server, most: 1.3},
}

// rows gives the table, without what was not measured.
func (p *peers) rows() string {
	var b strings.Builder
	b.WriteString("| work | ours | | theirs | | ratio | goal | |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, g := range goals {
		against := g.against
		if against == "" {
			against = g.work
		}
		ours, theirs := p.median(g.work, g.ours, g.of), p.median(against, g.theirs, g.of)
		if ours == 0 || theirs == 0 {
			continue
		}
		ratio, sign := ours.Seconds()/theirs.Seconds(), "≤"
		met := ratio <= g.most
		if g.rate {
			ratio, sign = 1/ratio, "≥"
			met = ratio >= g.most
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %.2f | %s %.2f | %s |\n", g.what, g.ours, seconds(ours), g.theirs, seconds(theirs),
			ratio, sign, g.most, map[bool]string{true: "met", false: "**not met**"}[met])
	}
	if p.gets > 0 {
		fmt.Fprintf(&b, "| requests to storage for any range | dsvault | %d | | | | ≤ 3 | %s |\n", p.gets, map[bool]string{true: "met", false: "**not met**"}[p.gets <= 3])
	}
	return b.String()
}

func seconds(d time.Duration) string {
	if d < 100*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// machine says what it was measured on, and with.
func (p *peers) machine() string {
	version := func(program string, args ...string) string {
		out, err := exec.Command(storagetest.Binary(p.t, program), args...).CombinedOutput()
		p.must(err)
		line, _, _ := strings.Cut(string(out), "\n")
		return strings.Join(strings.Fields(line)[:min(3, len(strings.Fields(line)))], " ")
	}
	return fmt.Sprintf("%d CPUs, %s/%s, %s; medians of %d rounds. %d MiB in one file; %d files of %d bytes.\nS3 server: %s. %s, %s, age %s.\n",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), p.rounds, *peersSize>>20, *peersFiles, smallFile,
		*peersServer, version("rclone", "version"), version("restic", "version"), version("age", "--version"))
}

const (
	reportBegin = "<!-- make bench-peers -->\n"
	reportEnd   = "<!-- end -->"
)

// report prints the table and puts it into the file.
func (p *peers) report() {
	text := p.machine() + "\n" + p.rows()
	p.t.Log("\n" + text)
	if *peersReport == "" {
		return
	}
	replaceReport(p.t, *peersReport, reportBegin, text)
}

// replaceReport puts a text into a file, between begin and the next end.
func replaceReport(t *testing.T, file, begin, text string) {
	t.Helper()
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(old), begin)
	_, after, ok2 := strings.Cut(rest, reportEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table", file)
	}
	if err := os.WriteFile(file, []byte(before+begin+text+reportEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
