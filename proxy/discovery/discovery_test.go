package discovery

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 30 * time.Second

// applier refuses policies that say "bad", as the sidecar does.
type applier struct {
	mu       sync.Mutex // guards the fields below
	services int
	sidecars int
	policies string
}

func (a *applier) ApplyServices(s []*discoveryv1.Service) {
	a.mu.Lock()
	a.services = len(s)
	a.mu.Unlock()
}
func (a *applier) ApplySidecars(n int) { a.mu.Lock(); a.sidecars = n; a.mu.Unlock() }
func (a *applier) ApplyPolicies(ps [][]byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := ""
	for _, p := range ps {
		all += string(p)
	}
	if strings.Contains(all, "bad") {
		return errors.New("bad policy")
	}
	a.policies = all
	return nil
}

// fakeHub hands each stream to the test.
type fakeHub struct {
	discoveryv1.UnimplementedDiscoveryServiceServer
	streams chan hubStream
}

type hubStream struct {
	discoveryv1.DiscoveryService_ConnectServer
	end chan struct{}
}

func (h *fakeHub) Connect(s discoveryv1.DiscoveryService_ConnectServer) error {
	one := hubStream{s, make(chan struct{})}
	select {
	case h.streams <- one:
	case <-s.Context().Done():
		return nil
	}
	select {
	case <-one.end:
	case <-s.Context().Done():
	}
	return nil
}

// recv takes the client's next message.
func (s hubStream) recv(t *testing.T) *discoveryv1.ConnectRequest {
	t.Helper()
	m, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func run(t *testing.T, o Options) (*Client, *fakeHub) {
	t.Helper()
	h := &fakeHub{streams: make(chan hubStream)}
	server, l := grpc.NewServer(grpc.WaitForHandlers(true)), bufconn.Listen(1<<16)
	discoveryv1.RegisterDiscoveryServiceServer(server, h)
	done := make(chan error, 2)
	go func() { done <- server.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:hub", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	o.Conn, o.Node, o.Logger = conn, &discoveryv1.Node{Instance: "a-1", Service: "a"}, slog.New(slog.DiscardHandler)
	c := NewClient(o)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		server.Stop()
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		_ = conn.Close() // nothing uses it any more
	})
	return c, h
}

func policy(version, body string) *discoveryv1.Resource {
	return &discoveryv1.Resource{Type: "trafficpolicy", Name: "p", Version: version, Body: &discoveryv1.Resource_TrafficPolicy{TrafficPolicy: []byte(body)}}
}

func service(host string) *discoveryv1.Resource {
	return &discoveryv1.Resource{Type: "service", Name: host, Version: "1", Body: &discoveryv1.Resource_Service{Service: &discoveryv1.Service{Host: host}}}
}

// tell sends a response and returns the client's acknowledgement.
func (s hubStream) tell(t *testing.T, r *discoveryv1.ConnectResponse) *discoveryv1.Acknowledgement {
	t.Helper()
	if err := s.Send(r); err != nil {
		t.Fatal(err)
	}
	for {
		if ack := s.recv(t).GetAck(); ack != nil {
			return ack
		}
	}
}

func TestClientKeepsWhatItLearnedAndRefusedNothingIntoIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "discovery.json")
	a := &applier{}
	c, h := run(t, Options{Applier: a, StateFile: file})
	s := <-h.streams
	if hello := s.recv(t).GetHello(); hello.GetNode().GetInstance() != "a-1" || len(hello.GetResourceVersions()) != 0 {
		t.Fatalf("hello = %v", hello)
	}
	first := &discoveryv1.ConnectResponse{Nonce: 1, Sidecars: 3, Resources: []*discoveryv1.Resource{service("b"), policy("1", "good")}}
	if ack := s.tell(t, first); ack.GetNonce() != 1 || ack.GetError() != "" {
		t.Fatalf("ack = %v", ack)
	}
	if !c.Connected() {
		t.Error("not connected after a response")
	}
	second := &discoveryv1.ConnectResponse{Nonce: 2, Sidecars: 3, Resources: []*discoveryv1.Resource{service("c"), policy("2", "bad")}}
	if ack := s.tell(t, second); ack.GetNonce() != 2 || ack.GetError() == "" {
		t.Fatalf("ack = %v, want a refusal", ack)
	}
	if a.policies != "good" || a.services != 2 {
		t.Errorf("in force: %q, %d services; want the old policy and the new service", a.policies, a.services)
	}
	close(s.end)
	if have := (<-h.streams).recv(t).GetHello().GetResourceVersions(); have["trafficpolicy/p"] != "1" || have["service/c"] != "1" {
		t.Errorf("on reconnect the client has %v, want the policy in force and both services", have)
	}

	restarted := &applier{}
	NewClient(Options{Applier: restarted, StateFile: file, Logger: slog.New(slog.DiscardHandler)})
	if restarted.policies != "good" || restarted.services != 2 || restarted.sidecars != 3 {
		t.Errorf("after a restart without hub: %q, %d services, %d sidecars", restarted.policies, restarted.services, restarted.sidecars)
	}
}

func TestClientTellsItsHealthAgainOnReconnect(t *testing.T) {
	c, h := run(t, Options{Applier: &applier{}})
	c.SetHealth(true, "")
	for range 2 {
		s := <-h.streams
		if s.recv(t).GetHello() == nil {
			t.Fatal("the first message is not a hello")
		}
		if got := s.recv(t).GetHealth(); !got.GetApplicationReachable() {
			t.Fatalf("health = %v, want reachable", got)
		}
		close(s.end)
	}
}

// What one process knew, another begins with.
func TestClientBeginsWithWhatAnEarlierProcessKnew(t *testing.T) {
	c, h := run(t, Options{Applier: &applier{}})
	if c.Known() != nil || c.Joined() {
		t.Error("it knows something from nobody")
	}
	s := <-h.streams
	s.recv(t)
	s.tell(t, &discoveryv1.ConnectResponse{Nonce: 1, Sidecars: 3, Resources: []*discoveryv1.Resource{service("b"), policy("1", "good")}})
	if !c.Joined() {
		t.Error("not joined after a response")
	}
	next := &applier{}
	again := NewClient(Options{Applier: next, State: c.Known(), Logger: slog.New(slog.DiscardHandler)})
	if next.policies != "good" || next.services != 1 || next.sidecars != 3 {
		t.Errorf("the next process begins with %q, %d services, %d sidecars", next.policies, next.services, next.sidecars)
	}
	if again.Known() == nil {
		t.Error("it has nothing for the one after it")
	}
	for _, bad := range []string{"x", `{"resources":7}`, `[]`} {
		if NewClient(Options{Applier: &applier{}, State: []byte(bad), Logger: slog.New(slog.DiscardHandler)}).Known() != nil {
			t.Errorf("%s: became configuration", bad)
		}
	}
}

// A goodbye would take the endpoint of the process that has the name now.
func TestClientThatHasYieldedLeavesWithoutAGoodbye(t *testing.T) {
	for name, yield := range map[string]bool{"goodbye": false, "yielded": true} {
		t.Run(name, func(t *testing.T) {
			h := &fakeHub{streams: make(chan hubStream)}
			server, l := grpc.NewServer(grpc.WaitForHandlers(true)), bufconn.Listen(1<<16)
			discoveryv1.RegisterDiscoveryServiceServer(server, h)
			served := make(chan error, 1)
			go func() { served <- server.Serve(l) }()
			conn, err := grpc.NewClient("passthrough:hub", grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
			if err != nil {
				t.Fatal(err)
			}
			c := NewClient(Options{Conn: conn, Node: &discoveryv1.Node{Instance: "a-1"}, Applier: &applier{}, Logger: slog.New(slog.DiscardHandler)})
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- c.Run(ctx) }()
			s := <-h.streams
			s.recv(t)
			if yield {
				c.Yield()
			}
			cancel()
			if _, err := s.Recv(); errors.Is(err, io.EOF) == yield {
				t.Errorf("the hub heard %v", err)
			}
			close(s.end)
			if err := <-ran; err != nil {
				t.Error(err)
			}
			_ = conn.Close() // nothing uses it any more
			server.Stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// The hub ends the stream of a process that has been replaced.
func TestClientThatHasYieldedDoesNotComeBack(t *testing.T) {
	c, h := run(t, Options{Applier: &applier{}})
	s := <-h.streams
	s.recv(t)
	c.Yield()
	close(s.end)
	select {
	case <-h.streams:
		t.Error("it came back")
	case <-time.After(200 * time.Millisecond): // four times the first pause
	}
}
