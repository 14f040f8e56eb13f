package audit

import (
	"fmt"
	"strconv"
	"strings"
)

// TileWidth is how many hashes, or leaves, a full tile has.
const TileWidth = 256

const (
	maxTileLevel = 7       // 256^7 leaves and more are beyond the largest log
	maxTileN     = 1 << 55 // tiles of 256 leaves beyond it hold no leaf that can be
	maxTilePath  = 64      // bytes
)

// Tile names a tile of the log as C2SP tlog-tiles has it: Width hashes at
// 8*Level above the leaves, or as many leaves.
type Tile struct {
	Level   int
	N       uint64 // number within the level
	Width   int    // 1 to TileWidth
	Entries bool   // leaves, not hashes; then Level is 0
}

// ParseTilePath reads the path of a tile: "tile/<L>/<N>[.p/<W>]" or
// "tile/entries/<N>[.p/<W>]". There is one path for each tile: N is written in
// elements of three digits, all but the last with an "x" before them.
func ParseTilePath(path string) (Tile, error) {
	bad := func() (Tile, error) { return Tile{}, fmt.Errorf("audit: not the path of a tile: %q", clip(path)) }
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok || len(path) > maxTilePath {
		return bad()
	}
	level, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return bad()
	}
	t := Tile{Width: TileWidth}
	var err error
	if t.Entries = level == "entries"; !t.Entries {
		if t.Level, err = strconv.Atoi(level); err != nil || t.Level < 0 || t.Level > maxTileLevel {
			return bad()
		}
	}
	rest, width, partial := strings.Cut(rest, ".p/")
	if partial {
		if t.Width, err = strconv.Atoi(width); err != nil || t.Width < 1 || t.Width >= TileWidth {
			return bad()
		}
	}
	for element := range strings.SplitSeq(rest, "/") {
		n, err := strconv.ParseUint(strings.TrimPrefix(element, "x"), 10, 64)
		if err != nil || n > 999 || t.N > maxTileN {
			return bad()
		}
		t.N = 1000*t.N + n
	}
	if t.N > maxTileN || t.Path() != path {
		return bad() // such as with a sign, or with zeros too many
	}
	return t, nil
}

// Path is what ParseTilePath reads.
func (t Tile) Path() string {
	level := "entries"
	if !t.Entries {
		level = strconv.Itoa(t.Level)
	}
	n := fmt.Sprintf("%03d", t.N%1000)
	for rest := t.N / 1000; rest > 0; rest /= 1000 {
		n = fmt.Sprintf("x%03d/%s", rest%1000, n)
	}
	path := "tile/" + level + "/" + n
	if t.Width < TileWidth {
		path += ".p/" + strconv.Itoa(t.Width)
	}
	return path
}

// In reports whether a log of size leaves has this tile.
func (t Tile) In(size uint64) bool {
	have := size >> (8 * t.Level) // hashes of the level, for entries leaves
	return t.N*TileWidth+uint64(t.Width) <= have
}

func clip(s string) string {
	if len(s) > maxTilePath {
		return s[:maxTilePath] + "…"
	}
	return s
}
