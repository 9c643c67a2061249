package lease

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	policy "github.com/telemesh/telemesh/policy-check"
)

// TestSmallDemandIsServedBesideAGreedyOne: max-min at a limit so small that
// every credit is pulled for itself.
func TestSmallDemandIsServedBesideAGreedyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 2, testPolicy(t, "", ""))
		defer m.close()
		m.connected()
		var admitted [2]int
		var wg sync.WaitGroup
		for i, each := range []time.Duration{5 * time.Millisecond, 103 * time.Millisecond} {
			wg.Go(func() {
				for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(each) {
					if m.clients[i].Take(t.Context(), limitName, "").OK {
						admitted[i]++
					}
				}
			})
		}
		wg.Wait()
		t.Logf("greedy %d, small %d of 97", admitted[0], admitted[1])
		if admitted[1] < 90 {
			t.Errorf("the small one got %d of 97", admitted[1])
		}
		if sum := admitted[0] + admitted[1]; sum < 475 || sum > 525 {
			t.Errorf("admitted %d, want 500 ± 25", sum)
		}
	})
}

func TestABurstOfWaitersSharesOnePull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 1, testPolicy(t, "{limit: 1000, window: 1s, burst: 50}", ""))
		defer m.close()
		m.connected()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got := m.clients[0].Take(t.Context(), limitName, ""); !got.OK || got.Origin != OriginLease {
					t.Errorf("got %+v", got)
				}
			})
		}
		wg.Wait()
	})
}

func TestAKeyBeyondTheBoundFollowsOverflow(t *testing.T) {
	bucket := policy.Bucket{Name: "l", Limit: 1, Window: time.Second, Burst: 1, Scope: policy.ScopePod, MaxKeys: 1 << 20}
	for overflow, want := range map[string]string{
		policy.OverflowSharedBucket: "[true false false]",
		policy.OverflowAllow:        "[true true true]",
		policy.OverflowDeny:         "[false false false]",
	} {
		t.Run(overflow, func(t *testing.T) {
			now := time.Unix(1_700_000_000, 0)
			c := NewClient(ClientOptions{MaxKeys: 10, Clock: func() time.Time { return now }})
			bucket.Overflow = overflow
			c.Configure([]policy.Bucket{bucket})
			take := func(key string) bool { return c.Take(t.Context(), "l", key).OK }
			for i := range 10 {
				if !take(fmt.Sprint(i)) {
					t.Errorf("key %d refused", i)
				}
			}
			if got := fmt.Sprint([]bool{take("a"), take("b"), take("c")}); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if take("3") {
				t.Error("a known key lost its bucket")
			}
			// Keys that were not used for long make room.
			now = now.Add(time.Minute)
			for i := range 1000 {
				take(fmt.Sprint("later ", i%4))
			}
			if !take("0") && overflow != policy.OverflowDeny {
				t.Error("old key refused after a minute")
			}
		})
	}
}

func TestReturnedCreditsCanBeTakenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 1, testPolicy(t, "{limit: 1, window: 1s}", ""))
		defer m.close()
		m.connected()
		c := m.clients[0]
		for range 3 {
			got := c.Take(t.Context(), limitName, "")
			if !got.OK || got.Origin != OriginLease {
				t.Fatalf("got %+v", got)
			}
			c.Return(limitName, "", got)
		}
		if !c.Take(t.Context(), limitName, "").OK {
			t.Error("refused, though all was returned")
		}
		if got := c.Take(t.Context(), limitName, ""); got.OK || got.RetryAfter > time.Second {
			t.Errorf("got %+v", got)
		}
	})
}

// TestASilentHubDelaysNoMoreThanTheHold: a hub that takes pulls and never
// answers is waited for once, not by each request, and then given up.
func TestASilentHubDelaysNoMoreThanTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mesh{t: t, policy: testPolicy(t, "", "{onHubDown: Allow, holdTimeout: 30ms}")}
		m.serve(silent{})
		m.startSidecars(1)
		defer m.close()
		m.connected()
		for i, want := range []time.Duration{30 * time.Millisecond, 0, 0} {
			begin := time.Now()
			got := m.clients[0].Take(t.Context(), limitName, "")
			if took := time.Since(begin); !got.OK || got.Origin != OriginFallback || took != want {
				t.Errorf("request %d: %+v after %v, want %v", i, got, took, want)
			}
		}
	})
}

// silent is a hub that takes pulls and never answers.
type silent struct {
	policyv1.UnimplementedLeaseServiceServer
}

// Pull implements policyv1.LeaseServiceServer.
func (silent) Pull(s grpc.BidiStreamingServer[policyv1.PullRequest, policyv1.PullResponse]) error {
	<-s.Context().Done()
	return s.Context().Err()
}

func TestACancelledRequestStopsWaiting(t *testing.T) {
	c := NewClient(ClientOptions{Sidecar: "a"})
	c.Configure(testPolicy(t, "", "{onHubDown: Deny, holdTimeout: 1s}").AllBuckets())
	c.connected.Store(true) // a stream on which nothing moves
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := c.Take(ctx, limitName, ""); got.OK || got.Origin != OriginFallback {
		t.Errorf("got %+v", got)
	}
}

func TestALimitTheHubDoesNotKnowFollowsTheFailurePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 1, testPolicy(t, "", "{onHubDown: Allow}"))
		defer m.close()
		m.hub.SetPolicies(nil)
		m.connected()
		for range 5 {
			if got := m.clients[0].Take(t.Context(), limitName, ""); !got.OK || got.Origin != OriginFallback {
				t.Errorf("got %+v", got)
			}
		}
		m.hub.SetPolicies([]*policy.TrafficPolicy{m.policy})
		time.Sleep(2 * unknownPause)
		if got := m.clients[0].Take(t.Context(), limitName, ""); !got.OK || got.Origin != OriginLease {
			t.Errorf("once known: %+v", got)
		}
	})
}

func benchmarkClient(b *testing.B, bucket policy.Bucket, key func(i int) string) {
	c := NewClient(ClientOptions{Sidecar: "a", MaxKeys: 200_000})
	bucket.Name, bucket.Limit, bucket.Window, bucket.Burst, bucket.MaxKeys = "l", 1_000_000, time.Second, 1_000_000_000, 200_000
	c.Configure([]policy.Bucket{bucket})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		c.Take(b.Context(), "l", key(i))
	}
}

func BenchmarkTakeCredit(b *testing.B) {
	c := NewClient(ClientOptions{Sidecar: "a"})
	c.Configure([]policy.Bucket{{Name: "l", Limit: 1_000_000, Window: time.Second, Burst: 1, Scope: policy.ScopeMesh, MaxKeys: 1}})
	p := (*c.limits.Load())["l"].only
	p.credits, p.expires = 1<<60, 1<<62
	p.expiring = true // no timer for so long a life
	limit := c.Limit("l")
	limit.Take(b.Context(), "")
	b.ReportAllocs()
	for b.Loop() {
		limit.Take(b.Context(), "")
	}
}

func BenchmarkTakePod(b *testing.B) {
	benchmarkClient(b, policy.Bucket{Scope: policy.ScopePod}, func(int) string { return "" })
}

func BenchmarkTakeKeyed(b *testing.B) {
	keys := make([]string, 100_000)
	for i := range keys {
		keys[i] = fmt.Sprint("user-", i)
	}
	benchmarkClient(b, policy.Bucket{Scope: policy.ScopePod}, func(i int) string { return keys[i*7919%len(keys)] })
}

func BenchmarkGrant(b *testing.B) {
	p := testPolicy(b, "{limit: 1000000, window: 1s, burst: 100000}", "")
	s := NewServer(ServerOptions{})
	s.SetPolicies([]*policy.TrafficPolicy{p})
	l := (*s.limits.Load())[limitName]
	d := &policyv1.Demand{Limit: limitName, Want: 1, Admitted: 1}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		l.grant(s.now(), uint64(i%100), d)
	}
}
