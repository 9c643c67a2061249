package detail

import (
	"sync"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/policy-check/gcra"
)

// What may leave the sidecar, in bytes as the ring has them. An outage turns
// every request into a trigger: these bounds make a picture of it, and no flood.
const (
	edgeRate  = 16 << 10 // a second, of one edge by its triggers
	edgeBurst = 64 << 10
	allRate   = 128 << 10 // of all edges by their triggers
	allBurst  = 512 << 10
	// Orders have a budget of their own, or an outage would keep people from
	// opening a request.
	orderRate  = 256 << 10
	orderBurst = 1 << 20
)

func bytesPerSecond(rate, burst float64) gcra.Rate {
	return gcra.Rate{Interval: 1e9 / rate, Burst: burst}
}

var (
	edgeShape  = bytesPerSecond(edgeRate, edgeBurst)
	allShape   = bytesPerSecond(allRate, allBurst)
	orderShape = bytesPerSecond(orderRate, orderBurst)
)

// Share is one edge's part of what triggers may send. The zero value is ready.
type Share struct {
	mu     sync.Mutex // guards the field below
	bucket gcra.Bucket
}

// budget is what all edges have together, and what orders have.
type budget struct {
	began time.Time

	mu     sync.Mutex // guards the fields below
	all    gcra.Bucket
	orders gcra.Bucket
}

func (b *budget) clock() float64 { return float64(time.Since(b.began)) }

// admit spends n bytes of an edge's share. The reason says whose budget is
// spent; it is empty if none is. What was merely slow leaves half of the share to
// what failed.
func (b *budget) admit(s *Share, trigger string, n int64) (reason string) {
	now := b.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := 0.0
	if trigger == vocab.TriggerSlow {
		kept = edgeBurst / 2
	}
	if s.bucket.Tokens(edgeShape, now) < float64(n)+kept {
		return vocab.NoDetailEdgeBudget
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all.Tokens(allShape, now) < float64(n) {
		return vocab.NoDetailAllBudget
	}
	b.all.Spend(allShape, now, n)
	s.bucket.Spend(edgeShape, now, n)
	return ""
}

// admitOrder spends n bytes of the orders' budget, if they are there.
func (b *budget) admitOrder(n int64) bool {
	now := b.clock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.orders.Tokens(orderShape, now) < float64(n) {
		return false
	}
	b.orders.Spend(orderShape, now, n)
	return true
}
