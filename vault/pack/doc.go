// Package pack turns a folder or a file into shards, and shards back into
// files, on the machine of the person who owns or reads the data.
//
// A folder becomes tar shards of whole samples, in the WebDataset convention:
// the files that have one name up to the first dot lie together and are never
// cut. Shards are filled in order up to the shard size; each also holds the
// folders of its files. A folder of numbered shards is taken as it is. A file
// stays one shard, or is cut: JSONL, CSV and Parquet between records into slices that
// are files of their own, each with a part of the file or the records of one
// value, anything else into parts of the shard size. The same
// input gives the same bytes.
//
// Unpacking trusts nothing but the manifest: all bytes are checked against its
// size and hash before anything appears under its final name.
package pack
