package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/identity"
)

func sum64(s string) uint64 { return xxhash.Sum64String(s) }

// rig is a cluster on a clock of its own.
type rig struct {
	*Cluster
	t   *testing.T
	now atomic.Int64
}

func newRig(t *testing.T, s Settings, hosts int) *rig {
	r := &rig{t: t}
	seeded := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	r.Cluster = newCluster("reviews", "default", "reviews.default.svc.cluster.local", s, r.now.Load, func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return seeded.Uint64()
	})
	r.set(hosts)
	return r
}

func (r *rig) set(hosts int) { r.SetEndpoints(someHosts(hosts)) }

func someHosts(n int) []Host {
	out := make([]Host, n)
	for i := range out {
		out[i] = Host{Address: fmt.Sprintf("10.0.0.%d:80", i+1), Healthy: true, Peer: identity.Peer{Workload: "w"}}
	}
	return out
}

func (r *rig) pick(k Key) *Endpoint {
	r.t.Helper()
	e, err := r.Pick(k)
	if err != nil {
		r.t.Fatalf("Pick: %v", err)
	}
	return e
}

func (r *rig) pass(d time.Duration) { r.now.Add(int64(d)) }

var fine = exchange.Outcome{Status: 200, FirstByte: time.Millisecond, Duration: 2 * time.Millisecond}

// spread picks n times, each done at once.
func (r *rig) spread(n int) map[string]int {
	got := map[string]int{}
	for range n {
		e := r.pick(Key{})
		got[e.Address]++
		e.Done(fine)
	}
	return got
}

func TestRoundRobinTakesTurns(t *testing.T) {
	for address, n := range newRig(t, Settings{Balancer: RoundRobin}, 7).spread(7000) {
		if n != 1000 {
			t.Errorf("%s has %d of 7000", address, n)
		}
	}
}

// The bound of the next tests is more than six standard deviations, and the
// random source is seeded.
func TestRandomChoicesAreEven(t *testing.T) {
	for _, s := range []Settings{{Balancer: Random}, {Balancer: LeastInFlight}, {Balancer: RingHash}, {Balancer: Maglev}} {
		for address, n := range newRig(t, s, 10).spread(100_000) {
			if n < 9_400 || n > 10_600 {
				t.Errorf("%s: %s has %d of 100000", s.Balancer, address, n)
			}
		}
	}
}

func TestLeastRequestAvoidsTheSlow(t *testing.T) {
	r := newRig(t, Settings{}, 3)
	got := map[string]int{}
	for range 3000 {
		e := r.pick(Key{})
		got[e.Address]++
		o := fine
		if e.Address == "10.0.0.1:80" {
			o.FirstByte = 50 * time.Millisecond
		}
		e.Done(o)
		r.pass(time.Millisecond)
	}
	if slow := got["10.0.0.1:80"]; slow == 0 || slow > 300 {
		t.Errorf("the slow endpoint has %d of 3000, want few but some: %v", slow, got)
	}
}

// A version that takes twice as long has fewer requests, and still some.
func TestLeastRequestDoesNotStarveTheSlower(t *testing.T) {
	r := newRig(t, Settings{}, 3)
	got := map[string]int{}
	for range 9000 {
		e := r.pick(Key{})
		got[e.Address]++
		o := fine
		if e.Address != "10.0.0.1:80" {
			o.FirstByte = 2 * time.Millisecond
		}
		e.Done(o)
		r.pass(10 * time.Millisecond)
	}
	for address, n := range got {
		if n < 1500 {
			t.Errorf("%s has %d of 9000: %v", address, n, got)
		}
	}
}

func TestAnEndpointRecoversFromManyFailures(t *testing.T) {
	r := newRig(t, Settings{}, 2)
	for range 10_000 {
		r.outcome(addrOne, 1, exchange.Outcome{Status: 500, FirstByte: time.Millisecond})
	}
	if got := r.Status().Endpoints[0].LatencyMS; got != worst {
		t.Errorf("latency %v ms, want %v", got, worst)
	}
	fast := exchange.Outcome{Status: 200, FirstByte: 200 * time.Microsecond}
	for range 120 {
		r.outcome(addrOne, 1, fast)
		r.outcome(addrTwo, 1, fast)
		r.pass(time.Second)
	}
	s := r.current.Load()
	if bad, good := r.load(s, 0, r.now.Load()), r.load(s, 1, r.now.Load()); bad != good {
		t.Errorf("two minutes later their loads are %v and %v, want equal", bad, good)
	}
}

func TestLeastRequestIsEvenAmongTheFast(t *testing.T) {
	r := newRig(t, Settings{}, 2)
	got := map[string]int{}
	for range 10_000 {
		e := r.pick(Key{})
		got[e.Address]++
		o := fine
		o.FirstByte = 200 * time.Microsecond
		if e.Address == "10.0.0.1:80" {
			o.FirstByte = 700 * time.Microsecond
		}
		e.Done(o)
		r.pass(time.Millisecond)
	}
	if n := got["10.0.0.1:80"]; n < 4_500 || n > 5_500 {
		t.Errorf("picks %v, want halves", got)
	}
}

func TestLeastRequestAvoidsTheBusy(t *testing.T) {
	for _, b := range []Balancer{LeastRequest, LeastInFlight} {
		r := newRig(t, Settings{Balancer: b}, 2)
		held := map[string]int{}
		for range 100 {
			held[r.pick(Key{}).Address]++ // never Done: load grows
		}
		if d := held["10.0.0.1:80"] - held["10.0.0.2:80"]; d < -2 || d > 2 {
			t.Errorf("%s: 100 held requests spread %v", b, held)
		}
	}
}

func TestFastFailuresAttractNothing(t *testing.T) {
	r := newRig(t, Settings{}, 2)
	got := map[string]int{}
	for range 1000 {
		e := r.pick(Key{})
		got[e.Address]++
		o := fine
		if e.Address == "10.0.0.1:80" {
			o = exchange.Outcome{Failure: exchange.ConnectFailure, Duration: 10 * time.Microsecond}
		}
		e.Done(o)
		r.pass(time.Millisecond)
	}
	if n := got["10.0.0.1:80"]; n > 50 {
		t.Errorf("the endpoint that refuses has %d of 1000", n)
	}
}

func TestHealthOfDiscovery(t *testing.T) {
	r := newRig(t, Settings{}, 0)
	if _, err := r.Pick(Key{}); !errors.Is(err, ErrNoHealthy) {
		t.Errorf("no endpoint: %v, want ErrNoHealthy", err)
	}
	hosts := someHosts(3)
	hosts[0].Healthy, hosts[1].Healthy = false, false
	r.SetEndpoints(hosts)
	if got := r.spread(100); got["10.0.0.3:80"] != 100 {
		t.Errorf("picks %v, want the healthy one only", got)
	}
	hosts[2].Healthy = false
	r.SetEndpoints(hosts)
	if got := r.spread(100); len(got) != 3 {
		t.Errorf("picks %v, want all when none is healthy", got)
	}
}

func TestSetEndpointsKeepsTheStateOfThoseThatStay(t *testing.T) {
	r := newRig(t, Settings{}, 2)
	one := r.pick(Key{})
	one.Done(fine)
	two := r.pick(Key{Tried: one})
	hosts := someHosts(2)
	hosts[0].Peer.Version = "v2"
	r.SetEndpoints(append(hosts, hosts...)) // twice each: the first counts
	status := r.Status()
	if len(status.Endpoints) != 2 || status.Endpoints[0].Version != "v2" {
		t.Fatalf("status %+v", status)
	}
	for _, e := range status.Endpoints {
		if e.Address == one.Address && e.LatencyMS != 1 || e.Address == two.Address && e.InFlight != 1 {
			t.Errorf("%+v lost its state", e)
		}
	}
	r.set(0)
	two.Done(fine) // of an endpoint that left
	r.set(2)
	if got := r.Status().Endpoints[0]; got.LatencyMS != 0 || got.InFlight != 0 {
		t.Errorf("an endpoint that came back kept %+v", got)
	}
}

func TestARetryAvoidsTheEndpointTried(t *testing.T) {
	for _, b := range []Balancer{LeastRequest, LeastInFlight, RoundRobin, Random, RingHash, Maglev} {
		r := newRig(t, Settings{Balancer: b}, 3)
		for i := range 500 {
			k := Key{Hash: uint64(i) * 0x9e3779b97f4a7c15, HasHash: true}
			k.Tried = r.pick(k)
			k.Attempt = 1
			if r.AllowRetry(exchange.Outcome{Failure: exchange.ConnectFailure}, 1) {
				again := r.pick(k)
				// A walk along the ring is bounded, so it may end where it began.
				if again.host == k.Tried.host && b != RingHash {
					t.Errorf("%s: the retry went to %s again", b, again.Address)
				}
				again.Done(fine)
			}
			k.Tried.Done(fine)
			r.pass(time.Second)
		}
		if n := r.retries.Used(); n != 0 {
			t.Errorf("%s: %d retries are still held", b, n)
		}
	}
}

func TestMaxRequestsOverflow(t *testing.T) {
	r := newRig(t, Settings{Pool: Pool{MaxRequests: 2}}, 3)
	a := r.pick(Key{})
	r.pick(Key{})
	if _, err := r.Pick(Key{}); !errors.Is(err, ErrOverflow) {
		t.Errorf("third request: %v, want ErrOverflow", err)
	}
	a.Done(exchange.Outcome{Failure: exchange.Local})
	r.pick(Key{})
	if got := r.Status().RequestOverflows; got != 1 {
		t.Errorf("%d overflows counted, want 1", got)
	}
}

func TestWarmup(t *testing.T) {
	for _, b := range []Balancer{RoundRobin, LeastRequest, LeastInFlight} {
		r := newRig(t, Settings{Balancer: b, Warmup: Warmup{Duration: 100 * time.Second}}, 3)
		r.spread(30)
		r.set(4)
		newcomer := "10.0.0.4:80"
		r.spread(30) // until its latency is known
		early := r.spread(10_000)[newcomer]
		r.pass(100 * time.Second)
		r.spread(100)
		late := r.spread(10_000)[newcomer]
		if early > 1000 || late < 1800 || b == RoundRobin && early < 150 {
			t.Errorf("%s: the newcomer has %d of 10000 at first and %d later", b, early, late)
		}
	}
	w := Warmup{Duration: 100 * time.Second}
	for passed, want := range map[time.Duration]float64{0: 0.1, 50 * time.Second: 0.5, 200 * time.Second: 1} {
		if got := w.share(0, int64(passed)); got != want {
			t.Errorf("share after %s is %v, want %v", passed, got, want)
		}
	}
}

func TestPickAndDoneDoNotAllocate(t *testing.T) {
	for _, b := range []Balancer{LeastRequest, LeastInFlight, RoundRobin, Random, RingHash, Maglev} {
		s := MeshDefault()
		s.Balancer, s.Pool.MaxRequests = b, 1000
		c := New("a", "b", "c", s)
		c.SetEndpoints(someHosts(10))
		k := Key{Hash: 42, HasHash: true}
		if n := testing.AllocsPerRun(1000, func() {
			e, err := c.Pick(k)
			if err != nil {
				t.Fatal(err)
			}
			e.Done(fine)
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", b, n)
		}
	}
	c := New("a", "b", "c", Settings{Balancer: RingHash, HashKey: HashKey{Cookie: "s"}})
	x := &exchange.Exchange{Request: fakeHeader{"cookie": "a=b; s=c"}}
	if n := testing.AllocsPerRun(1000, func() { c.Key(x, "/") }); n != 0 {
		t.Errorf("Key: %v allocations, want 0", n)
	}
}

func TestEverythingAtOnce(t *testing.T) {
	s := MeshDefault()
	s.Outlier.Interval, s.Outlier.BaseEjection = time.Millisecond, time.Millisecond
	s.Pool.MaxRequests, s.Pool.MaxRetries = 6, 2
	c := New("a", "b", "c", s)
	c.SetEndpoints(someHosts(4))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				e, err := c.Pick(Key{})
				if err != nil {
					continue
				}
				o := fine
				if (i/7+g)%2 == 0 {
					o = exchange.Outcome{Failure: exchange.ConnectFailure}
				}
				if c.AllowRetry(o, 1) {
					if again, err := c.Pick(Key{Attempt: 1, Tried: e}); err == nil {
						again.Done(fine)
					} else {
						c.AbandonRetry()
					}
				}
				e.Done(o)
			}
		})
	}
	for i := range 200 {
		c.SetEndpoints(someHosts(2 + i%3))
		c.Status()
	}
	wg.Wait()
	if c.requests.Used() != 0 || c.retries.Used() != 0 {
		t.Errorf("%d requests and %d retries are held at the end", c.requests.Used(), c.retries.Used())
	}
	for _, e := range c.Status().Endpoints {
		// Those that left and came back are new, the others must balance.
		if e.InFlight != 0 {
			t.Errorf("%s has %d in flight at the end", e.Address, e.InFlight)
		}
	}
}

func BenchmarkPickAndDone(b *testing.B) {
	for _, balancer := range []Balancer{LeastRequest, LeastInFlight, RoundRobin, Random, RingHash, Maglev} {
		b.Run(balancer.String(), func(b *testing.B) {
			s := MeshDefault()
			s.Balancer = balancer
			c := New("a", "b", "c", s)
			c.SetEndpoints(someHosts(10))
			for b.Loop() {
				e, _ := c.Pick(Key{Hash: 42, HasHash: true})
				e.Done(fine)
			}
		})
	}
}
