package pack

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"dsvault/vault/fault"
)

const (
	maxElement = 255 // bytes between two slashes: the limit of common file systems
	// reserved starts the names of this package's own temporary files.
	reserved = ".dsvault-"
)

// checkName says why a member's name could not be unpacked safely on every
// common system; push and pull use the same rule.
func checkName(name string, limits Limits) error {
	switch {
	case name == "":
		return errors.New("it is empty")
	case len(name) > limits.MaxPath:
		return fmt.Errorf("it has %d bytes and the limit is %d", len(name), limits.MaxPath)
	case strings.Count(name, "/") >= limits.MaxDepth:
		return fmt.Errorf("it lies more than %d folders deep", limits.MaxDepth)
	case !utf8.ValidString(name):
		return errors.New("it is not valid UTF-8")
	case strings.HasPrefix(name, "/"):
		return errors.New("it is absolute")
	case isReserved(name):
		return errors.New("names that start with " + reserved + " are reserved for temporary files")
	}
	for element := range strings.SplitSeq(name, "/") {
		switch {
		case element == "" || element == "." || element == "..":
			return errors.New("it has an empty, \".\" or \"..\" element")
		case len(element) > maxElement:
			return fmt.Errorf("one of its elements has %d bytes and the limit is %d", len(element), maxElement)
		}
	}
	if i := strings.IndexFunc(name, forbidden); i >= 0 {
		r, _ := utf8.DecodeRuneInString(name[i:])
		return fmt.Errorf("it has the character %U", r)
	}
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return errors.New("this system gives it a special meaning")
	}
	return nil
}

// isReserved: also in letters that count as the same where case is ignored, such
// as the long s, which has two bytes.
func isReserved(name string) bool {
	begin := []rune(name[:min(len(name), utf8.UTFMax*len(reserved))])
	return len(begin) >= len(reserved) && strings.EqualFold(string(begin[:len(reserved)]), reserved)
}

// forbidden: control characters, the backslash (a separator elsewhere), and
// the controls that make a terminal show a name backwards.
func forbidden(r rune) bool {
	return r == '\\' || unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// checkElement is checkName for a name that must be a single element.
func checkElement(name string) error {
	if strings.Contains(name, "/") {
		return errors.New("it has a slash")
	}
	return checkName(name, DefaultLimits())
}

// nameSet holds paths and the folders above them, so that no two of them are
// the same place on a file system that ignores case or normalisation.
type nameSet struct {
	seen map[string]node // by folded path
	fold cases.Caser
}

type node struct {
	name string
	dir  bool
}

func newNameSet() *nameSet {
	return &nameSet{seen: map[string]node{}, fold: cases.Fold()}
}

// size is the number of files and folders, those above members included.
func (s *nameSet) size() int { return len(s.seen) }

// add records a member, which must be new, and the folders above it.
func (s *nameSet) add(name string, dir bool) error {
	if err := s.put(name, dir, true); err != nil {
		return err
	}
	for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name, '/') {
		name = name[:i]
		if have, ok := s.seen[s.key(name)]; ok && have == (node{name, true}) {
			return nil // and so are the folders above it
		}
		if err := s.put(name, true, false); err != nil {
			return err
		}
	}
	return nil
}

func (s *nameSet) put(name string, dir, fresh bool) error {
	key := s.key(name)
	have, ok := s.seen[key]
	switch {
	case !ok:
		s.seen[key] = node{name, dir}
		return nil
	case have.name != name:
		return fmt.Errorf("it is the same as %s on systems that ignore case or Unicode form", quote(have.name))
	case fresh:
		return errors.New("it is there twice")
	case have.dir != dir:
		return fmt.Errorf("%s is both a file and a folder", quote(name))
	}
	return nil
}

// key folds as Unicode's canonical caseless match does.
func (s *nameSet) key(name string) string {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return norm.NFC.String(s.fold.String(norm.NFD.String(name)))
		}
	}
	return strings.ToLower(name)
}

func nameFault(op, name string, why error) error {
	return fault.New(fault.Invalid, op, fmt.Sprintf("the name %s cannot be used: %v", quote(name), why)).
		WithHint("rename it; names must be portable UTF-8 without control characters and unique when case is ignored")
}

// quote makes a name safe to print, and short.
func quote(name string) string {
	const most = 120
	if len(name) > most {
		return strconv.Quote(strings.ToValidUTF8(name[:most], "")) + "…"
	}
	return strconv.Quote(name)
}
