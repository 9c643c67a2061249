package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	discoveryv1 "github.com/telemesh/telemesh/api/discovery/v1"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 20 * time.Second

// startSidecar runs a sidecar on loopback without a hub until the test ends.
func startSidecar(t testing.TB, c Config) *Proxy {
	t.Helper()
	c.InboundAddress, c.OutboundAddress, c.AdminAddress, c.HubAddress = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:1"
	c.DrainTime = 100 * time.Millisecond // its application outlives it
	p, err := New(c, slog.New(slog.DiscardHandler), new(slog.LevelVar))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("%s: %v", c.Service, err)
		}
	})
	t.Cleanup(stop)
	return p
}

// knows tells a sidecar of others, as the hub would.
func knows(p *Proxy, others ...*Proxy) {
	var services []*discoveryv1.Service
	for _, o := range others {
		services = append(services, announced(o, o.node().GetPrincipal()))
	}
	p.ApplyServices(services)
}

// announced is what the hub says of a sidecar's service if it has the principal.
func announced(p *Proxy, principal string) *discoveryv1.Service {
	n := p.node()
	return &discoveryv1.Service{
		Name: n.GetService(), Namespace: n.GetNamespace(), Host: n.GetService() + "." + n.GetNamespace() + ".svc.cluster.local", Port: n.GetServicePort(),
		Endpoints: []*discoveryv1.Endpoint{{
			Instance: n.GetInstance(), Address: n.GetInboundAddress(), Cluster: n.GetCluster(), Workload: n.GetWorkload(), Version: n.GetVersion(),
			Healthy: true, InboundTls: n.GetInboundTls(), Principal: principal,
		}},
	}
}

// application starts an HTTP server that speaks HTTP/1.1 and h2c.
func application(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// caller is a client of p's workload: HTTP/1.1 through the proxy variable, or
// h2c to the outbound listener.
func caller(t testing.TB, p *Proxy, h2 bool) *http.Client {
	t.Helper()
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: p.OutboundAddress()})}
	if h2 {
		transport = &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, p.OutboundAddress())
		}}
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// edgesOf waits for a sidecar to have observed n requests and returns its edges and
// their series.
func edgesOf(t testing.TB, p *Proxy, n uint64) ([]*telemetryv1.Edge, []*telemetryv1.Aggregate) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		edges, series := p.store.Snapshot()
		var sum uint64
		for _, s := range series {
			sum += s.GetRequests()
		}
		if sum >= n {
			return edges, series
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s observed %d requests, want %d", p.config.Service, sum, n)
		}
	}
}
