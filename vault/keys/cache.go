package keys

import "sync"

// cache keeps up to limit opened keys. When it is full it starts anew: opening
// a key again costs a third of a millisecond, bookkeeping on every hit more.
type cache[K comparable, V any] struct {
	mu    *sync.RWMutex
	items map[K]V // guarded by mu
	limit int
}

func newCache[K comparable, V any](limit int) cache[K, V] {
	return cache[K, V]{mu: new(sync.RWMutex), items: make(map[K]V), limit: limit}
}

func (c *cache[K, V]) get(k K) (V, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	v, ok := c.items[k]
	return v, ok
}

func (c *cache[K, V]) put(k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.items) >= c.limit {
		clear(c.items)
	}
	c.items[k] = v
}
