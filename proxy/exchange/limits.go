package exchange

import (
	"math"
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
	limit := g.Limit
	if limit == 0 {
		limit = math.MaxInt64
	}
	if g.used.Add(1) > limit {
		g.used.Add(-1)
		g.full.Add(1)
		return false
	}
	return true
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
