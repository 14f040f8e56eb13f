package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"dsvault/vault/client"
	"dsvault/vault/dataset"
)

func (a *app) pushCmd() *cobra.Command {
	var shardSize string
	var opts client.PushOptions
	cmd := &cobra.Command{
		Use:   "push PATH CLIENT/PROJECT/DATASET",
		Short: "Upload a folder or a file as a dataset, sealed on this machine",
		Long: `Uploads a folder, as tar shards of whole samples (the files of one name up to
the first dot), or a file, which stays one shard or is cut at --shard-size. A
folder of numbered shards (tar, zip, jsonl.gz, parquet ...) is taken as it is,
one file a shard; a JSONL, CSV or Parquet file is cut between records. The
dataset is created if need be. Everything is encrypted to its key before it
leaves this machine.

Run the same command again after an interruption: it sends only the shards
that are missing. With changed files it makes the next version of the dataset, of
which it sends only the shards that are new; assignments stay on the shards that
they were made on. A folder is cut where the version before was cut, and more
where a shard would be too large. Of two pushes to one dataset the one that began
last goes on.`,
		Example: `  dsvault push ./photos acme/signs/batch-1
  dsvault push video.mp4 acme/signs/video --shard-size 64MiB
  dsvault push texts.jsonl acme/signs/texts --records 500`,
		Args: args(2, 2),
	}
	f := cmd.Flags()
	f.StringVar(&shardSize, "shard-size", "256MiB", "most bytes of a shard before sealing")
	f.StringVar(&opts.Format, "format", "", "tar, shards (a folder's files as they are), jsonl, csv, parquet or file; by looking if left out")
	f.IntVar(&opts.Records, "records", 0, "most samples, lines, records or rows of a shard")
	f.StringVar(&opts.Field, "shards-by-field", "", "one shard for each value of this field of a JSONL or CSV file")
	f.IntVar(&opts.Parallel, "parallel", 2, "shards at a time; each takes about 2 MiB of memory, and 1 KiB for each file in it")
	f.BoolVar(&opts.Recut, "recut", false, "cut a folder anew, not where the version before was cut")
	f.BoolVar(&opts.Direct, "direct", false, "put what is sealed straight into the vault's S3 storage; each shard on its way takes 32 MiB of memory, and 32 MiB beside")
	f.BoolVar(&opts.SkipSpecial, "skip-special", false, "leave out links, devices, sockets and FIFOs instead of failing")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		scope, err := datasetArg(args[1])
		if err != nil {
			return err
		}
		if opts.ShardSize, err = parseSize(shardSize); err != nil {
			return err
		}
		s, err := a.connect()
		if err != nil {
			return err
		}
		bar := a.progress("push")
		opts.Progress = bar
		opts.Skipped = func(path, why string) {
			if !a.json {
				fmt.Fprintf(a.err, "skipped %s: %s\n", clean(path), clean(why))
			}
		}
		out, err := s.Push(cmd.Context(), args[0], scope, opts)
		bar.finish()
		if err != nil {
			return err
		}
		if !out.Changed {
			return a.result(out, "%s is complete and unchanged: nothing to send", scope)
		}
		version := ""
		if out.Dataset.Version > 1 {
			version = fmt.Sprintf(", version %d", out.Dataset.Version)
		}
		return a.result(out, "pushed %s%s: sent %s of %d, %s; %s", scope, version,
			plural(out.Sent, "shard", "shards"), out.Shards, size(out.Bytes), plural(out.Files, "file", "files"))
	}
	return cmd
}

func (a *app) pullCmd() *cobra.Command {
	var opts client.PullOptions
	var shard int
	cmd := &cobra.Command{
		Use:   "pull CLIENT/PROJECT/DATASET",
		Short: "Fetch what you may read of a dataset, checked and unpacked",
		Long: `Fetches the shards that are assigned to you, or the newest version of what you
may read, sealed to this machine's device key. They are opened here and checked against their
manifests; nothing gets its final name before that. Every shard fetched is a
read in the log.

The log's receipt for each read is kept too, beside the folder of the data:
receipts for DIR are in DIR.receipts. ` + "`dsvault verify`" + ` checks them.

--sealed keeps the shards as DATASET-0003.age instead; age -d -i device.key
opens them.`,
		Example: `  dsvault pull acme/signs/batch-1
  dsvault pull acme/signs/batch-1 -o work --shard 3
  dsvault pull acme/signs/batch-1 -o sealed --sealed`,
		Args: args(1, 1),
	}
	f := cmd.Flags()
	f.StringVarP(&opts.Dir, "output", "o", ".", "folder to put the files in")
	f.IntVar(&shard, "shard", 0, "only this shard")
	f.IntVar(&opts.Version, "version", 0, "this version; the newest if left out")
	f.BoolVar(&opts.Sealed, "sealed", false, "keep the shards sealed")
	f.BoolVar(&opts.Overwrite, "overwrite", false, "replace files that differ")
	f.StringVar(&opts.Purpose, "purpose", "", "what the data is for, where a project has several purposes")
	f.IntVar(&opts.Parallel, "parallel", 2, "shards at a time")
	f.StringVar(&opts.Receipts, "receipts", "", `folder to keep the log's receipts in; none keeps none (default: beside the output folder, with ".receipts" to its name)`)
	f.BoolVar(&opts.Direct, "direct", false, "fetch what is sealed straight from the vault's S3 storage, where the project allows it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		scope, err := datasetArg(args[0])
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("shard") {
			if shard < 0 || shard >= dataset.MaxShards {
				return usage("bad shard number", "shard numbers are 0 to 999999")
			}
			opts.Shard = &shard
		}
		if err := checkVersion(opts.Version); err != nil {
			return err
		}
		s, err := a.connect()
		if err != nil {
			return err
		}
		opts.Pin = s.login.Pin()
		bar := a.progress("pull")
		opts.Progress = bar
		out, err := s.Pull(cmd.Context(), scope, opts)
		bar.finish()
		if err != nil {
			return err
		}
		if a.json {
			return writeJSON(a.out, out)
		}
		if out.Missing > 0 {
			fmt.Fprintf(a.err, "the file is not whole yet: it needs %s more\n", plural(out.Missing, "part", "parts"))
		}
		return a.result(out, "pulled %s of %s: %s, %s in %s", plural(len(out.Shards), "shard", "shards"), scope,
			plural(out.Files, "file", "files"), size(out.Bytes), out.Dir)
	}
	return cmd
}

func checkVersion(n int) error {
	if n < 0 || n > dataset.MaxVersions {
		return usage("bad version", "versions count from 1; `dsvault ls DATASET` shows them")
	}
	return nil
}
