package lease_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	"github.com/telemesh/telemesh/internal/leasesim"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/lease"
	"pgregory.net/rapid"
)

// trial is one random world and what its hub and sidecars did.
type trial struct {
	rt       *rapid.T
	rand     *rand.Rand
	world    *leasesim.World
	bucket   policy.Bucket
	sidecars int
	keys     int
	calm     bool // nothing is lost

	admitted map[string][]time.Duration // by the hub's bucket, in order
	restarts []time.Duration
	grants   map[string]seen
	from     []time.Duration // the start of each stream
}

// seen is what the hub's last grant of a key told.
type seen struct {
	at        time.Duration
	remaining int64
	// capped is set when a grant fell short though the bucket had more.
	capped time.Duration
}

const horizon = 100 * time.Millisecond

func newTrial(rt *rapid.T) *trial {
	tr := &trial{
		rt: rt, rand: rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0)),
		sidecars: rapid.IntRange(1, 8).Draw(rt, "sidecars"),
		keys:     rapid.IntRange(1, 2).Draw(rt, "keys"),
		calm:     rapid.Bool().Draw(rt, "calm"),
		admitted: make(map[string][]time.Duration),
		grants:   make(map[string]seen),
	}
	limit := rapid.SampledFrom([]int{1, 7, 50, 300, 1000}).Draw(rt, "limit")
	window := rapid.SampledFrom([]time.Duration{time.Second, 250 * time.Millisecond, 3 * time.Second}).Draw(rt, "window")
	burst := rapid.SampledFrom([]int{0, 1, 3, 20, 400}).Draw(rt, "burst")
	onHubDown := rapid.SampledFrom([]string{"LocalShare", "Allow", "Deny"}).Draw(rt, "onHubDown")
	rate := fmt.Sprintf("{limit: %d, window: %s", limit, window)
	if burst > 0 {
		rate += fmt.Sprintf(", burst: %d", burst)
	}
	ps, problems := policy.Parse("p.yaml", fmt.Appendf(nil, `
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: ratings}
spec:
  targetRefs: [{kind: Service, name: ratings}]
  failurePolicy: {onHubDown: %s}
  rules:
  - name: limit
    limit: {key: [source.workload], rates: [%s}]}
`, onHubDown, rate))
	if len(problems) > 0 {
		rt.Fatal(problems)
	}
	tr.bucket = ps[0].AllBuckets()[0]
	slowest := rapid.SampledFrom([]time.Duration{time.Millisecond, 5 * time.Millisecond, 40 * time.Millisecond}).Draw(rt, "delay")
	o := leasesim.Options{
		Policies: ps, Sidecars: tr.sidecars, Horizon: horizon, Flush: 5 * time.Millisecond,
		Delay:   func() time.Duration { return time.Duration(tr.rand.Int64N(int64(slowest))) },
		Decided: tr.decided,
		Granted: tr.granted,
	}
	if !tr.calm {
		o.Twice = func() (time.Duration, bool) {
			return time.Duration(tr.rand.Int64N(int64(2 * time.Second))), tr.rand.IntN(10) == 0
		}
	}
	tr.world = leasesim.New(o)
	return tr
}

func (tr *trial) granted(at time.Duration, _ int, g *policyv1.Grant) {
	s := seen{at: at, remaining: g.GetRemaining(), capped: tr.grants[g.GetKey()].capped}
	if g.GetRetryAfterNanos() > 0 && g.GetRemaining() > tr.bucket.Burst/2 {
		s.capped = at + time.Duration(g.GetRetryAfterNanos())
	}
	tr.grants[g.GetKey()] = s
}

func (tr *trial) decided(d leasesim.Decision) {
	if d.Taken.Origin != lease.OriginLease {
		return
	}
	if d.Taken.OK {
		tr.admitted[d.Key] = append(tr.admitted[d.Key], d.At)
	}
}

// traffic is phases in which some sidecars ask at steady rates, from little to
// many times the limit, so that pockets fill in one place after another; and
// between them stampedes that empty all pockets at once.
func (tr *trial) traffic(length time.Duration) {
	for from := time.Duration(0); from < length; {
		to := from + 20*time.Millisecond + time.Duration(tr.rand.Int64N(int64(300*time.Millisecond)))
		key := fmt.Sprint("key-", tr.rand.IntN(tr.keys))
		for range 1 + tr.rand.IntN(2) {
			tr.steady(tr.rand.IntN(tr.sidecars), key, from, to)
		}
		if tr.rand.IntN(4) == 0 {
			for sidecar := range tr.sidecars {
				tr.stampede(sidecar, key, to)
			}
		}
		from = to
		if tr.rand.IntN(6) == 0 {
			from += time.Duration(tr.rand.Int64N(int64(time.Second)))
		}
	}
}

func (tr *trial) steady(sidecar int, key string, from, to time.Duration) {
	perSec := max(tr.bucket.PerSecond()*3*tr.rand.Float64(), 2)
	for at := from; at < to; at += time.Duration(tr.rand.ExpFloat64() * 1e9 / perSec) {
		tr.world.At(at, func() { tr.world.Request(sidecar, tr.bucket.Name, key) })
	}
}

// stampede is more requests at once than any pocket or bucket can admit.
func (tr *trial) stampede(sidecar int, key string, at time.Duration) {
	for range int(tr.bucket.Burst) + int(2*tr.bucket.PerSecond()*horizon.Seconds()) + 3 {
		tr.world.At(at, func() { tr.world.Request(sidecar, tr.bucket.Name, key) })
	}
}

// faults breaks streams and ends processes.
func (tr *trial) faults(length time.Duration) {
	when := func() time.Duration { return time.Duration(tr.rand.Int64N(int64(length))) }
	away := func() time.Duration { return time.Duration(tr.rand.Int64N(int64(600 * time.Millisecond))) }
	for range tr.rand.IntN(8) {
		sidecar := tr.rand.IntN(tr.sidecars)
		tr.world.At(when(), func() { tr.world.Break(sidecar, away()) })
	}
	for range tr.rand.IntN(3) {
		sidecar := tr.rand.IntN(tr.sidecars)
		tr.world.At(when(), func() { tr.world.RestartSidecar(sidecar) })
	}
	for range tr.rand.IntN(3) {
		tr.world.At(when(), func() {
			tr.restarts = append(tr.restarts, tr.world.Now())
			tr.world.RestartHub(away())
		})
	}
}

// exceeded looks at every window that begins and ends with an admission, and
// describes one with more than the policy promises, adding what restarts of the
// hub in the window or shortly before it may.
//
// Of all windows that end at one admission and know of as many restarts, the one
// that matters begins where the count is farthest below the rate.
func (tr *trial) exceeded(admitted []time.Duration) string {
	slices.Sort(tr.restarts)
	none := tr.bucket.Bound(0, horizon, tr.sidecars)
	type start struct {
		at    time.Duration
		value float64
	}
	worst := make([]start, len(tr.restarts)+1) // by the restarts that are over when it begins
	for i := range worst {
		worst[i].value = math.Inf(1)
	}
	for n, at := range admitted {
		value := float64(n) - tr.bucket.PerSecond()*at.Seconds()
		begun, over := 0, 0
		for _, r := range tr.restarts {
			if r <= at {
				begun++
			}
			if r+3*horizon < at {
				over++
			}
		}
		if value < worst[over].value {
			worst[over] = start{at, value}
		}
		for over, w := range worst[:begun+1] {
			most := none + float64(begun-over)*tr.bucket.RestartBound(horizon, tr.sidecars)
			if excess := value - w.value + 1; excess > most+1e-3 {
				return fmt.Sprintf("%v to %v: %v above the rate, at most %v", w.at, at, excess, most)
			}
		}
	}
	return ""
}

// TestEveryWindowStaysBelowTheBound: whatever comes when, is late, lost or comes
// twice, and whoever restarts, no window of any length admits more of the hub's
// credits than the policy's bound.
func TestEveryWindowStaysBelowTheBound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tr := newTrial(rt)
		length := 4 * time.Second
		tr.traffic(length)
		if !tr.calm {
			tr.faults(length)
		}
		tr.world.Run(length + time.Second)
		for key, at := range tr.admitted {
			if what := tr.exceeded(at); what != "" {
				rt.Fatalf("%s: %s (%+v, %d sidecars, restarts %v)", key, what, tr.bucket, tr.sidecars, tr.restarts)
			}
		}
	})
}
