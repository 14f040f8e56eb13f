package pack

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"dsvault/vault/dataset"
	"dsvault/vault/fault"
)

// EncodeIndex gives the index of a shard with these members, which Write gave.
// Without any, or with more than an index may have, the shard is its one member.
func EncodeIndex(m dataset.Manifest, members []dataset.Member) ([]byte, error) {
	x := dataset.Index{Number: m.Number, Size: m.Size, Members: members}
	if len(members) > 0 || m.Packing == dataset.PackTar && m.Files == 0 {
		data, err := x.Encode()
		if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge) {
			return data, err
		}
	}
	x.Members = []dataset.Member{{Name: memberName(m), Size: m.Size, Type: m.MediaType, SHA256: m.SHA256}}
	return x.Encode()
}

// memberName is the name of the file that the shard is by itself.
func memberName(m dataset.Manifest) string {
	switch m.Packing {
	case dataset.PackPart:
		return partName(m.Name, m.Part)
	case dataset.PackSlice:
		return SliceName(m.Name, m.Part)
	case dataset.PackOrder:
		return m.Name + ".order"
	}
	return m.Name
}

func partName(name string, part int) string { return fmt.Sprintf("%s.part-%04d", name, part) }

func isTar(name string) bool { return strings.HasSuffix(strings.ToLower(name), ".tar") }

// tarMembers lists the files in an archive of size bytes that somebody else has
// made. It reads the headers only. What is not plain, or could not be told apart
// from something else by its name, has no members: the archive is as good as
// before. Only a context that ends is an error.
func tarMembers(ctx context.Context, r io.ReaderAt, size int64) ([]dataset.Member, error) {
	section := io.NewSectionReader(r, 0, size)
	names := newNameSet()
	limits := DefaultLimits()
	var members []dataset.Member
	for tr := tar.NewReader(section); ; {
		if err := ctx.Err(); err != nil {
			return nil, canceled("pack.Write", err)
		}
		h, err := tr.Next()
		if err == io.EOF {
			return members, nil
		}
		if err != nil || len(h.PAXRecords) > 100 || len(members) == dataset.MaxMembers {
			return nil, nil
		}
		switch h.Typeflag {
		case tar.TypeReg:
		case tar.TypeGNUSparse:
			return nil, nil
		default: // folders, links and devices have no bytes of their own
			continue
		}
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") {
				return nil, nil
			}
		}
		name := strings.TrimPrefix(h.Name, "./")
		if checkName(name, limits) != nil || names.add(name, false) != nil {
			return nil, nil
		}
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil || h.Size < 0 || h.Size > size-offset {
			return nil, nil
		}
		members = append(members, dataset.Member{Name: name, Offset: offset, Size: h.Size, Type: mediaTypeOf(name)})
	}
}

// mediaTypes says what the ends of names stand for, the same on every machine.
var mediaTypes = map[string]string{
	".txt": "text/plain", ".md": "text/markdown", ".html": "text/html", ".xml": "application/xml",
	".csv": "text/csv", ".tsv": "text/tab-separated-values", ".cls": "text/plain",
	".json": "application/json", ".jsonl": "application/jsonl", ".ndjson": "application/jsonl",
	".yaml": "application/yaml", ".yml": "application/yaml", ".pdf": "application/pdf",
	".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".gif": "image/gif", ".webp": "image/webp",
	".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff", ".svg": "image/svg+xml", ".avif": "image/avif",
	".heic": "image/heic", ".dcm": "application/dicom",
	".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime", ".mkv": "video/matroska",
	".avi": "video/vnd.avi", ".mpg": "video/mpeg", ".mpeg": "video/mpeg",
	".mp3": "audio/mpeg", ".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".opus": "audio/ogg", ".m4a": "audio/mp4",
	".gz": "application/gzip", ".zst": "application/zstd",
}

// mediaTypeOf goes by the name; "" for what it does not know.
func mediaTypeOf(name string) string {
	if kind := shardEnding(name); kind >= 0 {
		return shardKinds[kind].mediaType
	}
	return mediaTypes[strings.ToLower(path.Ext(name))]
}
