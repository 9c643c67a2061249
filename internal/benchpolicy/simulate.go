package main

import (
	"fmt"
	"math"
	"os"
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
	requests    int
	// bound is what the policy promises for any window of a second.
	bound float64
}

// limitPolicy is one limit per second for a whole service, or for each user.
func limitPolicy(limit int, more string) ([]*policy.TrafficPolicy, error) {
	ps, problems := policy.Parse("bench.yaml", fmt.Appendf(nil, `
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: p, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: ratings}]
  rules:
  - name: limit
    limit: {rates: [{limit: %d, window: 1s}]%s}
`, limit, more))
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
	ps, err := limitPolicy(s.limit, "")
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
	if os.Getenv("PHASES") != "" {
		var lp, lh, lr int
		for _, at := range []time.Duration{20, 60, 80, 100, 120} {
			w.Run(at * time.Second)
			h, r := w.Held()
			var unused, unfair, n float64
			from := map[time.Duration]int{20: 0, 60: 20, 80: 60, 100: 80, 120: 100}[at]
			for x := from; x < int(at); x++ {
				asked, got := sum(t.asked[x]), sum(t.got[x])
				unused += math.Max(0, math.Min(float64(s.limit), asked)-got)
				n += math.Min(float64(s.limit), asked)
				if asked > float64(s.limit) {
					for i, due := range maxMin(t.asked[x], float64(s.limit)) {
						unfair += math.Abs(t.got[x][i]-due) / 2
					}
				}
			}
			d := float64(int(at) - from)
			fmt.Printf("   to %d s: pulls/s %.0f per1000 %.0f held %.1f%% unused %.2f%% unfair %.2f%%\n", at, float64(w.Pulls()-lp)/d, 1000*float64(w.Pulls()-lp)/float64(r-lr), 100*float64(h-lh)/float64(r-lr), 100*unused/n, 100*unfair/d/float64(s.limit))
			lp, lh, lr = w.Pulls(), h, r
		}
	}
	w.Run(simulated)
	out := t.outcome(float64(s.limit))
	out.scenario = s
	held, requests := w.Held()
	out.pulls = float64(w.Pulls()) / simulated.Seconds()
	out.held = 100 * float64(held) / float64(requests)
	out.requests = requests
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
