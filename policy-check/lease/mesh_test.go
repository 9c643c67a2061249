package lease

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	policy "github.com/telemesh/telemesh/policy-check"
)

const limitName = "default/ratings/limit"

// testPolicy is 50 requests per second on ratings unless rate says otherwise.
func testPolicy(t testing.TB, rate, failure string) *policy.TrafficPolicy {
	t.Helper()
	if rate == "" {
		rate = "{limit: 50, window: 1s}"
	}
	if failure == "" {
		failure = "{}"
	}
	ps, problems := policy.Parse("p.yaml", fmt.Appendf(nil, `
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: ratings}
spec:
  targetRefs: [{kind: Service, name: ratings}]
  failurePolicy: %s
  rules:
  - name: limit
    limit: {rates: [%s]}
`, failure, rate))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return ps[0]
}

// mesh is a hub and sidecars, talking gRPC over memory. In a synctest bubble
// its seconds take no time.
type mesh struct {
	t       *testing.T
	policy  *policy.TrafficPolicy
	hub     *Server
	clients []*Client

	listener atomic.Pointer[bufconn.Listener]
	server   *grpc.Server
	stop     context.CancelFunc
	wg       sync.WaitGroup
}

func newMesh(t *testing.T, sidecars int, p *policy.TrafficPolicy) *mesh {
	m := &mesh{t: t, policy: p}
	m.startHub()
	m.startSidecars(sidecars)
	return m
}

func (m *mesh) startSidecars(sidecars int) {
	t, p := m.t, m.policy
	ctx, stop := context.WithCancel(t.Context())
	m.stop = stop
	for i := range sidecars {
		conn, err := grpc.NewClient("passthrough:///hub", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, MaxDelay: time.Second}}),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				if l := m.listener.Load(); l != nil {
					return l.DialContext(ctx)
				}
				return nil, net.ErrClosed
			}))
		if err != nil {
			t.Fatal(err)
		}
		c := NewClient(ClientOptions{Sidecar: fmt.Sprintf("sidecar-%d", i)})
		c.Configure(p.AllBuckets())
		c.SetSidecars(sidecars)
		m.clients = append(m.clients, c)
		m.wg.Go(func() {
			if err := c.Run(ctx, conn); err != nil {
				t.Errorf("client: %v", err)
			}
			_ = conn.Close()
		})
	}
}

func (m *mesh) startHub() {
	m.hub = NewServer(ServerOptions{})
	m.hub.SetPolicies([]*policy.TrafficPolicy{m.policy})
	m.serve(m.hub)
}

func (m *mesh) serve(hub policyv1.LeaseServiceServer) {
	server, l := grpc.NewServer(grpc.WaitForHandlers(true)), bufconn.Listen(1<<16)
	policyv1.RegisterLeaseServiceServer(server, hub)
	m.server = server
	m.listener.Store(l)
	m.wg.Go(func() { _ = server.Serve(l) })
}

func (m *mesh) killHub() {
	m.listener.Store(nil)
	m.server.Stop()
}

func (m *mesh) close() {
	m.stop()
	m.server.Stop()
	m.wg.Wait()
}

// tally counts what one run of load got.
type tally struct{ admitted, refused, fallback atomic.Int64 }

// load sends a steady total rate through all sidecars for a time and waits for
// the answers.
func (m *mesh) load(perSecond int, d time.Duration) *tally {
	var out tally
	var wg sync.WaitGroup
	each := time.Second * time.Duration(len(m.clients)) / time.Duration(perSecond)
	for i, c := range m.clients {
		wg.Go(func() {
			// Sidecars are out of step with one another.
			time.Sleep(each * time.Duration(i) / time.Duration(len(m.clients)))
			for range int(d / each) {
				wg.Go(func() {
					t := c.Take(m.t.Context(), limitName, "")
					if t.Origin == OriginFallback {
						out.fallback.Add(1)
					}
					if t.OK {
						out.admitted.Add(1)
					} else {
						out.refused.Add(1)
						if t.RetryAfter <= 0 {
							m.t.Error("refused without a time to retry")
						}
					}
				})
				time.Sleep(each)
			}
		})
	}
	wg.Wait()
	return &out
}

func (m *mesh) connected() {
	synctest.Wait()
	for _, c := range m.clients {
		if !c.Connected() {
			m.t.Fatal("not connected")
		}
	}
}

func TestFiftyPerSecondUnderFourTimesTheDemand(t *testing.T) {
	for _, sidecars := range []int{1, 20} {
		t.Run(fmt.Sprint(sidecars, " sidecars"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t, sidecars, testPolicy(t, "", ""))
				defer m.close()
				m.connected()
				got := m.load(200, 10*time.Second)
				t.Logf("admitted %d", got.admitted.Load())
				if n := got.admitted.Load(); n < 475 || n > 525 {
					t.Errorf("admitted %d of 2000, want 500 ± 25", n)
				}
				if n := got.admitted.Load() + got.refused.Load(); n != 2000 {
					t.Errorf("%d answers, want 2000", n)
				}
				if n := got.fallback.Load(); n != 0 {
					t.Errorf("%d decided by the failure policy", n)
				}
				if s := m.hub.Stats(); s.Streams != sidecars || int64(s.Limits[0].Granted) < got.admitted.Load() {
					t.Errorf("stats %+v, admitted %d", s, got.admitted.Load())
				}
			})
		})
	}
}

func TestDemandBelowTheLimitIsNeverRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 5, testPolicy(t, "{limit: 1000, window: 1s}", ""))
		defer m.close()
		m.connected()
		if got := m.load(800, 5*time.Second); got.refused.Load() > 0 {
			t.Errorf("refused %d of 4000", got.refused.Load())
		}
	})
}

func TestABigLimitUnderThreeTimesTheDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 10, testPolicy(t, "{limit: 1000, window: 1s}", ""))
		defer m.close()
		m.connected()
		got := m.load(3000, 5*time.Second)
		granted := m.hub.Stats().Limits[0].Granted
		t.Logf("admitted %d, granted %d, by fallback %d", got.admitted.Load(), granted, got.fallback.Load())
		if n := got.admitted.Load(); n < 4750 || n > 5250 {
			t.Errorf("admitted %d of 15000, want 5000 ± 250", n)
		}
	})
}

func TestLocalShareWhileTheHubIsAway(t *testing.T) {
	for _, sidecars := range []int{1, 20} {
		t.Run(fmt.Sprint(sidecars, " sidecars"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t, sidecars, testPolicy(t, "", ""))
				defer m.close()
				m.connected()
				m.load(200, 2*time.Second)
				m.killHub()
				got := m.load(200, 10*time.Second)
				t.Logf("admitted %d, by fallback %d", got.admitted.Load(), got.fallback.Load())
				// The bound is 2 L; no sidecar gets less than L/N.
				if n := got.admitted.Load(); n < 450 || n > 1000 {
					t.Errorf("admitted %d in 10 s without a hub, want 450 to 1000", n)
				}
				m.startHub()
				time.Sleep(5 * time.Second) // gRPC's and our back-off
				m.connected()
				if n := m.load(200, 10*time.Second).admitted.Load(); n < 475 || n > 525 {
					t.Errorf("admitted %d after the hub came back, want 500 ± 25", n)
				}
			})
		})
	}
}

func TestFailurePolicies(t *testing.T) {
	for policy, want := range map[string]int64{"Allow": 400, "Deny": 0} {
		t.Run(policy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t, 1, testPolicy(t, "", "{onHubDown: "+policy+"}"))
				defer m.close()
				m.connected()
				m.killHub()
				synctest.Wait()
				if got := m.load(200, 2*time.Second); got.admitted.Load() != want {
					t.Errorf("admitted %d of 400, want %d", got.admitted.Load(), want)
				}
			})
		})
	}
}
