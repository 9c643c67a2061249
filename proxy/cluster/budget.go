package cluster

import (
	"sync"
	"sync/atomic"
)

// budget bounds retries over the last seconds: a fifth of the requests, and ten
// a second besides, so that a quiet service can retry at all. Without it a
// service that fails would get three times its load. The zero value is ready.
type budget struct {
	requests [budgetSeconds]tally
	mu       sync.Mutex // one retry is decided at a time
	retries  [budgetSeconds]tally
}

const (
	budgetSeconds = 10
	budgetShare   = 5 // a retry for so many requests
	budgetFloor   = 10
)

// tally counts events of one second: its number in the upper half of a word,
// the count in the lower.
type tally struct{ word atomic.Uint64 }

func (s *tally) add(now uint32) {
	for {
		word := s.word.Load()
		next := word + 1
		if uint32(word>>32) != now {
			next = uint64(now)<<32 | 1
		}
		if s.word.CompareAndSwap(word, next) {
			return
		}
	}
}

// numbered gives seconds numbers from 1, so that an empty word is none of them.
func numbered(now int64) uint32 { return uint32(now/ticksPerSecond) + 1 }

func (b *budget) request(now int64) {
	n := numbered(now)
	b.requests[n%budgetSeconds].add(n)
}

// retry takes one retry out of the budget if it holds one.
func (b *budget) retry(now int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := numbered(now)
	allowed := sum(&b.requests, n)/budgetShare + budgetFloor*budgetSeconds
	if sum(&b.retries, n) >= allowed {
		return false
	}
	b.retries[n%budgetSeconds].add(n)
	return true
}

// sum is the events of the last seconds, the running one with them.
func sum(seconds *[budgetSeconds]tally, now uint32) uint64 {
	var total uint64
	for i := range seconds {
		word := seconds[i].word.Load()
		if age := now - uint32(word>>32); age < budgetSeconds {
			total += word & (1<<32 - 1)
		}
	}
	return total
}
