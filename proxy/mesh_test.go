package proxy

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 20 * time.Second

// startProxy runs a sidecar without a hub until the test ends.
func startProxy(t *testing.T, c Config) *Proxy {
	t.Helper()
	c.InboundAddress, c.OutboundAddress, c.AdminAddress = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.HubAddress, c.DrainTime = "127.0.0.1:1", time.Millisecond
	p, err := New(c, slog.New(slog.DiscardHandler), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return p
}

// pair is a caller's sidecar and a callee's, with one opaque port to the callee.
type pair struct {
	t              *testing.T
	caller, callee *Proxy
}

// newPair starts two sidecars that know each other. The callee's application is at
// app.
func newPair(t *testing.T, app string) *pair {
	t.Helper()
	callee := startProxy(t, Config{Service: "db", AppAddress: app})
	caller := startProxy(t, Config{Service: "shop", OutboundTCP: []string{"0=db:5432", "0=nobody:5432"}})
	caller.ApplyServices([]*discoveryv1.Service{{
		Name: "db", Namespace: "default", Host: "db.default.svc.cluster.local", Port: 5432,
		Endpoints: []*discoveryv1.Endpoint{{
			Address: callee.InboundAddress(), Instance: callee.Instance(), Workload: "db-latest", Version: "latest", Cluster: "local", Healthy: true,
		}},
	}})
	return &pair{t: t, caller: caller, callee: callee}
}

// dial connects to the caller's opaque port of the callee.
func (p *pair) dial() *net.TCPConn {
	p.t.Helper()
	c, err := net.Dial("tcp", p.caller.OutboundTCP()[0].Address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience)) // a hang fails as an error
	return c.(*net.TCPConn)
}

// told is what a sidecar counted of one outcome on one edge.
type told struct {
	source, destination string // workloads
	service             string
	protocol, flags     string
	verdict             string
	code                uint32
	count, in, out      uint64
}

// counted waits until a sidecar has counted n exchanges and returns what it says
// of them. A probe is none.
func counted(t *testing.T, p *Proxy, n uint64) []told {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		edges, aggregates := p.store.Snapshot()
		var sum uint64
		for _, a := range aggregates {
			sum += a.Requests
		}
		if sum >= n {
			return tell(edges, aggregates)
		}
		if time.Now().After(end) {
			t.Fatalf("%s counted %d exchanges, want %d", p.Instance(), sum, n)
		}
	}
}

func tell(edges []*telemetryv1.Edge, aggregates []*telemetryv1.Aggregate) []told {
	var out []told
	for _, a := range aggregates {
		e := edges[a.Edge]
		out = append(out, told{
			source: e.Source.Workload, destination: e.Destination.Workload, service: e.DestinationService,
			protocol: a.Protocol, flags: a.ResponseFlags, verdict: a.Verdict, code: a.ResponseCode,
			count: a.Requests, in: a.RequestBytesSum, out: a.ResponseBytesSum,
		})
	}
	return out
}

// wantBoth fails unless both sidecars counted exactly want.
func (p *pair) wantBoth(want told) {
	p.t.Helper()
	want.source, want.destination, want.service = "shop-latest", "db-latest", "db.default.svc.cluster.local"
	want.protocol = "tcp"
	if want.verdict == "" {
		want.verdict = vocab.VerdictOK
	}
	if want.flags == "" {
		want.flags = vocab.NoFlags
	}
	for _, side := range []*Proxy{p.caller, p.callee} {
		if got := counted(p.t, side, want.count); !slices.Equal(got, []told{want}) {
			p.t.Errorf("%s counted %+v\nwant %+v", side.Instance(), got, want)
		}
	}
}

// serveTCP starts an application that serves each connection with f, those of the
// sidecar's probe among them.
func serveTCP(t *testing.T, f func(c *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				f(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return l.Addr().String()
}
