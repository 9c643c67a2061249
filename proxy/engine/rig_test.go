package engine

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 20 * time.Second

// decider is a handler that forwards everything to one address, or gives one
// reply, and keeps what it saw.
type decider struct {
	target   string
	protocol exchange.Protocol
	timeouts exchange.Timeouts
	tls      *tls.Config
	reply    *exchange.Reply
	second   string // another attempt's target

	mu       sync.Mutex // guards the fields below
	began    int
	answered int
	ended    chan record.Record
}

func (d *decider) Begin(_ context.Context, x *exchange.Exchange) (exchange.Target, *exchange.Reply) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.began++
	return exchange.Target{Address: d.target, Protocol: d.protocol, Timeouts: d.timeouts, TLS: d.tls}, d.reply
}

func (d *decider) Respond(x *exchange.Exchange) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answered++
	x.Response.Set("x-seen", "yes")
}

func (d *decider) Waits() bool { return false }

func (d *decider) Retry(x *exchange.Exchange, _ exchange.Outcome) (exchange.Target, bool) {
	return exchange.Target{Address: d.second, Protocol: d.protocol}, d.second != "" && x.Record.Attempts == 1
}

func (d *decider) End(x *exchange.Exchange) {
	r := x.Record // its texts are views until now
	for _, text := range []*string{&r.RequestID, &r.Method, &r.Path, &r.Host, &r.Detail, &r.Rule, &r.UserAgent} {
		*text = strings.Clone(*text)
	}
	d.ended <- r
}

// rig is an engine on loopback in front of an upstream.
type rig struct {
	t       *testing.T
	address string
	handler *decider
	engine  *Engine
	refused chan string // reasons of protocol errors
	stop    func() error
	ended   func() error // waits for Run
}

// newRig starts an engine that forwards to target.
func newRig(t *testing.T, target string) *rig { return newRigWithGrace(t, target, patience) }

func newRigWithGrace(t *testing.T, target string, grace time.Duration) *rig {
	t.Helper()
	return newRigFor(t, target, grace)
}

func newRigFor(t *testing.T, target string, grace time.Duration, opaque ...Opaque) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, address: l.Addr().String(), handler: &decider{target: target, ended: make(chan record.Record, 256)}, refused: make(chan string, 64)}
	r.engine = New(Options{
		Direction: exchange.Outbound, Listener: l, Opaque: opaque, Handler: r.handler, UpstreamIdle: time.Second, ConnectTimeout: patience,
		MaxHeaderBytes: 8 << 10, ProtocolError: func(reason string) { r.refused <- reason }, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- r.engine.Run(ctx, grace) }()
	r.ended = sync.OnceValue(func() error { return <-ran })
	r.stop = func() error { cancel(); return r.ended() }
	t.Cleanup(func() { _ = r.stop() }) // its result is the test's to judge
	return r
}

// app starts an upstream that speaks HTTP/1.1 and h2c.
func app(t *testing.T, h http.HandlerFunc) string {
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

// rawApp starts an upstream that serves each connection with f.
func rawApp(t *testing.T, f func(net.Conn)) string {
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
			conns.Go(func() { defer c.Close(); f(c) })
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return l.Addr().String()
}

// record waits for the end of an exchange.
func (r *rig) record() record.Record {
	r.t.Helper()
	select {
	case rec := <-r.handler.ended:
		return rec
	case <-time.After(patience):
		r.t.Fatal("no exchange ended")
		return record.Record{}
	}
}

// once stops the engine and fails unless n exchanges began and no further one
// ended than those taken with record.
func (r *rig) once(n int) {
	r.t.Helper()
	if err := r.stop(); err != nil {
		r.t.Errorf("Run: %v", err)
	}
	r.handler.mu.Lock()
	defer r.handler.mu.Unlock()
	if r.handler.began != n || len(r.handler.ended) != 0 {
		r.t.Errorf("%d exchanges began, %d ends are left; want %d and none", r.handler.began, len(r.handler.ended), n)
	}
	if in, active, _, pending := r.engine.Saturation(); in != 0 || active != 0 || pending != 0 {
		r.t.Errorf("after the end %d are in flight, %d active, %d pending", in, active, pending)
	}
}

// dial opens a raw connection to the engine.
func (r *rig) dial() (*net.TCPConn, *bufio.Reader) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience)) // a hang fails as an error
	return c.(*net.TCPConn), bufio.NewReader(c)
}

// raw sends bytes and returns everything that comes back until the end.
func (r *rig) raw(format string, args ...any) string {
	r.t.Helper()
	c, in := r.dial()
	fmt.Fprintf(c, format, args...)
	b, _ := io.ReadAll(in) // a reset ends the answer like a close
	c.Close()
	return string(b)
}

func want(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(p)) {
			t.Errorf("%q is missing in:\n%s", p, text)
		}
	}
}
