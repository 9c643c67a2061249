package report

import (
	"maps"
	"strings"
	"sync"
	"unsafe"

	"github.com/telemesh/telemesh/api/telemetry/record"
)

const (
	blockRecords = 256
	shards       = 8
	// arenaBytes of text lie in a slot itself; more is an allocation.
	arenaBytes = 192
)

// slot is a thin record that waits to be sent, with the texts that were views
// into the request's buffers.
type slot struct {
	edge   *edge
	record record.Record
	arena  [arenaBytes]byte
}

// block is a run of slots. Requests fill it, the sender reads it whole: neither
// waits for the other.
type block struct {
	n     int
	slots [blockRecords]slot
}

// ring keeps the newest thin records in bounded memory. Engines push to shards,
// so that cores don't meet; a full block goes to the sender's queue.
type ring struct {
	shards [shards]struct {
		mu      sync.Mutex // guards the field below
		current *block     // nil until the first record
		_       [40]byte   // no two shards on a cache line
	}

	mu      sync.Mutex // guards the fields below
	full    []*block   // oldest first
	free    []*block
	made    int
	dropped map[string]uint64
	scratch []record.Record
}

func (r *ring) init() { r.dropped = make(map[string]uint64) }

// push copies the record in.
func (r *ring) push(shard uint8, e *edge, rec *record.Record) {
	s := &r.shards[shard%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.current
	if b == nil {
		b = r.next(nil)
		s.current = b
	}
	slot := &b.slots[b.n]
	b.n++
	slot.edge, slot.record = e, *rec
	slot.own()
	if b.n == blockRecords {
		s.current = r.next(b)
	}
}

// own copies the texts that are views.
func (s *slot) own() {
	used := 0
	rec := &s.record
	for _, text := range [...]*string{&rec.Method, &rec.Path, &rec.Host, &rec.UserAgent, &rec.RequestID} {
		n := len(*text)
		switch {
		case n == 0:
		case used+n <= arenaBytes:
			copy(s.arena[used:], *text)
			*text = unsafe.String(&s.arena[used], n)
			used += n
		default:
			*text = strings.Clone(*text)
		}
	}
}

// next takes a full block over and returns an empty one. Without a free one it
// drops the oldest: the newest are those that people look for.
func (r *ring) next(full *block) *block {
	r.mu.Lock()
	defer r.mu.Unlock()
	if full != nil {
		r.full = append(r.full, full)
	}
	if n := len(r.free); n > 0 {
		b := r.free[n-1]
		r.free = r.free[:n-1]
		return b
	}
	if r.made < ringRecords/blockRecords+shards || len(r.full) == 0 {
		r.made++
		return new(block)
	}
	b := r.full[0]
	r.full = append(r.full[:0], r.full[1:]...)
	r.dropped[reasonRingFull] += uint64(b.n)
	b.n = 0
	return b
}

// taken are blocks that the sender holds.
type taken struct {
	blocks  []*block
	scratch []record.Record
}

// take takes blocks off the ring, oldest first: about n records with textBytes
// of text, and at least one block if there is one. It reports whether more are
// left.
func (r *ring) take(n, textBytes int) (t taken, more bool) {
	if r.whole() < n {
		r.flush()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t.scratch, r.scratch = r.scratch[:0], nil
	for len(r.full) > 0 && n > 0 && textBytes > 0 {
		b := r.full[0]
		r.full = append(r.full[:0], r.full[1:]...)
		t.blocks = append(t.blocks, b)
		n -= b.n
		for i := range b.slots[:b.n] {
			textBytes -= textSize(&b.slots[i].record)
		}
	}
	return t, len(r.full) > 0
}

// flush makes full blocks of those that are not.
func (r *ring) flush() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		if b := s.current; b != nil && b.n > 0 {
			s.current = nil
			r.mu.Lock()
			r.full = append(r.full, b)
			r.mu.Unlock()
		}
		s.mu.Unlock()
	}
}

// records are the taken blocks' records, valid until they are given back.
func (t *taken) records(index func(*edge) uint32) []record.Record {
	for _, b := range t.blocks {
		for i := range b.slots[:b.n] {
			t.scratch = append(t.scratch, b.slots[i].record)
			t.scratch[len(t.scratch)-1].Edge = index(b.slots[i].edge)
		}
	}
	return t.scratch
}

// giveBack returns the blocks; few are kept, so that a burst's memory goes.
func (r *ring) giveBack(t taken) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range t.blocks {
		for i := range b.slots[:b.n] {
			b.slots[i].edge, b.slots[i].record = nil, record.Record{} // nothing is pinned
		}
		b.n = 0
		if len(r.free) >= keptBlocks {
			r.made--
			continue
		}
		r.free = append(r.free, b)
	}
	clear(t.scratch)
	r.scratch = t.scratch[:0]
}

// keptBlocks stay when they are empty.
const keptBlocks = 16

// queued counts the records.
func (r *ring) queued() int {
	n := r.whole()
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		if s.current != nil {
			n += s.current.n
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
		n += b.n
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
