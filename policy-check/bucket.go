package policy

import (
	"fmt"
	"math"
	"time"
)

// Bucket is one rate of one rule, in the terms of the leases: every key of it
// is a bucket of its own. Buckets are comparable; an equal one keeps its state
// when policies are replaced.
type Bucket struct {
	// Name is the limit on the wire: namespace/policy/rule, then
	// "/override-n" and "/rate-n" where there is more than one.
	Name        string
	Limit       int64
	Window      time.Duration
	Burst       int64
	Scope       string
	MaxKeys     int
	Overflow    string
	OnHubDown   string
	HoldTimeout time.Duration
}

// Interval is the time that one request takes of the rate, in nanoseconds.
func (b Bucket) Interval() float64 { return float64(b.Window) / float64(b.Limit) }

// PerSecond is the rate in requests per second.
func (b Bucket) PerSecond() float64 { return float64(b.Limit) / b.Window.Seconds() }

// Bound is the most requests that any window of a length can see admitted with
// the hub's credits, where sidecars share one key and buy credits for a horizon
// ahead. What failure policies admit comes on top. In Pod scope it is exact for
// sidecars that all are at their limit.
func (b Bucket) Bound(window, horizon time.Duration, sidecars int) float64 {
	own := window.Seconds()*b.PerSecond() + float64(b.Burst)
	if b.Scope == ScopePod {
		return own * float64(sidecars)
	}
	return own + b.outstanding(horizon, sidecars)
}

// RestartBound is what a restart of the hub adds to Bound, in windows that touch
// it or the three horizons after it: the new hub begins with full buckets, and
// knows nothing of the credits that the old one granted.
func (b Bucket) RestartBound(horizon time.Duration, sidecars int) float64 {
	if b.Scope == ScopePod {
		return 0
	}
	return math.Max(float64(b.Burst), b.outstanding(horizon, sidecars))
}

// outstanding is the most credits that sidecars may hold.
func (b Bucket) outstanding(horizon time.Duration, sidecars int) float64 {
	return math.Ceil(b.PerSecond()*horizon.Seconds()) + float64(sidecars)
}

// Buckets returns the buckets of the rule's own rates. It is nil for a rule
// without a limit.
func (p *TrafficPolicy) Buckets(r *Rule) []Bucket {
	if r.Limit == nil {
		return nil
	}
	return p.buckets(r, r.Limit.Rates, p.ID()+"/"+r.Name)
}

// OverrideBuckets returns the buckets of the rule's i-th override.
func (p *TrafficPolicy) OverrideBuckets(r *Rule, i int) []Bucket {
	return p.buckets(r, r.Limit.Overrides[i].Rates, fmt.Sprintf("%s/%s/override-%d", p.ID(), r.Name, i+1))
}

// AllBuckets returns every bucket of the policy.
func (p *TrafficPolicy) AllBuckets() []Bucket {
	var out []Bucket
	for i := range p.Spec.Rules {
		r := &p.Spec.Rules[i]
		if r.Limit == nil {
			continue
		}
		out = append(out, p.Buckets(r)...)
		for o := range r.Limit.Overrides {
			out = append(out, p.OverrideBuckets(r, o)...)
		}
	}
	return out
}

func (p *TrafficPolicy) buckets(r *Rule, rates []Rate, name string) []Bucket {
	out := make([]Bucket, len(rates))
	for i, rate := range rates {
		out[i] = Bucket{
			Name:        name,
			Limit:       rate.Limit,
			Window:      time.Duration(rate.Window),
			Burst:       rate.Burst,
			Scope:       r.Limit.Scope,
			MaxKeys:     r.Limit.MaxKeys,
			Overflow:    r.Limit.Overflow,
			OnHubDown:   p.Spec.FailurePolicy.OnHubDown,
			HoldTimeout: time.Duration(p.Spec.FailurePolicy.HoldTimeout),
		}
		if i > 0 {
			out[i].Name = fmt.Sprintf("%s/rate-%d", name, i+1)
		}
	}
	return out
}
