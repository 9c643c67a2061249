package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/telemesh/telemesh/internal/leasesim"
	policy "github.com/telemesh/telemesh/policy-check"
)

const (
	sidecars = 100
	// rtt is there and back between a sidecar and the hub.
	rtt   = 2 * time.Millisecond
	flush = 5 * time.Millisecond
	step  = time.Millisecond
	// limitName is the limit of limitPolicy.
	limitName = "shop/p/limit"
)

// scenario is one row of the table.
type scenario struct {
	limit   int
	move    time.Duration
	horizon time.Duration
}

// outcome is what a run shows, in percent of the limit unless it says otherwise.
type outcome struct {
	scenario
	// over is what was admitted above the limit, the mean over aligned seconds.
	over float64
	// worst of the aligned seconds, of all windows of one second, and of 100 ms.
	worstSecond, worstSliding, worst100ms float64
	// unused could have been admitted and was not; of what could have been.
	unused float64
	// unfair is the distance from max-min shares in seconds with too much
	// demand: 0 for those shares, 100 if nobody got what was due.
	unfair float64
	// pulls per second at the hub, and the share of requests that waited.
	pulls, held float64
	// bound is the most above the limit that the policy promises for any second.
	bound float64
}

func (s scenario) rate() string { return fmt.Sprintf("{limit: %d, window: 1s}", s.limit) }

// limitPolicy is a limit for a whole service; more goes into it, rule beside it.
func limitPolicy(rate, more, rule string) ([]*policy.TrafficPolicy, error) {
	ps, problems := policy.Parse("bench.yaml", fmt.Appendf(nil, `
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: p, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: ratings}]
  rules:
  - name: limit
    limit: {rates: [%s]%s}
%s`, rate, more, rule))
	if len(problems) > 0 {
		return nil, fmt.Errorf("parse policy: %v", problems)
	}
	return ps, nil
}

// tally is what was asked for and admitted.
type tally struct {
	admitted []float64   // by step
	asked    [][]float64 // by second and sidecar
	got      [][]float64
}

func newTally() *tally {
	t := &tally{admitted: make([]float64, simulated/step)}
	for range simulated / time.Second {
		t.asked = append(t.asked, make([]float64, sidecars))
		t.got = append(t.got, make([]float64, sidecars))
	}
	return t
}

// simulate runs one scenario.
func simulate(s scenario, seed uint64) (outcome, error) {
	ps, err := limitPolicy(s.rate(), "", "")
	if err != nil {
		return outcome{}, err
	}
	t := newTally()
	w := leasesim.New(leasesim.Options{
		Policies: ps, Sidecars: sidecars, Horizon: s.horizon, Flush: flush,
		Delay: func() time.Duration { return rtt / 2 },
		Decided: func(d leasesim.Decision) {
			if d.Taken.OK && d.At < simulated {
				t.admitted[d.At/step]++
				t.got[d.At/time.Second][d.Sidecar]++
			}
		},
	})
	demand := newDemand(seed, sidecars, float64(s.limit), s.move)
	var tick func()
	tick = func() {
		demand.tick(w.Now(), step, func(at time.Duration, sidecar int) {
			t.asked[at/time.Second][sidecar]++
			w.At(at, func() { w.Request(sidecar, limitName, "") })
		})
		if w.Now()+step < simulated {
			w.At(w.Now()+step, tick)
		}
	}
	w.At(0, tick)
	w.Run(simulated)
	out := t.outcome(float64(s.limit))
	out.scenario = s
	held, requests := w.Held()
	out.pulls = float64(w.Pulls()) / simulated.Seconds()
	out.held = 100 * float64(held) / float64(requests)
	b := ps[0].AllBuckets()[0]
	out.bound = 100 * (b.Bound(time.Second, s.horizon, sidecars)/float64(s.limit) - 1)
	return out, nil
}

func (t *tally) outcome(limit float64) outcome {
	out := outcome{worstSliding: t.worst(time.Second, limit), worst100ms: t.worst(100*time.Millisecond, limit)}
	var over, unused, could, unfair, scarce float64
	for s := range t.asked {
		asked, got := sum(t.asked[s]), sum(t.got[s])
		over += math.Max(0, got-limit)
		out.worstSecond = math.Max(out.worstSecond, 100*(got/limit-1))
		could += math.Min(limit, asked)
		unused += math.Max(0, math.Min(limit, asked)-got)
		if asked > limit {
			for i, due := range maxMin(t.asked[s], limit) {
				unfair += math.Abs(t.got[s][i] - due)
			}
			// Who gets too much takes it from others: each counts twice.
			scarce += 2 * limit
		}
	}
	out.over = 100 * over / limit / float64(len(t.asked))
	out.unused = 100 * unused / could
	if scarce > 0 {
		out.unfair = 100 * unfair / scarce
	}
	return out
}

// worst is the most above the limit in any window, in percent.
func (t *tally) worst(window time.Duration, limit float64) float64 {
	n := int(window / step)
	sum, most := 0.0, 0.0
	for i, v := range t.admitted {
		sum += v
		if i >= n {
			sum -= t.admitted[i-n]
		}
		most = math.Max(most, sum)
	}
	return math.Max(0, 100*(most/(limit*window.Seconds())-1))
}

func sum(v []float64) float64 {
	s := 0.0
	for _, x := range v {
		s += x
	}
	return s
}

// maxMin shares a capacity: all get what they ask for up to the same level.
func maxMin(asked []float64, capacity float64) []float64 {
	order := make([]int, len(asked))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case asked[a] < asked[b]:
			return -1
		case asked[a] > asked[b]:
			return 1
		}
		return 0
	})
	due := make([]float64, len(asked))
	for k, i := range order {
		due[i] = math.Min(asked[i], capacity/float64(len(order)-k))
		capacity -= due[i]
	}
	return due
}
