package detail

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
)

const (
	shards = 8
	// blockBytes is what the ring grows by and forgets at once. It holds the
	// largest entry.
	blockBytes = 64 << 10
)

// block is a run of entries.
type block struct {
	mu    sync.Mutex // guards the fields below while nobody fills the block
	buf   []byte
	stale uint64 // how often it was emptied
	// closed is when its last request ended, in Unix nanoseconds, once it is full.
	closed int64
}

// ring keeps the newest entries. Engines write to shards, so that cores don't
// meet, and a shard takes a block at a time, so that the whole ring is one busy
// connection's as well as that of many. An entry is found by a look at all of
// them: an index would cost every request for what few ask for.
type ring struct {
	shards [shards]struct {
		mu      sync.Mutex // guards the fields below and what the first holds
		current *block     // nil until the first entry
		bytes   int        // of kept traces since
		since   int64      // Unix nanoseconds
		_       [24]byte   // no two shards on a cache line
	}
	blocks int // that it may have
	// thinned is the logarithm of how many traces there are for one that is kept.
	thinned atomic.Uint32

	mu   sync.Mutex // guards the fields below
	full []*block   // oldest first
	made int
	// forgot is when the newest request ended that is here no more, 0 if all are.
	forgot int64
	paces  [shards]pace
}

// push keeps an exchange and returns what it wrote if copied is to be had. Where
// so many requests come that they would be forgotten before anybody can know of
// them, it keeps those of some traces only.
func (r *ring) push(x *exchange.Exchange, copied bool) (out entry) {
	kept := r.keeps(&x.Record.TraceID)
	if !kept && !copied {
		return nil
	}
	end := x.Record.Start.UnixNano() + int64(x.Record.Duration)
	shard := int(x.Shard % shards)
	s := &r.shards[shard]
	s.mu.Lock() // and no defer: this is every request's way
	if s.current == nil {
		s.current = r.next(nil, 0)
	}
	b := s.current
	at := len(b.buf)
	buf, fits := appendEntry(b.buf, x)
	if !fits {
		b = r.next(b, end)
		s.current = b
		at = 0
		buf, _ = appendEntry(b.buf, x) // any fits into an empty one
	}
	b.buf = buf
	if kept {
		r.note(shard, len(buf)-at, end)
	}
	if copied {
		out = slices.Clone(buf[at:])
	}
	s.mu.Unlock()
	return out
}

// next takes a full block over and returns an empty one: a new one as long as
// there may be more, then the oldest.
func (r *ring) next(full *block, now int64) *block {
	r.mu.Lock()
	defer r.mu.Unlock()
	if full != nil {
		full.closed = now
		r.full = append(r.full, full)
	}
	if r.made < r.blocks || len(r.full) == 0 {
		r.made++
		return &block{buf: make([]byte, 0, blockBytes)}
	}
	b := r.full[0]
	r.full = append(r.full[:0], r.full[1:]...)
	r.forgot = max(r.forgot, b.closed)
	b.mu.Lock() // a search may be in it
	b.buf = b.buf[:0]
	b.stale++
	b.mu.Unlock()
	return b
}

// want is what a search is for.
type want struct {
	trace [16]byte // zero for nothing
	span  []byte   // of one request; any other length is all of the trace
	found []entry
}

// search copies what is wanted. It holds requests up for no longer than a look
// through one block takes.
func (r *ring) search(wants []want) {
	r.mu.Lock()
	full := slices.Clone(r.full)
	stale := make([]uint64, len(full))
	for i, b := range full {
		stale[i] = b.stale // changes with r.mu only
	}
	r.mu.Unlock()
	for i, b := range full {
		b.mu.Lock()
		if b.stale == stale[i] {
			searchBlock(b.buf, wants)
		}
		b.mu.Unlock()
	}
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		if s.current != nil {
			searchBlock(s.current.buf, wants)
		}
		s.mu.Unlock()
	}
}

func searchBlock(b []byte, wants []want) {
	for e := firstEntry(b); e != nil; e = firstEntry(b) {
		for i := range wants {
			if w := &wants[i]; w.trace != [16]byte{} && e.is(w.trace, w.span) && len(w.found) < maxFound {
				w.found = append(w.found, slices.Clone(e))
			}
		}
		b = b[len(e):]
	}
}

// horizon is how far back the ring reaches for certain; since is when it began.
func (r *ring) horizon(now, since time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forgot == 0 {
		return now.Sub(since)
	}
	return max(time.Duration(now.UnixNano()-r.forgot), 0)
}
