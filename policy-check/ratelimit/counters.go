package ratelimit

import (
	"hash/maphash"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
)

const (
	shardBits  = 10
	shardCount = 1 << shardBits
	// A shard grows by half when four fifths of it are taken, so that a key
	// takes 16/0.8 = 20 bytes at best and 30 at worst; doubling would take 40.
	leastSlots = 8
	// insertProbes are the slots looked at for ended windows with every new
	// key: at the loads above they free more keys than come.
	insertProbes = 4
	// fullProbes are those looked at when there is no room for a new key.
	fullProbes = 64
)

// counters is one fixed window for each of a bounded number of keys. A key is
// known by 64 bits of a seeded hash only: of 10 million keys, two share a window
// with a probability of 3 in a million. It is safe for concurrent use.
type counters struct {
	seed    maphash.Seed
	maxKeys int64
	keys    atomic.Int64
	// reclaimed counts the keys that were forgotten after their windows ended.
	reclaimed atomic.Uint64
	shards    [shardCount]shard
}

// shard is an open-addressed table with linear probing.
type shard struct {
	mu    sync.Mutex // guards the fields below
	slots []slot
	used  int
	hand  int // where the search for ended windows goes on

	_ [16]byte // each fills a cache line
}

// slot is one key's window; hash 0 marks an empty slot.
type slot struct {
	hash uint64
	// end is when the window ends, in seconds since 1970 (until 2106).
	end uint32
	// count is the hits of the window. It stops at its maximum, which is also
	// the largest limit there is: a caller that only looks, with no hits, is
	// then told that nothing remains, and every other is refused.
	count uint32
}

func newCounters(maxKeys int) *counters {
	return &counters{seed: maphash.MakeSeed(), maxKeys: int64(maxKeys)}
}

// hash is a key's identity. It keeps nothing of key.
func (c *counters) hash(key []byte) uint64 {
	return max(maphash.Bytes(c.seed, key), 1)
}

// hit is what one descriptor adds to a window.
type hit struct {
	n uint64
	// refill gives n hits back, down to none.
	refill bool
	// force takes room for the key even beyond the most keys.
	force bool
}

// add counts a hit in the window that ends at end, in seconds since 1970, and
// returns the window's hits without and with it. It is not ok, and nothing has
// been counted, when there is no room for a new key.
func (c *counters) add(hash uint64, now, end int64, h hit) (before, after uint64, ok bool) {
	s := &c.shards[hash>>(64-shardBits)]
	s.mu.Lock()
	defer s.mu.Unlock()
	at, found := s.find(hash)
	if !found {
		if h.n == 0 || h.refill {
			return 0, 0, true // as if it had been counted
		}
		freed := s.reclaim(now, insertProbes)
		if !h.force && c.keys.Load()-int64(freed) >= c.maxKeys {
			freed += s.reclaim(now, fullProbes)
		}
		c.keys.Add(-int64(freed))
		c.reclaimed.Add(uint64(freed))
		if c.keys.Add(1) > c.maxKeys && !h.force {
			c.keys.Add(-1)
			return 0, 0, false
		}
		at = s.insert(hash)
	}
	e := &s.slots[at]
	if e.end != uint32(end) {
		e.end, e.count = uint32(end), 0
	}
	before = uint64(e.count)
	switch {
	case h.refill:
		after = before - min(before, h.n)
	case h.n > math.MaxUint64-before:
		after = math.MaxUint64
	default:
		after = before + h.n
	}
	e.count = uint32(min(after, math.MaxUint32))
	return before, after, true
}

// home is where a key belongs if nobody else does: the hash's bits below those
// that chose the shard, scaled to the table.
func (s *shard) home(hash uint64) int {
	at, _ := bits.Mul64(hash<<shardBits, uint64(len(s.slots)))
	return int(at)
}

// find returns the key's slot.
func (s *shard) find(hash uint64) (at int, found bool) {
	if len(s.slots) == 0 {
		return 0, false
	}
	for at = s.home(hash); ; at = s.next(at) {
		switch s.slots[at].hash {
		case hash:
			return at, true
		case 0:
			return at, false
		}
	}
}

func (s *shard) next(at int) int {
	if at++; at == len(s.slots) {
		return 0
	}
	return at
}

// insert takes a slot for a key that has none.
func (s *shard) insert(hash uint64) int {
	if s.used+1 > len(s.slots)*4/5 {
		s.resize(max(leastSlots, len(s.slots)+len(s.slots)/2))
	}
	at, _ := s.find(hash)
	s.slots[at] = slot{hash: hash}
	s.used++
	return at
}

// resize moves every key: some hundred microseconds with 10 million keys in all
// shards, in which this shard waits.
func (s *shard) resize(slots int) {
	old := s.slots
	s.slots, s.hand = make([]slot, slots), 0
	for _, e := range old {
		if e.hash != 0 {
			at, _ := s.find(e.hash)
			s.slots[at] = e
		}
	}
}

// reclaim looks n times at a slot and forgets the keys whose windows have ended.
func (s *shard) reclaim(now int64, n int) (freed int) {
	// A slot that was freed is looked at again, so this is once around.
	for n = min(n, len(s.slots)+s.used); n > 0; n-- {
		if e := s.slots[s.hand]; e.hash != 0 && int64(e.end) <= now {
			s.remove(s.hand)
			freed++
			continue // another key may have moved here
		}
		s.hand = s.next(s.hand)
	}
	return freed
}

// remove frees a slot and closes the gap: a key behind it moves into it unless
// its home lies behind it too.
func (s *shard) remove(gap int) {
	s.used--
	for at := s.next(gap); s.slots[at].hash != 0; at = s.next(at) {
		if s.distance(s.home(s.slots[at].hash), at) >= s.distance(gap, at) {
			s.slots[gap] = s.slots[at]
			gap = at
		}
	}
	s.slots[gap] = slot{}
}

// distance is how far to is behind from.
func (s *shard) distance(from, to int) int {
	if to < from {
		return to + len(s.slots) - from
	}
	return to - from
}

// tidy is reclaim for every shard, for the times in which no new keys come. It
// looks at perShard slots of each and gives back memory that is mostly empty.
func (c *counters) tidy(now int64, perShard int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		freed := s.reclaim(now, perShard)
		if s.used < len(s.slots)/4 && len(s.slots) > leastSlots {
			s.resize(max(leastSlots, s.used*3/2))
		}
		s.mu.Unlock()
		c.keys.Add(-int64(freed))
		c.reclaimed.Add(uint64(freed))
	}
}

// bytes is the memory of the tables.
func (c *counters) bytes() int64 {
	n := int64(shardCount) * 64
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += int64(len(s.slots)) * 16
		s.mu.Unlock()
	}
	return n
}
