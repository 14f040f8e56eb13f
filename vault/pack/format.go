package pack

import (
	"fmt"

	"dsvault/vault/fault"
)

// Format says how a folder or a file is cut.
type Format string

const (
	FormatAuto    Format = ""        // by looking
	FormatTar     Format = "tar"     // folder: tar shards of whole samples
	FormatShards  Format = "shards"  // folder: each file is a shard, as it is
	FormatJSONL   Format = "jsonl"   // file: slices of whole lines
	FormatCSV     Format = "csv"     // file: slices of whole records, each with the header
	FormatParquet Format = "parquet" // file: slices of whole row groups
	FormatFile    Format = "file"    // file: one shard, or parts of the shard size
)

func (f Format) known() bool {
	switch f {
	case FormatAuto, FormatTar, FormatShards, FormatJSONL, FormatCSV, FormatParquet, FormatFile:
		return true
	}
	return false
}

func unknownFormat(f Format) error {
	return fault.New(fault.Invalid, "pack.NewPlan", "the format "+quote(string(f))+" is not known").
		WithHint("leave it out, or say tar or shards for a folder, jsonl, csv, parquet or file for a file")
}

func wrongFormat(path string, f Format) error {
	return fault.New(fault.Invalid, "pack.NewPlan", fmt.Sprintf("%s cannot be cut as %s", quote(path), f)).
		WithHint("tar and shards are for folders, the other formats for files; leave it out to choose by looking")
}

func noRecords(path string) error {
	return fault.New(fault.Invalid, "pack.NewPlan", quote(path)+" has no records that shards could be cut by").
		WithHint("cut it by size with --shard-size instead")
}
