package http2

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 20 * time.Second

// decider forwards everything to one target, or gives one reply, and counts.
type decider struct {
	target  exchange.Target
	reply   *exchange.Reply
	waits   bool
	retries int32                           // attempts beyond the first
	choose  func(x *exchange.Exchange) bool // whether to use reply
	end     func(x *exchange.Exchange)      // may be nil

	began, ended, answered, retried atomic.Int32
	outcomes                        atomic.Int32 // told to the endpoint
	records                         chan record.Record
	failures                        chan exchange.Outcome
}

func newDecider(address string) *decider {
	d := &decider{records: make(chan record.Record, 4096), failures: make(chan exchange.Outcome, 4096)}
	d.target = exchange.Target{Address: address, Endpoint: d}
	return d
}

func (d *decider) Done(o exchange.Outcome) {
	d.outcomes.Add(1)
	if len(d.failures) < cap(d.failures) {
		d.failures <- o
	}
}

func (d *decider) Waits() bool { return d.waits }

func (d *decider) Begin(_ context.Context, x *exchange.Exchange) (exchange.Target, *exchange.Reply) {
	d.began.Add(1)
	if d.reply != nil && (d.choose == nil || d.choose(x)) {
		return exchange.Target{}, d.reply
	}
	x.Request.Set("x-seen", "yes")
	return d.target, nil
}

func (d *decider) Retry(_ *exchange.Exchange, o exchange.Outcome) (exchange.Target, bool) {
	if d.retried.Add(1) > d.retries {
		return exchange.Target{}, false
	}
	return d.target, true
}

func (d *decider) Respond(x *exchange.Exchange) {
	d.answered.Add(1)
	x.Response.Set("x-answered", "yes")
}

func (d *decider) End(x *exchange.Exchange) {
	d.ended.Add(1)
	if d.end != nil {
		d.end(x)
	}
	if len(d.records) < cap(d.records) {
		d.records <- x.Record
	}
}

// rig is a relay on loopback.
type rig struct {
	t       testing.TB
	address string
	handler *decider
	server  *Server
	gauges  *exchange.Gauges
	refused chan string
	stop    func()
}

func newRig(t testing.TB, d *decider, change ...func(*Options)) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, address: l.Addr().String(), handler: d, gauges: &exchange.Gauges{}, refused: make(chan string, 1024)}
	o := Options{
		Direction: exchange.Outbound, Handler: d, Gauges: r.gauges,
		UpstreamIdle: patience, DownstreamIdle: patience, MaxHeaderBytes: 16 << 10,
		ProtocolError: func(reason string) {
			select {
			case r.refused <- reason:
			default:
			}
		},
		Dial: func(ctx context.Context, t exchange.Target) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", t.Address)
		},
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&o)
	}
	r.server = NewServer(o)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { r.server.Serve(ctx, netio.New(c, nil), ConnFacts{Downstream: c.RemoteAddr().String()}) })
		}
	})
	r.stop = sync.OnceFunc(func() {
		l.Close()
		cancel()
		serving.Wait()
		r.server.Close()
		r.balanced()
	})
	t.Cleanup(r.stop)
	return r
}

// balanced fails unless what began has ended, once.
func (r *rig) balanced() {
	r.t.Helper()
	if b, e := r.handler.began.Load(), r.handler.ended.Load(); b != e {
		r.t.Errorf("%d exchanges began, %d ended", b, e)
	}
	g := r.gauges
	if a, b, c, d := g.InFlight.Load(), g.PoolOpen.Load(), g.PoolIdle.Load(), g.Pending.Load(); a|b|c|d != 0 {
		r.t.Errorf("after the end: %d in flight, %d active, %d idle, %d pending", a, b, c, d)
	}
}

// record waits for the end of an exchange.
func (r *rig) record() record.Record {
	r.t.Helper()
	select {
	case rec := <-r.handler.records:
		return rec
	case <-time.After(patience):
		r.t.Fatal("no exchange ended")
		return record.Record{}
	}
}

// reason waits for a refusal.
func (r *rig) reason() string {
	r.t.Helper()
	select {
	case s := <-r.refused:
		return s
	case <-time.After(patience):
		r.t.Fatal("nothing was refused")
		return ""
	}
}

// app starts an upstream that speaks h2c.
func app(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// client is net/http's HTTP/2 through the rig.
func (r *rig) client() *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p, DisableCompression: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, r.address)
	}}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

func url(path string) string { return fmt.Sprintf("http://reviews.example:9080%s", path) }
