package api

import (
	"mime"
	"net/url"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// passive are the media types that a browser may be told: it shows them without
// running anything of theirs, in a sandbox. Everything else, HTML, SVG, XML and
// scripts among it, is octets.
var passive = map[string]bool{
	"image/avif": true, "image/bmp": true, "image/gif": true, "image/heic": true, "image/heif": true, "image/jpeg": true,
	"image/jxl": true, "image/png": true, "image/tiff": true, "image/webp": true,
	"audio/aac": true, "audio/flac": true, "audio/mp4": true, "audio/mpeg": true, "audio/ogg": true, "audio/wav": true, "audio/webm": true,
	"video/mp4": true, "video/mpeg": true, "video/ogg": true, "video/quicktime": true, "video/webm": true, "video/x-matroska": true,
	"text/plain": true, "text/csv": true, "text/tab-separated-values": true,
	"application/json": true, "application/jsonl": true, "application/x-ndjson": true,
	"application/gzip": true, "application/zip": true, "application/zstd": true, "application/x-tar": true,
	"application/vnd.apache.parquet": true, "application/pdf": true,
}

// byEnding are the types of names whose type nobody has said. It is ours: that
// of package mime differs from machine to machine.
var byEnding = map[string]string{
	".avif": "image/avif", ".bmp": "image/bmp", ".gif": "image/gif", ".heic": "image/heic", ".jpeg": "image/jpeg", ".jpg": "image/jpeg",
	".jxl": "image/jxl", ".png": "image/png", ".tif": "image/tiff", ".tiff": "image/tiff", ".webp": "image/webp",
	".aac": "audio/aac", ".flac": "audio/flac", ".m4a": "audio/mp4", ".mp3": "audio/mpeg", ".oga": "audio/ogg", ".ogg": "audio/ogg",
	".opus": "audio/ogg", ".wav": "audio/wav", ".weba": "audio/webm",
	".m4v": "video/mp4", ".mkv": "video/x-matroska", ".mov": "video/quicktime", ".mp4": "video/mp4", ".mpeg": "video/mpeg",
	".ogv": "video/ogg", ".webm": "video/webm",
	".csv": "text/csv", ".log": "text/plain", ".md": "text/plain", ".tsv": "text/tab-separated-values", ".txt": "text/plain",
	".json": "application/json", ".jsonl": "application/jsonl", ".ndjson": "application/x-ndjson",
	".gz": "application/gzip", ".parquet": "application/vnd.apache.parquet", ".pdf": "application/pdf", ".tar": "application/x-tar",
	".zip": "application/zip", ".zst": "application/zstd",
}

// contentType gives the Content-Type of a file, from its declared media type or
// else its name, and whether a browser may show it rather than save it.
func contentType(declared, name string) (kind string, shown bool) {
	kind, _, err := mime.ParseMediaType(declared)
	if declared == "" || err != nil {
		kind = byEnding[strings.ToLower(path.Ext(name))]
	}
	if !passive[kind] {
		return octets, false
	}
	family, _, _ := strings.Cut(kind, "/")
	shown = family != "application"
	if family == "text" {
		kind += "; charset=utf-8"
	}
	return kind, shown
}

const maxDisposition = 200 // bytes of a file's name in a header

// disposition gives the Content-Disposition for a file's name, which the client
// chose: an ASCII form that every tool reads, and the name itself (RFC 6266 and
// 8187) where that differs.
func disposition(name string, shown bool) string {
	name = path.Base(name)
	ascii := strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r > '~' || strings.ContainsRune(`"\/%;`, r):
			return '_'
		}
		return r
	}, name)
	how := "attachment"
	if shown {
		how = "inline"
	}
	out := how + `; filename="` + cutTo(ascii, maxDisposition) + `"`
	if clean := cutTo(printableName(name), maxDisposition); clean != ascii {
		out += "; filename*=UTF-8''" + strings.ReplaceAll(url.QueryEscape(clean), "+", "%20")
	}
	return out
}

// printableName puts '_' for what must not be in a file's name.
func printableName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r == '/' || r == '\\' || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return '_'
		}
		return r
	}, name)
}

// cutTo gives at most n bytes of s, whole characters, and keeps the ending.
func cutTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	ending := path.Ext(s)
	if len(ending) > 16 {
		ending = ""
	}
	n -= len(ending)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + ending
}
