package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// sidecar is a proxy that runs.
type sidecar struct {
	*Proxy
	t      *testing.T
	signal context.CancelFunc // as the first SIGTERM
	ended  chan struct{}
	err    error // once ended
}

// runSidecar runs a sidecar until the test ends. What the configuration leaves
// open is chosen so that many can run beside each other.
func runSidecar(t *testing.T, c Config) *sidecar {
	t.Helper()
	s, err := newSidecar(t, c)
	if err != nil {
		t.Fatal(err)
	}
	s.run()
	return s
}

func newSidecar(t *testing.T, c Config) (*sidecar, error) {
	c.Service = "reviews"
	for _, address := range []*string{&c.InboundAddress, &c.OutboundAddress, &c.AdminAddress} {
		setDefault(address, "127.0.0.1:0")
	}
	setDefault(&c.HubAddress, "127.0.0.1:1")
	if c.DrainTime == 0 {
		c.DrainTime = patience
	}
	p, err := New(c, slog.New(slog.DiscardHandler), new(slog.LevelVar))
	return &sidecar{Proxy: p, t: t, ended: make(chan struct{})}, err
}

func (s *sidecar) run() {
	ctx, cancel := context.WithCancel(context.Background())
	s.signal = cancel
	go func() {
		defer close(s.ended)
		s.err = s.Run(ctx)
	}()
	s.t.Cleanup(func() { cancel(); s.Abort(); <-s.ended })
	eventually(s.t, "the sidecar serves", func() bool { return s.Ready() == nil })
}

// wait waits for the end of Run, which must be without an error.
func (s *sidecar) wait() {
	s.t.Helper()
	select {
	case <-s.ended:
		if s.err != nil {
			s.t.Errorf("Run: %v", s.err)
		}
	case <-time.After(patience):
		s.t.Fatal("the sidecar does not end")
	}
}

// awaitRefusal waits until the inbound listener takes nobody any more.
func (s *sidecar) awaitRefusal() {
	s.t.Helper()
	eventually(s.t, "inbound refuses", func() bool {
		c, err := net.Dial("tcp", s.InboundAddress())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

// requests that the sidecar has counted, by reporter.
func (s *sidecar) requests() (inbound, outbound uint64) {
	edges, rows := s.store.Snapshot()
	for _, r := range rows {
		if edges[r.GetEdge()].GetReporter() == telemetryv1.Reporter_REPORTER_DESTINATION {
			inbound += r.GetRequests()
		} else {
			outbound += r.GetRequests()
		}
	}
	return inbound, outbound
}

// eventually waits for a state that nothing announces.
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

// startApp is the application, which can be ended before the test is.
func startApp(t *testing.T, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func answer(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") }

// connection is a client with one connection at a time. It does what it is told:
// nothing is sent twice, and a connection is closed only if an answer said so.
type connection struct {
	address string
	close   bool // a connection for each request
	conn    net.Conn
	in      *bufio.Reader
}

// get sends a request for url and reads the answer.
func (c *connection) get(url string) (*http.Response, error) {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.address, patience)
		if err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: reviews\r\n\r\n", url); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	if c.close || r.Close {
		c.end()
	}
	return r, nil
}

func (c *connection) end() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.conn = nil
}

// status of one request on a connection of its own, 0 if there was no answer.
func status(address, url string) int {
	c := &connection{address: address, close: true}
	defer c.end()
	r, err := c.get(url)
	if err != nil {
		return 0
	}
	return r.StatusCode
}

// fakeHub tells what sidecars say of their health and offers them as endpoints.
type fakeHub struct {
	discoveryv1.UnimplementedDiscoveryServiceServer
	telemetryv1.UnimplementedTelemetryServiceServer
	address string
	health  chan *discoveryv1.Health
	joined  chan *discoveryv1.Node
	mute    bool // health is not answered
}

func newFakeHub(t *testing.T) *fakeHub {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHub{address: l.Addr().String(), health: make(chan *discoveryv1.Health, 16), joined: make(chan *discoveryv1.Node, 16)}
	server := grpc.NewServer(grpc.WaitForHandlers(true))
	discoveryv1.RegisterDiscoveryServiceServer(server, h)
	telemetryv1.RegisterTelemetryServiceServer(server, h)
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { server.Stop(); served.Wait() })
	return h
}

func (h *fakeHub) Connect(stream grpc.BidiStreamingServer[discoveryv1.ConnectRequest, discoveryv1.ConnectResponse]) error {
	var node *discoveryv1.Node
	for nonce := uint64(1); ; nonce++ {
		m, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the sidecar has left
		}
		healthy := true
		switch {
		case m.GetHello() != nil:
			node = m.GetHello().GetNode()
			h.joined <- node
		case m.GetHealth() != nil:
			h.health <- m.GetHealth()
			healthy = m.GetHealth().GetApplicationReachable()
			if h.mute {
				continue
			}
		default:
			continue
		}
		if err := stream.Send(&discoveryv1.ConnectResponse{Nonce: nonce, Sidecars: 1, Resources: []*discoveryv1.Resource{{
			Type: "service", Name: "reviews", Version: fmt.Sprint(nonce), Body: &discoveryv1.Resource_Service{Service: &discoveryv1.Service{
				Namespace: "default", Name: "reviews", Host: "reviews.default.svc.cluster.local", Port: 9080,
				Endpoints: []*discoveryv1.Endpoint{{Instance: node.GetInstance(), Address: node.GetInboundAddress(), Workload: "reviews-v1", Healthy: healthy}},
			}},
		}}}); err != nil {
			return err
		}
	}
}

func (h *fakeHub) Push(stream grpc.BidiStreamingServer[telemetryv1.Batch, telemetryv1.Ack]) error {
	for {
		b, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the sidecar has left
		}
		if err := stream.Send(&telemetryv1.Ack{Epoch: b.GetEpoch(), Sequence: b.GetSequence()}); err != nil {
			return err
		}
	}
}

func hostPort(t *testing.T, s *httptest.Server) string {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}
