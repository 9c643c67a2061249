package lease_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	"github.com/telemesh/telemesh/internal/leasesim"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/lease"
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
	slowest  time.Duration // a message is faster
	// outstanding are the credits when the hub made a grant.
	outstanding map[*policyv1.Grant]int64
	pockets     map[place]*pocket
}

// place is one key at one sidecar.
type place struct {
	sidecar int
	key     string
}

// pocket is what a sidecar must have of a key, and what it was last told.
type pocket struct {
	credits int64         // at least
	until   time.Duration // when the credits may end
	last    *policyv1.Grant
	at      time.Duration // when last came
}

const horizon = 100 * time.Millisecond

func newTrial(rt *rapid.T) *trial {
	tr := &trial{
		rt: rt, rand: rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0)),
		sidecars: rapid.IntRange(1, 5).Draw(rt, "sidecars"),
		keys:     rapid.IntRange(1, 2).Draw(rt, "keys"),
		calm:     rapid.Bool().Draw(rt, "calm"),
		admitted: make(map[string][]time.Duration),
		slowest:  rapid.SampledFrom([]time.Duration{time.Millisecond, 5 * time.Millisecond, 40 * time.Millisecond}).Draw(rt, "delay"),

		outstanding: make(map[*policyv1.Grant]int64),
		pockets:     make(map[place]*pocket),
	}
	limit := rapid.SampledFrom([]int{1, 50, 300, 1000}).Draw(rt, "limit")
	window := rapid.SampledFrom([]time.Duration{time.Second, 3 * time.Second}).Draw(rt, "window")
	burst := rapid.SampledFrom([]int{0, 1, 3, 20, 60}).Draw(rt, "burst")
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
	o := leasesim.Options{
		Policies: ps, Sidecars: tr.sidecars, Horizon: horizon, Flush: 5 * time.Millisecond,
		Delay:   func() time.Duration { return time.Duration(tr.rand.Int64N(int64(tr.slowest))) },
		Decided: tr.decided,
		Granted: tr.granted, Received: tr.received,
	}
	if !tr.calm {
		o.Twice = func() (time.Duration, bool) {
			return time.Duration(tr.rand.Int64N(int64(2 * time.Second))), tr.rand.IntN(10) == 0
		}
	}
	tr.world = leasesim.New(o)
	return tr
}

func (tr *trial) granted(_ time.Duration, _ int, g *policyv1.Grant) {
	tr.outstanding[g] = tr.world.Hub().Stats().Limits[0].Outstanding
}

func (tr *trial) pocket(sidecar int, key string) *pocket {
	at := place{sidecar, key}
	if tr.pockets[at] == nil {
		tr.pockets[at] = &pocket{}
	}
	return tr.pockets[at]
}

func (tr *trial) received(at time.Duration, sidecar int, g *policyv1.Grant) {
	p := tr.pocket(sidecar, g.GetKey())
	if at >= p.until {
		p.credits = 0
	}
	p.last, p.at = g, at
	if n := int64(g.GetCredits()); n > 0 {
		p.credits += n
		// They count from when the pull was sent.
		p.until = at - 2*tr.slowest + time.Duration(g.GetTtlNanos())
	}
}

func (tr *trial) decided(d leasesim.Decision) {
	if d.Taken.Origin != lease.OriginLease {
		return
	}
	p := tr.pocket(d.Sidecar, d.Key)
	if d.Taken.OK {
		tr.admitted[d.Key] = append(tr.admitted[d.Key], d.At)
		p.credits = max(p.credits-1, 0)
		return
	}
	if tr.calm && tr.keys == 1 {
		tr.refused(d, p)
	}
}

// refused looks whether a refusal has a reason: no credits in the pocket, and a
// hub that lately had no more than the half of the bucket that fair shares are
// for, or as many credits outstanding as there may be.
func (tr *trial) refused(d leasesim.Decision, p *pocket) {
	if p.credits > 0 && d.At < p.until {
		tr.rt.Fatalf("refused at %v with %d credits in the pocket", d.At, p.credits)
	}
	retry := time.Duration(p.last.GetRetryAfterNanos())
	if d.At >= p.at+retry {
		tr.rt.Fatalf("refused at %v, though the hub said at %v to ask again after %v", d.At, p.at, retry)
	}
	reserve := tr.bucket.Burst/2 + 1
	wait := time.Duration(float64(reserve+2) * tr.bucket.Interval())
	if most := max(horizon/5, wait); retry > most {
		tr.rt.Fatalf("refused for %v, though %d tokens take %v", retry, reserve, wait)
	}
	full := int64(math.Ceil(tr.bucket.PerSecond() * horizon.Seconds()))
	if out := tr.outstanding[p.last]; p.last.GetRemaining() > reserve && out < full {
		tr.rt.Fatalf("refused at %v by %v, with only %d of %d credits outstanding", d.At, p.last, out, full)
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
		switch tr.rand.IntN(4) {
		case 0:
			tr.stampede(tr.rand.IntN(tr.sidecars), key, to)
		case 1:
			for sidecar := range tr.sidecars {
				tr.stampede(sidecar, key, to)
			}
		}
		from = to
		if tr.rand.IntN(3) == 0 {
			from += time.Duration(tr.rand.Int64N(int64(3 * horizon)))
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
// credits than the policy's bound; and while nothing is lost, nothing is refused
// that the pocket or the bucket has enough for.
func TestEveryWindowStaysBelowTheBound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tr := newTrial(rt)
		length := 3 * time.Second
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
