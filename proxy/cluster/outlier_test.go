package cluster

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// fail sends outcomes to one endpoint, whichever Pick would choose.
func (r *rig) outcome(address string, n int, o exchange.Outcome) {
	for range n {
		for _, m := range r.current.Load().all {
			if m.first.Address == address {
				m.host.inFlight.Add(1)
				m.first.Done(o)
			}
		}
	}
}

func (r *rig) ejected() map[string]bool {
	out := map[string]bool{}
	for _, e := range r.Status().Endpoints {
		if e.Ejected {
			out[e.Address] = true
		}
	}
	return out
}

func ejecting(change func(*Outlier)) Settings {
	o := IstioOutlier()
	if change != nil {
		change(&o)
	}
	return Settings{Outlier: &o}
}

const (
	addrOne = "10.0.0.1:80"
	addrTwo = "10.0.0.2:80"
)

func TestWhatEjects(t *testing.T) {
	status := func(s int) exchange.Outcome { return exchange.Outcome{Status: s} }
	grpc := func(s uint32) exchange.Outcome { return exchange.Outcome{Status: 200, GRPC: s + 1} }
	failure := func(f exchange.Failure) exchange.Outcome { return exchange.Outcome{Failure: f} }
	gateway := ejecting(func(o *Outlier) { o.Consecutive5xx, o.ConsecutiveGateway = 0, 3 })
	split := ejecting(func(o *Outlier) { o.SplitLocal, o.ConsecutiveLocal = true, 2 })
	for _, tc := range []struct {
		name     string
		settings Settings
		outcome  exchange.Outcome
		after    int // how many in a row eject; 0 for never
	}{
		{"500", ejecting(nil), status(500), 5},
		{"503", ejecting(nil), status(503), 5},
		{"404", ejecting(nil), status(404), 0},
		{"connect failure", ejecting(nil), failure(exchange.ConnectFailure), 5},
		{"reset", ejecting(nil), failure(exchange.Reset), 5},
		{"refused", ejecting(nil), failure(exchange.Refused), 5},
		{"timeout", ejecting(nil), failure(exchange.Timeout), 5},
		{"the downstream left", ejecting(nil), failure(exchange.Local), 0},
		{"gRPC unavailable", ejecting(nil), grpc(14), 5},
		{"gRPC not found", ejecting(nil), grpc(5), 0},
		{"gRPC unknown number", ejecting(nil), grpc(99), 5},
		{"no outlier detection", Settings{}, status(500), 0},
		{"gateway: 500", gateway, status(500), 0},
		{"gateway: 502", gateway, status(502), 3},
		{"gateway: reset", gateway, failure(exchange.Reset), 3},
		{"split: reset", split, failure(exchange.Reset), 2},
		{"split: 500", split, status(500), 5},
		{"5xx off", ejecting(func(o *Outlier) { o.Consecutive5xx = 0 }), status(500), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, tc.settings, 4)
			for n := 1; n <= 10; n++ {
				r.outcome(addrOne, 1, tc.outcome)
				if got, want := r.ejected()[addrOne], tc.after > 0 && n >= tc.after; got != want {
					t.Fatalf("after %d in a row: ejected %v, want %v", n, got, want)
				}
			}
			r = newRig(t, tc.settings, 4)
			for range 20 { // never enough in a row
				r.outcome(addrOne, max(tc.after, 2)-1, tc.outcome)
				r.outcome(addrOne, 1, fine)
			}
			if r.ejected()[addrOne] {
				t.Error("ejected though every series was broken by a good answer")
			}
		})
	}
}

func TestLifeOfAnEjection(t *testing.T) {
	r := newRig(t, ejecting(nil), 2)
	fail := func() { r.outcome(addrOne, 5, exchange.Outcome{Status: 500}) }
	until := func(what string, after time.Duration) {
		t.Helper()
		r.pass(after - time.Nanosecond)
		if !r.ejected()[addrOne] {
			t.Errorf("%s: back before %s", what, after)
		}
		r.pass(time.Nanosecond)
		if r.ejected()[addrOne] {
			t.Errorf("%s: still out after %s", what, after)
		}
	}
	r.pass(3 * time.Second) // sweeps are at 10, 20, 30 … s
	fail()
	if got := r.spread(100); got[addrTwo] != 100 {
		t.Errorf("picks %v while the first is ejected", got)
	}
	until("first time, 30 s and the sweep after them", 37*time.Second) // t=40
	fail()
	until("second in a row, 60 s", 60*time.Second) // t=100
	fail()
	until("third in a row, 90 s", 90*time.Second) // t=190
	// Two sweeps that find it healthy lower the multiplier by two.
	r.pass(20 * time.Second) // t=210
	fail()
	until("second in a row again, 60 s", 60*time.Second) // t=270
	// The first request after a long silence makes up for all sweeps.
	r.pass(time.Hour)
	fail()
	until("first in a row again", 30*time.Second)
	if got := r.Status().Ejections; got != 5 {
		t.Errorf("%d ejections counted, want 5", got)
	}
}

func TestEjectionIsAtMostFiveMinutes(t *testing.T) {
	o := IstioOutlier()
	for n, want := range map[int]time.Duration{0: 0, 1: 30 * time.Second, 9: 270 * time.Second, 10: 300 * time.Second, 1000: 300 * time.Second} {
		if got := o.ejection(n); got != want {
			t.Errorf("ejection %d lasts %s, want %s", n, got, want)
		}
	}
	o.BaseEjection = 10 * time.Minute
	if got := o.ejection(3); got != 10*time.Minute {
		t.Errorf("a long base: %s", got)
	}
}

func TestHowManyAreEjected(t *testing.T) {
	for _, tc := range []struct {
		name     string
		settings Settings
		hosts    int
		want     int
	}{
		{"10 % of 4 is one at least", ejecting(nil), 4, 1},
		{"10 % of 20", ejecting(nil), 20, 2},
		{"the only one", ejecting(nil), 1, 1},
		{"all", ejecting(func(o *Outlier) { o.MaxPercent = 100 }), 5, 5},
		{"the mesh's default keeps the only one", MeshDefault(), 1, 0},
		{"the mesh's default keeps half", MeshDefault(), 5, 2},
	} {
		r := newRig(t, tc.settings, tc.hosts)
		for _, h := range someHosts(tc.hosts) {
			r.outcome(h.Address, 5, exchange.Outcome{Status: 500})
		}
		if got := len(r.ejected()); got != tc.want {
			t.Errorf("%s: %d of %d ejected, want %d", tc.name, got, tc.hosts, tc.want)
		}
		_, err := r.Pick(Key{})
		if all := tc.want == tc.hosts; all != errors.Is(err, ErrNoHealthy) {
			t.Errorf("%s: Pick says %v", tc.name, err)
		}
	}
}

func TestAnEndpointThatLeftIsNotEjected(t *testing.T) {
	r := newRig(t, ejecting(nil), 2)
	r.outcome(addrOne, 4, exchange.Outcome{Status: 500})
	gone := r.current.Load().all[0]
	gone.host.inFlight.Add(1)
	r.SetEndpoints(someHosts(2)[1:])
	gone.first.Done(exchange.Outcome{Status: 500})
	if got := r.Status(); got.Ejections != 0 {
		t.Errorf("status %+v", got)
	}
}

// Whatever happens, the bound holds, counters stay sane and time heals all.
func TestEjectionProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		hosts := rapid.IntRange(1, 12).Draw(rt, "hosts")
		percent := rapid.IntRange(1, 100).Draw(rt, "percent")
		r := newRig(t, ejecting(func(o *Outlier) { o.MaxPercent = percent }), hosts)
		bound := max(1, hosts*percent/100)
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			victim := someHosts(hosts)[rapid.IntRange(0, hosts-1).Draw(rt, "victim")].Address
			r.outcome(victim, rapid.IntRange(1, 6).Draw(rt, "failures"), exchange.Outcome{Status: 500})
			r.pass(time.Duration(rapid.IntRange(0, 40).Draw(rt, "seconds")) * time.Second)
			if got := len(r.ejected()); got > bound {
				rt.Fatalf("%d of %d ejected, bound %d", got, hosts, bound)
			}
			if e, err := r.Pick(Key{}); err == nil {
				if r.ejected()[e.Address] {
					rt.Fatalf("picked %s, which is ejected", e.Address)
				}
				e.Done(fine)
			} else if len(r.ejected()) != hosts {
				rt.Fatalf("Pick: %v with %d of %d ejected", err, len(r.ejected()), hosts)
			}
		}
		r.pass(time.Hour)
		if got := r.ejected(); len(got) != 0 {
			rt.Fatalf("an hour later still ejected: %v", got)
		}
	})
}
