package pack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"strings"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// shardKinds are the files that existing shards come in: how their names end,
// and the bytes that they have at an offset.
var shardKinds = []struct {
	ending    string
	magic     string
	at        int
	mediaType string
}{
	{".tar", "ustar", 257, "application/x-tar"},
	{".tar.gz", gzipMagic, 0, "application/gzip"},
	{".tgz", gzipMagic, 0, "application/gzip"},
	{".tar.zst", zstdMagic, 0, "application/zstd"},
	{".zip", "PK", 0, "application/zip"},
	{".jsonl.gz", gzipMagic, 0, "application/gzip"},
	{".ndjson.gz", gzipMagic, 0, "application/gzip"},
	{".csv.gz", gzipMagic, 0, "application/gzip"},
	{".jsonl.zst", zstdMagic, 0, "application/zstd"},
	{".ndjson.zst", zstdMagic, 0, "application/zstd"},
	{".csv.zst", zstdMagic, 0, "application/zstd"},
	{".parquet", "PAR1", 0, "application/vnd.apache.parquet"},
}

const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
)

// numbered is how the names of a shard set end: train-00003, part.7,
// train-00003-of-00042, 000003.
var numbered = regexp.MustCompile(`(^|[^0-9])[0-9]+([-_.]of[-_.][0-9]+)?$`)

// shardEnding gives the kind of a shard's name, or -1.
func shardEnding(name string) int {
	base := strings.ToLower(path.Base(name))
	for i, kind := range shardKinds {
		if stem, ok := strings.CutSuffix(base, kind.ending); ok && stem != "" {
			return i
		}
	}
	return -1
}

// isShardSet reports whether the folder consists of numbered shards and of
// nothing else. It reads their first bytes.
func (p *Plan) isShardSet() (bool, error) {
	for i := range p.members {
		m := &p.members[i]
		kind := shardEnding(m.name)
		if m.dir || kind < 0 {
			return false, nil
		}
		base := path.Base(m.name)
		if !numbered.MatchString(base[:len(base)-len(shardKinds[kind].ending)]) {
			return false, nil
		}
	}
	root, err := os.OpenRoot(p.path)
	if err != nil {
		return false, localFault("pack.NewPlan", "cannot open the folder "+quote(p.path), err)
	}
	defer root.Close()
	for i := range p.members {
		kind := shardKinds[shardEnding(p.members[i].name)]
		ok, err := startsWith(root, p.members[i].name, kind.magic, kind.at)
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// startsWith reports whether a file has magic at an offset.
func startsWith(root *os.Root, name, magic string, at int) (bool, error) {
	f, err := openBelow(root, name, name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	have := make([]byte, len(magic))
	if _, err := f.ReadAt(have, int64(at)); err != nil && !errors.Is(err, io.EOF) {
		return false, localFault("pack.NewPlan", "cannot read "+quote(name), err)
	}
	return bytes.Equal(have, []byte(magic)), nil
}

// cutShards takes each file of the folder as one shard.
func (p *Plan) cutShards() error {
	p.packing = dataset.PackFile
	for i, m := range p.members {
		if m.dir {
			return fault.New(fault.Invalid, "pack.NewPlan", fmt.Sprintf("the folder %s is empty: it cannot be a shard", quote(m.name))).
				WithHint("remove it, or push the whole as --format tar, which keeps empty folders")
		}
		p.add(shard{first: i, end: i + 1, files: 1, size: m.size})
	}
	return p.checkCount()
}
