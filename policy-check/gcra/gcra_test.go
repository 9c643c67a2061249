package gcra

import (
	"testing"

	"pgregory.net/rapid"
)

const second = 1e9

func TestTake(t *testing.T) {
	r := Rate{Interval: second / 50, Burst: 2}
	var b Bucket
	take := func(now float64, n, want int64) {
		t.Helper()
		if got := b.Take(r, now, n); got != want {
			t.Errorf("at %v: took %d, want %d", now, got, want)
		}
	}
	take(second, 5, 2)
	take(second, 1, 0)
	if got := b.Until(r, second, 1); got != second/50 {
		t.Errorf("Until: %v", got)
	}
	take(second*1.02, 1, 1)
	take(second*1.5, 9, 2)
	b.Spend(r, second*1.5, 3)
	if got := b.Tokens(r, second*1.5); got != -3 {
		t.Errorf("Tokens in debt: %v", got)
	}
	take(second*1.5+3*second/50, 1, 0)
	take(second*1.5+4*second/50, 1, 1)
}

// TestNeverMoreThanRateAndBurst is the definition of the algorithm: in no
// window does a bucket give more than window/interval + burst.
func TestNeverMoreThanRateAndBurst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rate{
			Interval: second * float64(rapid.IntRange(1, 60).Draw(t, "window")) / float64(rapid.IntRange(1, 5000).Draw(t, "limit")),
			Burst:    float64(rapid.IntRange(1, 20).Draw(t, "burst")),
		}
		var b Bucket
		now := 0.0
		type grant struct{ at, n float64 }
		var grants []grant
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now += r.Interval * rapid.Float64Range(0, 5).Draw(t, "pause")
			grants = append(grants, grant{now, float64(b.Take(r, now, rapid.Int64Range(0, 30).Draw(t, "want")))})
		}
		for i := range grants {
			sum := 0.0
			for _, g := range grants[i:] {
				sum += g.n
				if bound := (g.at-grants[i].at)/r.Interval + r.Burst; sum > bound+0.001 {
					t.Fatalf("%v tokens within %v ns, bound %v", sum, g.at-grants[i].at, bound)
				}
			}
		}
	})
}
