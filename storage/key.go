package storage

import (
	"io/fs"
	"strings"
)

const (
	maxKey        = 512 // bytes of an object's key
	maxKeySegment = 255 // bytes of what stands between two slashes: a file name
)

// ValidKey reports whether key is of the form that Objects allows. Such a key
// is also a path that stays below whatever folder it is put under.
func ValidKey(key string) bool {
	if !KeyPrefix(key) || !fs.ValidPath(key) || key == "." {
		return false
	}
	for segment := range strings.SplitSeq(key, "/") {
		if len(segment) > maxKeySegment {
			return false
		}
	}
	return true
}

// KeyPrefix reports whether prefix could begin a key: it is not too long and
// has no other characters than keys have.
func KeyPrefix(prefix string) bool {
	return len(prefix) <= maxKey && strings.IndexFunc(prefix, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._/-", r))
	}) < 0
}

// IndexKey is the key of the index of the shard whose object has this key.
func IndexKey(key string) string { return strings.TrimSuffix(key, ".age") + ".index.age" }

// ShardKey is the reverse of IndexKey; index is false, and the key itself the
// answer, for a key that is of no index.
func ShardKey(key string) (shard string, index bool) {
	base, index := strings.CutSuffix(key, ".index.age")
	if !index {
		return key, false
	}
	return base + ".age", true
}
