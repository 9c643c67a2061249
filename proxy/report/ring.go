package report

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/telemesh/telemesh/api/telemetry/record"
)

const (
	// blockRecords is also a batch's size.
	blockRecords = 1024
	shards       = 8
	// urgentBlocks is what the sender takes at once, without waiting for its
	// regular flush.
	urgentBlocks = 1
	// apartBlocks that the sender has not taken say that it is behind, or the hub
	// away: what is notable goes to blocks of its own from then on.
	apartBlocks = 2
)

// block is a run of thin records that wait to be sent, in the form in which they
// will be. Requests fill it, the sender takes it whole: neither waits for the
// other.
type block struct {
	record.Block
	edges []*edge // named by Record.Edge
	index map[*edge]uint32
	last  uint32 // of the record before
	// notable counts the records that are dropped last.
	notable int
}

// add takes a record of an edge in.
func (b *block) add(e *edge, rec *record.Record) {
	if len(b.edges) == 0 || b.edges[b.last] != e {
		b.last = b.place(e)
	}
	rec.Edge = b.last
	b.Add(rec)
}

func (b *block) place(e *edge) uint32 {
	if i, ok := b.index[e]; ok {
		return i
	}
	i := uint32(len(b.edges))
	b.index[e] = i
	b.edges = append(b.edges, e)
	return i
}

// ring keeps thin records in bounded memory. Engines push to shards, so that cores
// don't meet; a full block goes to the sender's queue. When there are too many the
// oldest ordinary ones are dropped, and only then the oldest notable ones: for that
// they are in blocks apart, as soon as the sender is behind. A block from before then
// has both, and counts as notable.
type ring struct {
	shards [shards]struct {
		mu      sync.Mutex // guards the fields below
		current *block     // nil until the first record
		notable *block     // nil until the first notable record that goes apart
		_       [40]byte   // no two shards on a cache line
	}
	apart atomic.Bool

	urgent chan struct{} // capacity 1: the sender should not wait for its time
	begun  chan struct{} // capacity 1: the first record after a flush is there

	mu      sync.Mutex // guards the fields below
	full    []*block   // oldest first
	free    []*block
	made    int
	spare   int // free blocks at the last trim
	dropped map[string]uint64
}

func (r *ring) init() {
	r.dropped, r.urgent, r.begun = make(map[string]uint64), make(chan struct{}, 1), make(chan struct{}, 1)
}

// push copies the record in, and numbers its edge.
func (r *ring) push(shard uint8, e *edge, rec *record.Record, notable bool) {
	s := &r.shards[shard%shards]
	s.mu.Lock() // and no defer: this is every request's way
	slot := &s.current
	if notable && r.apart.Load() {
		slot = &s.notable
	}
	b := *slot
	if b == nil {
		b = r.next(nil)
		*slot = b
	}
	b.add(e, rec)
	if notable {
		b.notable++
	}
	if b.Rows() == blockRecords {
		*slot = r.next(b)
	}
	s.mu.Unlock()
}

// next takes a full block over and returns an empty one. Without a free one it
// drops one.
func (r *ring) next(full *block) *block {
	r.mu.Lock()
	defer r.mu.Unlock()
	if full != nil {
		if r.full = append(r.full, full); len(r.full) >= urgentBlocks {
			signal(r.urgent)
		}
		if len(r.full) >= apartBlocks {
			r.apart.Store(true)
		}
	} else {
		signal(r.begun)
	}
	if n := len(r.free); n > 0 {
		b := r.free[n-1]
		r.free = r.free[:n-1]
		return b
	}
	if r.made < ringRecords/blockRecords+shards || len(r.full) == 0 {
		r.made++
		return &block{index: make(map[*edge]uint32)}
	}
	return r.drop()
}

// drop empties the oldest block without notable records, or else the oldest: the
// newest are those that people look for. The caller holds the lock.
func (r *ring) drop() *block {
	i := max(slices.IndexFunc(r.full, func(b *block) bool { return b.notable == 0 }), 0)
	b := r.full[i]
	r.full = slices.Delete(r.full, i, i+1)
	if ordinary := b.Rows() - b.notable; ordinary > 0 {
		r.dropped[reasonRingFull] += uint64(ordinary)
	}
	if b.notable > 0 {
		r.dropped[reasonRingFullNotable] += uint64(b.notable)
	}
	b.reset()
	return b
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it knows
	}
}

// take takes the oldest whole block off the ring, nil if there is none, and
// reports whether more are left.
func (r *ring) take() (b *block, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.full) == 0 {
		return nil, false
	}
	b = r.full[0]
	if r.full = slices.Delete(r.full, 0, 1); len(r.full) == 0 {
		r.apart.Store(false)
	}
	return b, len(r.full) > 0
}

// flush makes whole blocks of those that are being filled.
func (r *ring) flush() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for _, slot := range []**block{&s.current, &s.notable} {
			if b := *slot; b != nil && b.Rows() > 0 {
				*slot = nil
				r.mu.Lock()
				r.full = append(r.full, b)
				r.mu.Unlock()
			}
		}
		s.mu.Unlock()
	}
}

// giveBack returns a block.
func (r *ring) giveBack(b *block) {
	if b == nil {
		return
	}
	b.reset()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free = append(r.free, b)
}

func (b *block) reset() {
	b.Reset()
	clear(b.index)
	b.edges, b.last, b.notable = b.edges[:0], 0, 0 // edges live for ever: nothing is pinned
}

// keptBlocks stay when they are empty.
const keptBlocks = 4

// trim lets go of an empty block. It is called at the sender's pace, so that a
// burst's memory goes within seconds and a steady load's blocks stay.
func (r *ring) trim() {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.free)
	if r.spare = min(r.spare, n); r.spare > keptBlocks {
		r.free[n-1] = nil
		r.free = r.free[:n-1]
		r.made--
	}
	r.spare = n
}

// queued counts the records.
func (r *ring) queued() int {
	n := r.whole()
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for _, b := range []*block{s.current, s.notable} {
			if b != nil {
				n += b.Rows()
			}
		}
		s.mu.Unlock()
	}
	return n
}

// whole counts the records in full blocks.
func (r *ring) whole() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.full {
		n += b.Rows()
	}
	return n
}

func (r *ring) lose(reason string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped[reason] += uint64(n)
}

func (r *ring) ratio() float64 { return min(float64(r.queued())/ringRecords, 1) }

func (r *ring) losses() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.dropped)
}
