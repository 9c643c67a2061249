package registry

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 30 * time.Second

// rig is a registry behind gRPC, with a clock.
type rig struct {
	*Registry
	t     *testing.T
	clock atomic.Int64 // seconds
	gone  chan string
	conn  *grpc.ClientConn
}

func newRig(t *testing.T, file string) *rig {
	r := &rig{t: t, gone: make(chan string, 16)}
	r.clock.Store(1_700_000_000)
	r.Registry = New(Options{
		File: file, Logger: slog.New(slog.DiscardHandler), Gone: func(instance string) { r.gone <- instance },
		Now: func() time.Time { return time.Unix(r.clock.Load(), 0) },
	})
	server, l := grpc.NewServer(grpc.WaitForHandlers(true)), bufconn.Listen(1<<16)
	discoveryv1.RegisterDiscoveryServiceServer(server, r.Registry)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:registry", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	r.conn = conn
	t.Cleanup(func() {
		_ = conn.Close() // the server ends what is left
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) pass(d time.Duration) { r.clock.Add(int64(d / time.Second)) }

// sidecar is one stream and what it was told so far.
type sidecar struct {
	discoveryv1.DiscoveryService_ConnectClient
	t        *testing.T
	cut      context.CancelFunc
	nonce    uint64
	sidecars uint32
	services map[string]*discoveryv1.Service
	policies map[string]string
}

func (r *rig) open() (discoveryv1.DiscoveryService_ConnectClient, context.CancelFunc) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	r.t.Cleanup(cancel)
	stream, err := discoveryv1.NewDiscoveryServiceClient(r.conn).Connect(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return stream, cancel
}

func node(instance, service string) *discoveryv1.Node {
	return &discoveryv1.Node{
		Instance: instance, Namespace: "default", Service: service, Workload: service + "-v1", Version: "v1",
		ServicePort: 9080, InboundAddress: "127.0.0.1:15006",
	}
}

// join says hello and takes the first response.
func (r *rig) join(n *discoveryv1.Node, have map[string]string) *sidecar {
	r.t.Helper()
	stream, cancel := r.open()
	s := &sidecar{DiscoveryService_ConnectClient: stream, t: r.t, cut: cancel, services: map[string]*discoveryv1.Service{}, policies: map[string]string{}}
	s.say(&discoveryv1.ConnectRequest{Message: &discoveryv1.ConnectRequest_Hello{Hello: &discoveryv1.Hello{Node: n, ResourceVersions: have}}})
	s.next()
	return s
}

func (s *sidecar) say(m *discoveryv1.ConnectRequest) {
	s.t.Helper()
	if err := s.Send(m); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sidecar) health(reachable bool) {
	s.t.Helper()
	s.say(&discoveryv1.ConnectRequest{Message: &discoveryv1.ConnectRequest_Health{Health: &discoveryv1.Health{ApplicationReachable: reachable}}})
}

func (s *sidecar) ack(reason string) {
	s.t.Helper()
	s.say(&discoveryv1.ConnectRequest{Message: &discoveryv1.ConnectRequest_Ack{Ack: &discoveryv1.Acknowledgement{Nonce: s.nonce, Error: reason}}})
}

// next takes one response.
func (s *sidecar) next() *discoveryv1.ConnectResponse {
	s.t.Helper()
	in, err := s.Recv()
	if err != nil {
		s.t.Fatal(err)
	}
	s.nonce, s.sidecars = in.GetNonce(), in.GetSidecars()
	for _, res := range in.GetResources() {
		if res.GetService() != nil {
			s.services[res.GetType()+"/"+res.GetName()] = res.GetService()
		} else {
			s.policies[res.GetType()+"/"+res.GetName()] = string(res.GetTrafficPolicy())
		}
	}
	for _, key := range in.GetRemoved() {
		delete(s.services, key)
		delete(s.policies, key)
	}
	return in
}

// until takes responses until the sidecar knows what is wanted.
func (s *sidecar) until(known func() bool) {
	s.t.Helper()
	for !known() {
		s.next()
	}
}

// endpoint of a service, nil if the sidecar knows none.
func (s *sidecar) endpoint(service string) *discoveryv1.Endpoint {
	es := s.services["service/"+service+".default.svc.cluster.local"].GetEndpoints()
	if len(es) == 0 {
		return nil
	}
	return es[0]
}

// eventually waits for a state that no message announces.
func eventually(t *testing.T, what string, reached func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !reached() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("never: " + what)
		}
	}
}
