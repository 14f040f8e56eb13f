package pack

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"strings"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// cutFolder lists the folder and decides how it is cut.
func (p *Plan) cutFolder(ctx context.Context, opts Options) error {
	members, folders, err := list(ctx, p.path, opts)
	if err != nil {
		return err
	}
	if len(members) == 0 {
		return fault.New(fault.Invalid, "pack.NewPlan", "the folder "+quote(p.path)+" is empty").
			WithHint("put the files into it first, or name another folder")
	}
	p.members, p.folders = members, folders
	format := opts.Format
	if format == FormatAuto {
		format = FormatTar
		shards, err := p.isShardSet()
		if err != nil {
			return err
		}
		if shards && opts.Records == 0 {
			format = FormatShards
		}
	}
	switch format {
	case FormatTar:
		return p.cutSamples(opts, nil)
	case FormatShards:
		if opts.Records > 0 {
			return noRecords(p.path)
		}
		return p.cutShards()
	default:
		return wrongFormat(p.path, opts.Format)
	}
}

// cutSamples fills tar shards with whole samples, in order. It also cuts before
// the samples that cut, if it is set, says so of.
func (p *Plan) cutSamples(opts Options, cut func(sample string) bool) error {
	p.packing = dataset.PackTar
	if stem := tarStem(p.name); len(stem) > maxElement-len("-000000.tar") {
		return nameFault("pack.NewPlan", p.name, fmt.Errorf("it is too long for the name of a shard"))
	}
	most := DefaultLimits().MaxFiles
	cur := shard{size: tarEnd}
	samples, nodes, last := 0, 0, ""
	var buf bytes.Buffer
	for first := 0; first < len(p.members); {
		end := p.sampleEnd(first)
		sample := shard{first: first, end: end}
		entries, err := p.measure(&buf, &sample, last)
		if err != nil {
			return err
		}
		full := cur.size+sample.size > opts.ShardSize || nodes+entries > most || opts.Records > 0 && samples == opts.Records ||
			cut != nil && cut(p.sample(first))
		if cur.end > cur.first && full {
			p.add(cur)
			cur = shard{first: first, size: tarEnd}
			samples, nodes = 0, 0
			sample.size, sample.files = 0, 0
			if entries, err = p.measure(&buf, &sample, ""); err != nil {
				return err
			}
		}
		if entries > most {
			return fault.New(fault.TooLarge, "pack.NewPlan", fmt.Sprintf("the sample of %s has more than %d files", quote(p.members[first].name), most)).
				WithHint("files of one folder that have the same name up to the first dot are one sample; rename some, or put them into several folders")
		}
		cur.end, cur.size, cur.files = end, cur.size+sample.size, cur.files+sample.files
		samples, nodes, last = samples+1, nodes+entries, p.members[end-1].name
		first = end
	}
	p.add(cur)
	return p.checkCount()
}

// sample is the name that the files of the sample at member first share.
func (p *Plan) sample(first int) string { return p.members[first].name[:p.members[first].key] }

// sampleEnd gives the end of the sample that starts at member first.
func (p *Plan) sampleEnd(first int) int {
	m, end := &p.members[first], first+1
	for end < len(p.members) && m.key == p.members[end].key && m.name[:m.key] == p.members[end].name[:m.key] {
		end++
	}
	return end
}

// measure adds up what the members of s, and the folders above them that last
// does not share, take in an archive. It gives the number of these entries.
func (p *Plan) measure(buf *bytes.Buffer, s *shard, last string) (entries int, err error) {
	for m := range p.entriesAfter(*s, last) {
		size, err := tarSize(buf, m)
		if err != nil {
			return 0, fault.Wrap(fault.Invalid, "pack.NewPlan", quote(m.name)+" does not fit into a tar archive", err)
		}
		s.size += size
		if !m.dir {
			s.files++
		}
		entries++
	}
	return entries, nil
}

// entries gives what the archive of s holds: its members, and before the first
// one in a folder that folder.
func (p *Plan) entries(s shard) iter.Seq[*member] { return p.entriesAfter(s, "") }

// noTime stands for the time of a folder in all shards but the first one that
// has files of it. So these stay as they are when a file is added to the folder
// or replaced, which changes its time. It is a moment of 2001, since tar complains
// of times before 1970.
const noTime = 1_000_000_000_000_000_001

// entriesAfter leaves out the folders that hold last.
func (p *Plan) entriesAfter(s shard, last string) iter.Seq[*member] {
	return func(yield func(*member) bool) {
		for i := s.first; i < s.end; i++ {
			m := &p.members[i]
			for slash := shared(last, m.name); ; {
				next := strings.IndexByte(m.name[slash:], '/')
				if next < 0 {
					break
				}
				slash += next + 1
				folder, ok := p.folders[m.name[:slash-1]]
				if i > 0 && strings.HasPrefix(p.members[i-1].name, m.name[:slash]) {
					folder.mtime = noTime // it is in the shard before, where it has one
				}
				if ok && !yield(&folder) {
					return
				}
			}
			if !yield(m) {
				return
			}
			last = m.name
		}
	}
}

// shared is the length of the folder that a and b have in common, its slash
// included.
func shared(a, b string) int {
	n := 0
	for i := 0; i < len(a) && i < len(b) && a[i] == b[i]; i++ {
		if a[i] == '/' {
			n = i + 1
		}
	}
	return n
}

// sampleKey is how much of a member's name its sample shares: all up to the
// first dot of the last element. Folders and names that start with a dot are
// samples of their own.
func sampleKey(m member) int {
	base := strings.LastIndexByte(m.name, '/') + 1
	if dot := strings.IndexByte(m.name[base:], '.'); dot > 0 && !m.dir {
		return base + dot
	}
	return len(m.name)
}

// bySample orders members so that a sample's files, and a folder's, lie
// together.
func bySample(a, b member) int {
	return cmp.Or(cmp.Compare(a.name[:a.key], b.name[:b.key]), cmp.Compare(a.name, b.name))
}

func tarName(folder string, n int) string { return fmt.Sprintf("%s-%06d.tar", tarStem(folder), n) }

func tarStem(folder string) string { return strings.TrimSuffix(folder, ".tar") }
