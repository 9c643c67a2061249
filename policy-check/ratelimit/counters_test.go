package ratelimit

import (
	"encoding/binary"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// numbered is a key of a test.
func numbered(c *counters, i int) uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(i))
	return c.hash(b[:])
}

// oracle is what the counters should say.
type oracle struct{ end, count int64 }

func TestCountersAreAMapOfWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, want := newCounters(1000), make(map[uint64]oracle)
		now := int64(1000)
		// Few keys in few shards: they collide, are reclaimed and move.
		keys := rapid.SliceOfN(rapid.Uint64Range(1, 60), 1, 150).Draw(t, "keys")
		for _, k := range keys {
			hash := k%2<<(64-shardBits) | k<<40 | 1
			now += rapid.Int64Range(0, 3).Draw(t, "passes")
			window := rapid.SampledFrom([]int64{1, 5, 60}).Draw(t, "window")
			end := now - now%window + window
			h := hit{n: rapid.Uint64Range(0, 4).Draw(t, "hits"), refill: rapid.Bool().Draw(t, "refill")}
			w := want[hash]
			if w.end != end {
				w = oracle{end: end}
			}
			before, after, ok := c.add(hash, now, end, h)
			expect := w.count + int64(h.n)
			if h.refill {
				expect = max(w.count-int64(h.n), 0)
			}
			if !ok || int64(before) != w.count || int64(after) != expect {
				t.Fatalf("add(%x, now %d, end %d, %+v) = %d, %d, %v, want %d, %d", hash, now, end, h, before, after, ok, w.count, expect)
			}
			w.count = expect
			want[hash] = w
			if rapid.IntRange(0, 19).Draw(t, "tidy") == 0 {
				c.tidy(now, 5)
				checkShards(t, c)
			}
		}
		checkShards(t, c)
	})
}

// checkShards finds every key where a look-up goes, and as many as are counted.
func checkShards(t *rapid.T, c *counters) {
	total := 0
	for i := range c.shards {
		s, used := &c.shards[i], 0
		for at, e := range s.slots {
			if e.hash == 0 {
				continue
			}
			used++
			if found, ok := s.find(e.hash); !ok || found != at {
				t.Fatalf("key %x is at %d of shard %d, a look-up finds %d, %v", e.hash, at, i, found, ok)
			}
		}
		if used != s.used {
			t.Fatalf("shard %d has %d keys, says %d", i, used, s.used)
		}
		total += used
	}
	if int64(total) != c.keys.Load() {
		t.Fatalf("%d keys, counted %d", total, c.keys.Load())
	}
}

func TestAKeyTakesAtMost64Bytes(t *testing.T) {
	const most = 150_000
	c := newCounters(most)
	for i := range most {
		c.add(numbered(c, i), 0, 60, hit{n: 1})
		if n := i + 1; n >= 50_000 && n%9973 == 0 {
			if perKey := float64(c.bytes()) / float64(n); perKey > 64 {
				t.Fatalf("%.1f bytes a key with %d keys", perKey, n)
			}
		}
	}
	if n := c.keys.Load(); n != most {
		t.Errorf("%d keys, want %d", n, most)
	}
}

func TestNewKeysTakeTheRoomOfEndedWindows(t *testing.T) {
	const most = 10_000
	c := newCounters(most)
	// Twenty times as many keys as there is room for, in windows of which
	// the last four fifths of the room are open at any time.
	for i := range 20 * most {
		now := int64(i / (most / 5))
		if _, _, ok := c.add(numbered(c, i), now, now+2, hit{n: 1}); !ok {
			t.Fatalf("no room for key %d with %d of %d keys", i, c.keys.Load(), most)
		}
	}
	if perKey := float64(c.bytes()) / most; perKey > 64 {
		t.Errorf("%.1f bytes for each key there is room for", perKey)
	}
}

func TestTidyGivesMemoryBack(t *testing.T) {
	c := newCounters(30_000)
	for i := range 30_000 {
		c.add(numbered(c, i), 0, 60, hit{n: 1})
	}
	full := c.bytes()
	c.tidy(59, 1000)
	if n := c.keys.Load(); n != 30_000 {
		t.Errorf("%d keys a second before the windows end, want all", n)
	}
	c.tidy(60, 1000)
	if n := c.keys.Load(); n != 0 || c.bytes() > full/4 {
		t.Errorf("%d keys in %d bytes after the windows ended, were 30000 in %d", n, c.bytes(), full)
	}
	if c.reclaimed.Load() != 30_000 {
		t.Errorf("%d reclaimed, want 30000", c.reclaimed.Load())
	}
}

func TestALimitHoldsUnderConcurrency(t *testing.T) {
	const callers, each, keys = 8, 5000, 3
	c := newCounters(10)
	var wg sync.WaitGroup
	var mu sync.Mutex
	last := make(map[int]map[uint64]int) // how often each count was seen, by key
	for k := range keys {
		last[k] = make(map[uint64]int)
	}
	for range callers {
		wg.Go(func() {
			seen := make(map[int][]uint64)
			for i := range each {
				k := i % keys
				_, after, ok := c.add(numbered(c, k), 0, 60, hit{n: 1})
				if !ok {
					t.Error("no room")
				}
				seen[k] = append(seen[k], after)
			}
			mu.Lock()
			defer mu.Unlock()
			for k, counts := range seen {
				for _, n := range counts {
					last[k][n]++
				}
			}
		})
	}
	wg.Wait()
	for k, counts := range last {
		for n, times := range counts {
			if times != 1 {
				t.Errorf("key %d: the count %d was given %d times", k, n, times)
			}
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	c := newCounters(10_000_000)
	const keys = 1_000_000
	hashes := make([]uint64, keys)
	for i := range hashes {
		hashes[i] = numbered(c, i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		c.add(hashes[i*7919%keys], 0, 60, hit{n: 1})
	}
}
