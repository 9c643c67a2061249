package jwt

import "sync"

// maxCached is the text of tokens in one generation of a cache; there are two.
// With the claims beside it a cache stays below about 8 MiB.
const maxCached = 1 << 20

// cache remembers verified tokens in two generations: when the younger is full
// the older is forgotten. A flood of tokens costs verifications, never memory.
// The zero value is ready; safe for concurrent use.
type cache struct {
	mu         sync.RWMutex // guards the fields below
	young, old map[string]cached
	size       int // text in young, bytes
}

type cached struct {
	keys   *Keys // that verified it
	claims *Claims
}

// get returns what was verified with the keys, nil without.
func (c *cache) get(text string, keys *Keys) *Claims {
	c.mu.RLock()
	found, recent := c.young[text]
	if !recent {
		found = c.old[text]
	}
	c.mu.RUnlock()
	if found.claims == nil || found.keys != keys {
		return nil
	}
	if !recent {
		// The key of the map must not be the caller's view.
		c.put(found.claims.text, keys, found.claims)
	}
	return found.claims
}

func (c *cache) put(text string, keys *Keys, claims *Claims) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.young[text]; !there {
		c.size += len(text)
	}
	if c.young == nil || c.size > maxCached {
		c.old, c.young, c.size = c.young, make(map[string]cached), len(text)
	}
	c.young[text] = cached{keys, claims}
}
