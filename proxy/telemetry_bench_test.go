package proxy

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/policy-check/check"
	"github.com/telemesh/telemesh/proxy/detail"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
	"github.com/telemesh/telemesh/proxy/report"
)

// noPolicy is what a sidecar has to which no policy applies.
type noPolicy struct{ fakePolicy }

func (noPolicy) Rules(check.Side) bool { return false }

// rawFields are fields whose head is at hand as it came, as an engine's for HTTP/1.
type rawFields struct {
	exchange.Fields
	head []byte
}

func (f *rawFields) AppendHead(dst []byte, most int) ([]byte, exchange.HeadForm, bool) {
	n := min(len(f.head), most)
	return append(dst, f.head[:n]...), exchange.HeadLines, n == len(f.head)
}

// BenchmarkTelemetry is what the mesh adds to a request beyond carrying it: who
// calls, trace context and request ID read and written, policy look-up, route,
// counts, histograms, and the record in its columns; three looks at the clock.
// Sending the columns is not in it: by a profile about 2.5 % of a request's CPU.
func BenchmarkTelemetry(b *testing.B) { benchmarkTelemetry(b, 0) }

// BenchmarkTelemetryWithDetails is the same with the ring of details: a head
// of nine fields each way, 0.6 KiB together, and one attempt.
func BenchmarkTelemetryWithDetails(b *testing.B) { benchmarkTelemetry(b, 4<<20) }

func benchmarkTelemetry(b *testing.B, detailBytes int) {
	p := newPipeline(check.Decision{})
	p.policy, p.store = noPolicy{}, report.NewStoreWith(detail.New(detail.Options{Bytes: detailBytes}))
	caller := other.Header()
	var request, response rawFields
	request.head = []byte(strings.Repeat("accept-language: en-GB,en;q=0.9\r\n", 9))
	response.head = request.head
	x := &exchange.Exchange{}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		start := netio.Now()
		added := x.ResponseHeaders[:0]
		tries := x.Tries[:0]
		*x = exchange.Exchange{Direction: exchange.Inbound, Scheme: "http", Security: "none", ResponseHeaders: added, Tries: tries}
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
		x.Tried(exchange.Try{Upstream: r.Upstream, FirstByte: r.FirstByte, Duration: r.FirstByte, Status: 200})
		r.Duration = time.Duration(netio.Now() - start)
		p.End(x)
	}
}
