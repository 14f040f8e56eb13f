package keys

import "sync"

// cache keeps up to limit opened keys. When it is full it starts anew: opening
// a key again costs a third of a millisecond, bookkeeping on every hit more.
// What was forgotten stays out, whoever has just read it from an old snapshot.
type cache[K comparable, V any] struct {
	mu    *sync.RWMutex
	items map[K]V        // guarded by mu
	gone  map[K]struct{} // guarded by mu
	limit int
}

func newCache[K comparable, V any](limit int) cache[K, V] {
	return cache[K, V]{mu: new(sync.RWMutex), items: make(map[K]V), gone: make(map[K]struct{}), limit: limit}
}

func (c *cache[K, V]) get(k K) (v V, known, gone bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	v, known = c.items[k]
	if !known {
		_, gone = c.gone[k]
	}
	return v, known, gone
}

func (c *cache[K, V]) put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, gone := c.gone[k]; gone {
		return
	}
	if len(c.items) >= c.limit {
		clear(c.items)
	}
	c.items[k] = v
}

// forget drops k for good.
func (c *cache[K, V]) forget(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.items, k)
	c.gone[k] = struct{}{}
}
