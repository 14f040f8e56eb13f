package pack

import (
	"context"
	"io"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// maxPartName leaves room for ".part-NNNNNN" in a file's name.
const maxPartName = maxElement - len(".part-000000")

// Limits bound what an archive may make. A zero field means the default.
type Limits struct {
	MaxFiles int   // files and folders of a shard, those above members included
	MaxBytes int64 // plaintext of a shard
	MaxPath  int   // bytes of a member's name
	MaxDepth int   // elements of a member's name
	MaxPAX   int   // bytes of a member's extended header
}

// DefaultLimits are what every shard that NewPlan makes stays below.
func DefaultLimits() Limits {
	return Limits{MaxFiles: 1 << 20, MaxBytes: 1 << 43, MaxPath: 4096, MaxDepth: 64, MaxPAX: 16 << 10}
}

// UnpackOptions says how to unpack.
type UnpackOptions struct {
	Limits    Limits
	Overwrite bool // replace files that differ; without it they are a Conflict
	NoSync    bool // do not wait for the disk: a power failure may leave empty files
}

// UnpackResult says what came out.
type UnpackResult struct {
	Files   int    // regular files of the shard; 1 for a file or a part
	Same    int    // of these, were there already with the same bytes
	Bytes   int64  // content of these files
	Name    string // file or part: what now lies in the folder
	Missing int    // part: how many parts the file still lacks; 0 when it is whole
}

// Unpack reads a shard's plaintext from r and puts its files into dir.
func Unpack(ctx context.Context, dir string, r io.Reader, m dataset.Manifest, opts UnpackOptions) (UnpackResult, error) {
	return UnpackResult{}, fault.New(fault.Internal, "pack.Unpack", "not built yet")
}
