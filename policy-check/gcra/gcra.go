// Package gcra is the generic cell rate algorithm on one number per bucket
// (ITU-T I.371, virtual scheduling). Hub and sidecar share it.
package gcra

import "math"

// Rate is a bucket's shape. Times are nanoseconds on any clock that never goes
// back; they are float64 because a rate need not divide a second (exact to
// 1 ns for 104 days from the clock's zero).
type Rate struct {
	// Interval is the time that one token takes to come back.
	Interval float64
	// Burst is how many tokens a full bucket holds, at least 1.
	Burst float64
}

// Bucket is one bucket's state: the theoretical arrival time, at which it is
// full again. The zero value is a bucket full since the clock's zero. It is not
// safe for concurrent use.
type Bucket float64

// Tokens is what the bucket holds, with fractions; below zero it is in debt.
func (b Bucket) Tokens(r Rate, now float64) float64 {
	return r.Burst - math.Max(float64(b)-now, 0)/r.Interval
}

// Take takes up to n tokens and returns how many it got.
func (b *Bucket) Take(r Rate, now float64, n int64) int64 {
	got := min(n, int64(math.Floor(b.Tokens(r, now)+epsilon)))
	if got <= 0 {
		return 0
	}
	b.Spend(r, now, got)
	return got
}

// Spend takes n tokens whether they are there or not.
func (b *Bucket) Spend(r Rate, now float64, n int64) {
	*b = Bucket(math.Max(float64(*b), now) + float64(n)*r.Interval)
}

// Until is the time until n tokens are there, zero if they are.
func (b Bucket) Until(r Rate, now float64, n float64) float64 {
	return math.Max((n-b.Tokens(r, now))*r.Interval, 0)
}

// Reset is the time until the bucket is full.
func (b Bucket) Reset(now float64) float64 { return math.Max(float64(b)-now, 0) }

// epsilon forgives rounding: a token that is there to a millionth is there. It
// is granted, and paid for in full, so no rate grows by it.
const epsilon = 1e-6
