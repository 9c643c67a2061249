package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/telemesh/telemesh/policy-check/gcra"
)

// central is the same demand with a check at the hub for every request that
// takes no time: what a token bucket alone makes of it.
func central(s scenario, seed uint64) (outcome, error) {
	ps, err := limitPolicy(s.rate(), "", "")
	if err != nil {
		return outcome{}, err
	}
	b := ps[0].AllBuckets()[0]
	rate := gcra.Rate{Interval: b.Interval(), Burst: float64(b.Burst)}
	var bucket gcra.Bucket
	t := newTally()
	d := newDemand(seed, sidecars, float64(s.limit), s.move)
	type arrival struct {
		at      time.Duration
		sidecar int
	}
	requests := 0
	for now := time.Duration(0); now < simulated; now += step {
		var arrivals []arrival
		d.tick(now, step, func(at time.Duration, sidecar int) { arrivals = append(arrivals, arrival{at, sidecar}) })
		slices.SortFunc(arrivals, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
		for _, a := range arrivals {
			t.asked[a.at/time.Second][a.sidecar]++
			if bucket.Take(rate, float64(a.at), 1) == 1 {
				t.admitted[a.at/step]++
				t.got[a.at/time.Second][a.sidecar]++
			}
		}
		requests += len(arrivals)
	}
	out := t.outcome(float64(s.limit))
	out.scenario = s
	out.pulls = float64(requests) / simulated.Seconds()
	out.held = 100
	return out, nil
}
