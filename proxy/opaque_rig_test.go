package proxy

import (
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
)

// pair is a caller's sidecar and a callee's, with one opaque port to the callee.
type pair struct {
	t              *testing.T
	caller, callee *Proxy
}

// newPair starts two sidecars of which the caller's knows the callee's. The
// callee's application is at app.
func newPair(t *testing.T, app string) *pair {
	t.Helper()
	return connectPair(t, Config{Service: "shop"}, Config{Service: "db", AppAddress: app})
}

func connectPair(t *testing.T, caller, callee Config) *pair {
	t.Helper()
	caller.OutboundTCP = []string{"0=db:5432", "0=nobody:5432"}
	p := &pair{t: t, caller: startSidecar(t, caller), callee: startSidecar(t, callee)}
	knows(p.caller, p.callee)
	return p
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

// counted is what a sidecar says of its n exchanges.
func counted(t *testing.T, p *Proxy, n uint64) []told {
	t.Helper()
	edges, aggregates := edgesOf(t, p, n)
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
