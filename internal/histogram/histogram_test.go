package histogram

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestIndexAndBoundsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Uint64Range(0, 1<<62).Draw(t, "v")
		lower, upper := Bounds(Index(v))
		if f := float64(v); f < lower || f >= upper && f < math.Ldexp(1, 52) {
			t.Fatalf("%d is in bucket %d, which holds [%g, %g)", v, Index(v), lower, upper)
		}
	})
}

func TestIndexRises(t *testing.T) {
	last := -1
	for _, v := range []uint64{0, 1, 7, 8, 9, 15, 16, 17, 18, 31, 32, 1000, 1e6, 1e9, 1e12, math.MaxUint64} {
		i := Index(v)
		if i < last || i >= Buckets {
			t.Errorf("Index(%d) = %d after %d", v, i, last)
		}
		last = i
	}
}

func TestQuantileIsWithinABucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vs := rapid.SliceOfN(rapid.Uint64Range(8, 1e12), 1, 200).Draw(t, "values")
		q := rapid.Float64Range(0.01, 0.99).Draw(t, "q")
		var s Sparse
		for _, v := range vs {
			s.Add(Index(v), 1)
		}
		slices.Sort(vs)
		exact := float64(vs[min(int(math.Ceil(q*float64(len(vs))))-1, len(vs)-1)])
		if got := s.Quantile(q); math.Abs(got-exact)/exact > 0.13 {
			t.Fatalf("quantile %g = %g, exact %g", q, got, exact)
		}
	})
}

func TestMergeEqualsCountingTogether(t *testing.T) {
	var a, b, both Sparse
	for i := range 100 {
		v := Index(uint64(i * i * 1000))
		if i%2 == 0 {
			a.Add(v, 1)
		} else {
			b.Add(v, 1)
		}
		both.Add(v, 1)
	}
	a.Merge(&b)
	if a.Count() != both.Count() || a.Quantile(0.95) != both.Quantile(0.95) {
		t.Errorf("merged: %d, %g; together: %d, %g", a.Count(), a.Quantile(0.95), both.Count(), both.Quantile(0.95))
	}
}

func TestEmptyHistogramHasNoQuantile(t *testing.T) {
	var s Sparse
	if q := s.Quantile(0.5); q != -1 {
		t.Errorf("quantile of nothing = %g, want -1", q)
	}
}
