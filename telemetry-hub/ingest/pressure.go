package ingest

import (
	"context"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// lookEvery is how often memory is looked at.
	lookEvery = time.Second
	// collectEvery is how often a collection is forced while admission is not open:
	// without one nobody knows that memory suffices again.
	collectEvery = 5
)

// Shares of the limit, in percent, at which admission narrows, stops, and goes back.
// Beyond nine tenths the runtime collects all the time and the hub does nothing else.
const (
	narrowAt  = 80
	stopAt    = 90
	stopUntil = 85
	openBelow = 75
)

// pressure narrows admission while memory is short. One goroutine uses it, others
// may read used.
type pressure struct {
	limit     int64
	usage     func() (bytes int64, cycles uint64)
	admission *admission
	log       *slog.Logger
	used      atomic.Int64

	level  level
	since  time.Time // when it left open
	cycles uint64    // of the collection that the last look knew
	stale  int       // looks since then
}

// run looks until ctx ends. Without a limit it only measures.
func (p *pressure) run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		p.look()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *pressure) look() {
	used, cycles := p.usage()
	p.used.Store(used)
	if p.limit <= 0 {
		return
	}
	if p.stale++; cycles != p.cycles {
		p.cycles, p.stale = cycles, 0
	}
	next := nextLevel(p.level, used*100/p.limit)
	if next != p.level {
		p.tell(next, used)
		p.level = next
		p.admission.setLevel(next)
	}
	if next != open && p.stale >= collectEvery {
		p.stale = 0
		runtime.GC()
	}
}

// tell logs the beginning and the end of a shortage and, once, that nothing is taken
// in at all.
func (p *pressure) tell(next level, used int64) {
	switch {
	case p.level == open:
		p.since = time.Now()
		p.log.Warn("memory is short: batches are taken in one at a time or not at all, and sidecars keep the newest; raise --memory-limit or send the sidecars to more hubs",
			"used_bytes", used, "limit_bytes", p.limit)
	case next == open:
		p.log.Info("memory suffices again", "used_bytes", used, "limit_bytes", p.limit, "took", time.Since(p.since))
	}
}

// nextLevel is the level after one at which so many percent of the limit are used.
// It goes back later than it came, so that it does not change with every look.
func nextLevel(now level, percent int64) level {
	switch {
	case percent >= stopAt, now == stopped && percent >= stopUntil:
		return stopped
	case percent >= narrowAt, now != open && percent >= openBelow:
		return narrowed
	}
	return open
}

// Shares of the memory limit, and bounds, of the budget for batches under way.
const (
	budgetShare = 4
	leastBudget = 16 << 20
	mostBudget  = 256 << 20
)

// budgetOf is how many bytes of batches may be under way under a memory limit, 0 for
// none.
func budgetOf(limit int64) int64 {
	if limit <= 0 {
		return mostBudget
	}
	return min(max(limit/budgetShare, leastBudget), mostBudget)
}
