package detail

import (
	"encoding/binary"
	"math/bits"
	"time"
)

const (
	// shortest is how far back the ring is to reach at least, of whatever it keeps:
	// about as long as a record takes until somebody can have found it.
	shortest = 300 * time.Millisecond
	// paceEvery is how often a shard says how much it takes in.
	paceEvery = int64(250 * time.Millisecond)
	// paceStale is when what it said counts no more.
	paceStale = 4 * paceEvery
	// mostThinned is the logarithm of how many traces there may be for one that is
	// kept.
	mostThinned = 8
)

// pace is what a shard takes in.
type pace struct {
	perNano float64 // bytes, as if all traces were kept
	at      int64   // Unix nanoseconds
}

// keeps reports whether a trace is one of those that are kept at present. All
// sidecars choose the same ones: what one of them keeps, those that keep more do.
func (r *ring) keeps(trace *[16]byte) bool {
	thinned := r.thinned.Load()
	// The right half of an ID is the random one; the product mixes those of callers
	// who count.
	return thinned == 0 || binary.BigEndian.Uint64(trace[8:])*0x9e3779b97f4a7c15>>(64-thinned) == 0
}

// note counts bytes of a kept trace, whose request ended at now. The caller holds
// the shard's lock.
func (r *ring) note(shard int, bytes int, now int64) {
	s := &r.shards[shard]
	if s.since == 0 {
		s.since = now
	}
	s.bytes += bytes
	if took := now - s.since; took >= paceEvery {
		r.setPace(shard, s.bytes, took, now)
		s.bytes, s.since = 0, now
	}
}

// setPace decides which traces are kept: as many as let the ring reach back far
// enough.
func (r *ring) setPace(shard, bytes int, took, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paces[shard] = pace{perNano: float64(bytes) * float64(r.keptOneOf()) / float64(took), at: now}
	sum := 0.0
	for _, p := range r.paces {
		if now-p.at < paceStale {
			sum += p.perNano
		}
	}
	filled := float64(r.blocks*blockBytes) * 3 / 4 // the blocks that are being filled reach back less
	turns := sum * float64(shortest) / filled
	r.thinned.Store(uint32(min(bits.Len(uint(turns)), mostThinned)))
}

// keptOneOf is how many traces there are for one that is kept: 1 if all are.
func (r *ring) keptOneOf() uint32 { return 1 << r.thinned.Load() }
