package sql

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/telemesh/telemesh/internal/histogram"
)

// maxExact is how many values the quantiles of a query hold to be exact. A group
// that comes to more goes over to a histogram.
const maxExact = 1 << 20

// quantiles is quantile(x, q).
type quantiles struct {
	of      Kind
	q       float64
	between bool // interpolate between two values, as quantile_cont
	m       *budget
	lists   [][]float64
	ints    [][]int64
	sketch  []*histogram.Sparse
	rough   int // groups in sketch
}

func (s *quantiles) kind() Kind {
	if s.between {
		return KindFloat
	}
	return s.of
}

func (s *quantiles) grow(groups int) {
	s.sketch = growTo(s.sketch, groups)
	if s.of == KindFloat {
		s.lists = growTo(s.lists, groups)
	} else {
		s.ints = growTo(s.ints, groups)
	}
}

func (s *quantiles) add(x *vector, groups []int32) error {
	for i, g := range groups {
		if g < 0 || x.null(i) {
			continue
		}
		if s.sketch[g] == nil && s.m.exact < maxExact {
			if err := s.hold(g, x, i); err != nil {
				return err
			}
			continue
		}
		if err := s.count(g, x, i); err != nil {
			return err
		}
	}
	return nil
}

// hold keeps a value.
func (s *quantiles) hold(g int32, x *vector, i int) error {
	s.m.exact++
	if s.of == KindFloat {
		s.lists[g] = append(s.lists[g], x.floats[i])
	} else {
		s.ints[g] = append(s.ints[g], x.ints[i])
	}
	return s.m.take(8)
}

// sketchBytes is about what a histogram takes.
const sketchBytes = 8 << 10

// count adds a value to the group's histogram, which has those held so far.
func (s *quantiles) count(g int32, x *vector, i int) error {
	if s.of == KindFloat {
		return errRough
	}
	if s.sketch[g] == nil {
		if err := s.m.take(sketchBytes - 8*len(s.ints[g])); err != nil {
			return err
		}
		s.sketch[g] = &histogram.Sparse{}
		s.rough++
		s.m.exact -= len(s.ints[g])
		for _, v := range s.ints[g] {
			if v < 0 {
				return errRough
			}
			s.sketch[g].Add(histogram.Index(uint64(v)), 1)
		}
		s.ints[g] = nil
	}
	if x.ints[i] < 0 {
		return errRough
	}
	s.sketch[g].Add(histogram.Index(uint64(x.ints[i])), 1)
	return nil
}

var errRough = fmt.Errorf("a quantile of more than %d values is taken from a histogram, which has no fractions and no negative numbers: take it of the column itself, as quantile(duration, 0.99) / 1e6", maxExact)

func (s *quantiles) value(g int) Value {
	switch {
	case s.sketch[g] != nil:
		v := s.sketch[g].Quantile(s.q)
		if s.between {
			return Value{Kind: KindFloat, Float: v}
		}
		return Value{Kind: s.of, Int: int64(math.Round(v))}
	case s.of == KindFloat && len(s.lists[g]) > 0:
		list := s.lists[g]
		slices.SortFunc(list, func(a, b float64) int { return cmp.Compare(a, b) })
		if s.between {
			return Value{Kind: KindFloat, Float: interpolate(s.q, len(list), func(i int) float64 { return list[i] })}
		}
		return Value{Kind: KindFloat, Float: list[rank(s.q, len(list))]}
	case s.of != KindFloat && len(s.ints[g]) > 0:
		list := s.ints[g]
		slices.Sort(list)
		if s.between {
			return Value{Kind: KindFloat, Float: interpolate(s.q, len(list), func(i int) float64 { return float64(list[i]) })}
		}
		return Value{Kind: s.of, Int: list[rank(s.q, len(list))]}
	}
	return Value{}
}

// rank is the place of the least value that at least the share q is not above,
// as DuckDB's quantile_disc has it.
func rank(q float64, n int) int {
	return max(1, n-int(math.Floor(float64(n)-q*float64(n)))) - 1
}

// interpolate is the value at q·(n-1), as DuckDB's quantile_cont.
func interpolate(q float64, n int, at func(int) float64) float64 {
	place := q * float64(n-1)
	low, high := int(math.Floor(place)), int(math.Ceil(place))
	return at(low) + (at(high)-at(low))*(place-float64(low))
}
