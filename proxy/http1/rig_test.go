package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 5 * time.Second

// decider is a handler that forwards everything to one target, or gives one
// reply, and keeps the records.
type decider struct {
	target exchange.Target
	reply  *exchange.Reply
	begin  func(*exchange.Exchange) // may be nil
	end    func(*exchange.Exchange) // likewise

	mu       sync.Mutex // guards the fields below
	began    int
	answered int
	failures []exchange.Outcome // that Retry was asked about
	retries  int                // that it allows
	ended    chan record.Record
}

func (d *decider) Begin(_ context.Context, x *exchange.Exchange) (exchange.Target, *exchange.Reply) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.began++
	if d.begin != nil {
		d.begin(x)
	}
	return d.target, d.reply
}

func (d *decider) Waits() bool { return false }

func (d *decider) Retry(_ *exchange.Exchange, failed exchange.Outcome) (exchange.Target, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failures = append(d.failures, failed)
	d.retries--
	return d.target, d.retries >= 0
}

func (d *decider) Respond(*exchange.Exchange) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answered++
}

func (d *decider) End(x *exchange.Exchange) {
	r := x.Record // its texts are views until now
	for _, text := range []*string{&r.Method, &r.Path, &r.Host, &r.UserAgent} {
		*text = strings.Clone(*text)
	}
	if d.end != nil {
		d.end(x)
	}
	d.ended <- r
}

// rig is a server on loopback.
type rig struct {
	t       testing.TB
	address string
	handler *decider
	server  *Server
	gauges  exchange.Gauges
	refused chan string // reasons of protocol errors
	stop    func()      // ends it and waits for that
	cancel  func()      // ends its connections
}

// newRig starts a server that forwards to target. change may be nil.
func newRig(t testing.TB, target string, change func(*Options)) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, address: l.Addr().String(), handler: &decider{target: exchange.Target{Address: target}, ended: make(chan record.Record, 1024)}, refused: make(chan string, 1024)}
	o := Options{
		Direction: exchange.Outbound, Handler: r.handler, Gauges: &r.gauges, UpstreamIdle: patience,
		Dial: func(ctx context.Context, t exchange.Target) (net.Conn, error) {
			return (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", t.Address)
		},
		ProtocolError: func(reason string) { r.refused <- reason },
	}
	if change != nil {
		change(&o)
	}
	r.server = NewServer(o)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { r.server.Serve(ctx, netio.New(c, nil), ConnFacts{Downstream: "client:1"}) })
		}
	})
	r.stop = sync.OnceFunc(func() {
		l.Close()
		cancel()
		serving.Wait()
		r.server.Wait()
		r.server.Close()
		r.settled()
	})
	t.Cleanup(r.stop)
	return r
}

// settled fails unless what began has ended and nothing is held.
func (r *rig) settled() {
	r.t.Helper()
	g := &r.gauges
	inFlight, idle := r.server.Saturation()
	if n := inFlight | g.PoolOpen.Load() | idle | g.Pending.Load(); n != 0 {
		r.t.Errorf("gauges are not zero: in flight %d, active %d, idle %d, pending %d", inFlight, g.PoolOpen.Load(), idle, g.Pending.Load())
	}
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

// reason waits for a protocol error.
func (r *rig) reason() string {
	r.t.Helper()
	select {
	case reason := <-r.refused:
		return reason
	case <-time.After(patience):
		return "nothing is counted"
	}
}

// client is a raw downstream.
type client struct {
	*net.TCPConn
	t  testing.TB
	in *bufio.Reader
}

func (r *rig) dial() *client {
	r.t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience)) // a hang fails as an error
	return &client{TCPConn: c.(*net.TCPConn), t: r.t, in: bufio.NewReader(c)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// answer reads one answer to a request of the method.
func (c *client) answer(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("answer: %v", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Errorf("body of the answer: %v", err)
	}
	return resp, string(b)
}

// status reads one answer and returns its status.
func (c *client) status(method string) int {
	c.t.Helper()
	resp, _ := c.answer(method)
	return resp.StatusCode
}

// want reads exactly these bytes.
func (c *client) want(s string) {
	c.t.Helper()
	b := make([]byte, len(s))
	n, err := io.ReadFull(c.in, b)
	if string(b[:n]) != s {
		c.t.Errorf("got %q (%v)\nwant %q", b[:n], err, s)
	}
}

// closed fails unless the server ends the connection with nothing more on it.
func (c *client) closed() {
	c.t.Helper()
	if b, err := io.ReadAll(c.in); err != nil || len(b) != 0 {
		c.t.Errorf("got %q, %v; want the connection's end", b, err)
	}
}

// rawUpstream serves each connection with f, numbered from 0.
func rawUpstream(t testing.TB, f func(n int, c *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			conns.Go(func() { defer c.Close(); f(n, c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return l.Addr().String()
}

// asked is one request as an upstream got it.
type asked struct {
	raw        string // head and body as they came
	body       string
	connection int
	err        error
}

// reader reads requests off a connection together with their raw bytes.
type reader struct {
	raw bytes.Buffer
	in  *bufio.Reader
}

func newReader(c io.Reader) *reader {
	r := &reader{}
	r.in = bufio.NewReader(io.TeeReader(c, &r.raw))
	return r
}

// next reads a request; false at the connection's end.
func (r *reader) next(connection int) (asked, bool) {
	req, err := http.ReadRequest(r.in)
	var broken *net.OpError
	if errors.Is(err, io.EOF) || errors.As(err, &broken) {
		return asked{}, false
	}
	a := asked{connection: connection, err: err}
	if err == nil {
		var b []byte
		b, a.err = io.ReadAll(req.Body)
		a.body = string(b)
	}
	a.raw = string(r.raw.Next(r.raw.Len() - r.in.Buffered()))
	return a, true
}

// answering is an upstream that answers every request with what answer says, and keeps what it got.
func answering(t testing.TB, answer func(asked) string) (address string, got chan asked) {
	got = make(chan asked, 1024)
	return rawUpstream(t, func(n int, c *net.TCPConn) {
		for r := newReader(c); ; {
			a, ok := r.next(n)
			if !ok {
				return
			}
			got <- a
			if _, err := io.WriteString(c, answer(a)); err != nil || a.err != nil {
				return
			}
		}
	}), got
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func alwaysOK(asked) string { return okAnswer }

// take waits for what an upstream gets.
func take(t testing.TB, got chan asked) asked {
	t.Helper()
	select {
	case a := <-got:
		return a
	case <-time.After(patience):
		t.Fatal("nothing came upstream")
		return asked{}
	}
}
