// Package histogram is the mergeable latency histogram that sidecars count in
// and the hub adds up: log-linear, eight steps to each power of two, so any
// quantile is known within 6.25 % and merging loses nothing.
package histogram

import (
	"math"
	"math/bits"
)

// Buckets is the number of indexes that Index can return.
const Buckets = 8 * 62

// Index of the bucket that holds v (nanoseconds, or any other unit).
func Index(v uint64) int {
	if v < 8 {
		return int(v)
	}
	shift := bits.Len64(v) - 4 // leaves the leading one and three more bits
	return min(8*(shift+1)+int(v>>shift)-8, Buckets-1)
}

// Bounds of a bucket: it holds lower <= v < upper.
func Bounds(index int) (lower, upper float64) {
	if index < 8 {
		return float64(index), float64(index + 1)
	}
	step := math.Ldexp(1, index/8-1)
	lower = float64(8+index%8) * step
	return lower, lower + step
}

// Sparse is a histogram that stores only the buckets in use. The zero value is
// ready. Not safe for concurrent use.
type Sparse struct {
	counts map[uint16]uint64
	total  uint64
}

// Add counts n observations in the bucket index.
func (s *Sparse) Add(index int, n uint64) {
	if n == 0 || index < 0 || index >= Buckets {
		return
	}
	if s.counts == nil {
		s.counts = make(map[uint16]uint64)
	}
	s.counts[uint16(index)] += n
	s.total += n
}

// Merge adds o to s.
func (s *Sparse) Merge(o *Sparse) {
	for i, n := range o.counts {
		s.Add(int(i), n)
	}
}

// Count is the number of observations.
func (s *Sparse) Count() uint64 { return s.total }

// Quantile interpolates linearly within a bucket. It is -1 for an empty
// histogram.
func (s *Sparse) Quantile(q float64) float64 {
	if s.total == 0 {
		return -1
	}
	rank := q * float64(s.total)
	var seen float64
	for i := range Buckets {
		n := float64(s.counts[uint16(i)])
		if n == 0 {
			continue
		}
		if seen+n >= rank {
			lower, upper := Bounds(i)
			return lower + (upper-lower)*max(rank-seen, 0)/n
		}
		seen += n
	}
	return -1
}
