package exchange

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestGateNeverHoldsMoreThanItsLimit(t *testing.T) {
	g := Gate{Limit: 3}
	var inside, entered, refused atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if !g.Enter() {
					refused.Add(1)
					continue
				}
				entered.Add(1)
				if n := inside.Add(1); n > 3 {
					t.Errorf("%d inside", n)
				}
				inside.Add(-1)
				g.Leave()
			}
		})
	}
	wg.Wait()
	if g.Used() != 0 || g.Overflows() != uint64(refused.Load()) || entered.Load()+refused.Load() != 8000 {
		t.Errorf("used %d, overflows %d, entered %d, refused %d", g.Used(), g.Overflows(), entered.Load(), refused.Load())
	}
}

func TestAGateWithoutALimitCounts(t *testing.T) {
	var g Gate
	first, second := g.Enter(), g.Enter()
	if !first || !second || g.Used() != 2 {
		t.Errorf("used %d, want 2", g.Used())
	}
}
