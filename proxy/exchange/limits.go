package exchange

import (
	"sync/atomic"
	"time"
)

// Gate bounds how many of something exist at once. The zero value has no bound.
// Safe for concurrent use once Limit is set.
type Gate struct {
	// Limit is the greatest number; 0 means none.
	Limit int64
	used  atomic.Int64
	full  atomic.Uint64
}

// Enter takes a place, or counts an overflow and reports false. Whoever got a
// place must Leave.
func (g *Gate) Enter() bool {
	if g.Limit == 0 {
		g.used.Add(1)
		return true
	}
	// Not by adding first: whoever is refused would for a moment hold a place
	// that another could have had.
	for {
		used := g.used.Load()
		if used >= g.Limit {
			g.full.Add(1)
			return false
		}
		if g.used.CompareAndSwap(used, used+1) {
			return true
		}
	}
}

// Leave gives a place back.
func (g *Gate) Leave() { g.used.Add(-1) }

// Used is the number of places taken.
func (g *Gate) Used() int64 { return g.used.Load() }

// Overflows counts the refusals.
func (g *Gate) Overflows() uint64 { return g.full.Load() }

// Limits bound what an engine holds towards one service. An engine that cannot
// enter answers 503 with the flag UO.
type Limits struct {
	Connections Gate // upstream connections, all endpoints together
	Pending     Gate // exchanges that wait for a connection
	// PerConnection is how many requests a connection carries before it is
	// closed; 0 means no bound.
	PerConnection int64
	// Streams is the most that may be open at once on an HTTP/2 connection; 0
	// leaves it to the upstream.
	Streams int64
	// KeepIdle is how long an unused connection is kept, Lifetime how long any;
	// 0 leaves it to the engine.
	KeepIdle time.Duration
	Lifetime time.Duration
}
