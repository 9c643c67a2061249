package proxy

import (
	"context"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/policy-check/check"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
	"github.com/telemesh/telemesh/proxy/report"
)

// noPolicy is what a sidecar has to which no policy applies.
type noPolicy struct{ fakePolicy }

func (noPolicy) Rules(check.Side) bool { return false }

// BenchmarkTelemetry is what the mesh adds to a request beyond carrying it: who
// calls, trace context and request ID read and written, policy look-up, route,
// counts, histograms, and the record in its columns; three looks at the clock.
// Sending the columns is not in it: by a profile about 2.5 % of a request's CPU.
func BenchmarkTelemetry(b *testing.B) {
	p := newPipeline(check.Decision{})
	p.policy, p.store = noPolicy{}, report.NewStore()
	caller := other.Header()
	var request, response exchange.Fields
	x := &exchange.Exchange{}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		start := netio.Now()
		added := x.ResponseHeaders[:0]
		*x = exchange.Exchange{Direction: exchange.Inbound, Scheme: "http", Security: "none", ResponseHeaders: added}
		x.Request, x.Response = &request, &response
		request.Set(vocab.HeaderTraceparent, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		request.Set(vocab.HeaderPeer, caller)
		r := &x.Record
		r.Start = netio.Wall(start)
		r.Protocol, r.HTTPVersion, r.Method, r.Path, r.Host, r.UserAgent = "http", "HTTP/1.1", "GET", "/reviews/1", "b:9080", "wrk"
		r.Verdict, r.Code, r.Detail, r.BytesIn, r.BytesOut, r.Attempts = vocab.VerdictOK, 200, "via_upstream", 215, 1187, 1
		target, _ := p.Begin(ctx, x)
		r.Upstream = target.Address
		r.FirstByte = time.Duration(netio.Now() - start)
		p.Respond(x)
		r.Duration = time.Duration(netio.Now() - start)
		p.End(x)
	}
}
