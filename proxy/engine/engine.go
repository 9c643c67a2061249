// Package engine accepts the connections of one listener and gives each to the
// package that speaks its protocol: http1, http2 or tcp.
package engine

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/telemesh/telemesh/proxy/capture"
	"github.com/telemesh/telemesh/proxy/detect"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/http1"
	"github.com/telemesh/telemesh/proxy/http2"
	"github.com/telemesh/telemesh/proxy/netio"
	"github.com/telemesh/telemesh/proxy/tcp"
)

// Options of an engine.
type Options struct {
	Direction exchange.Direction
	Listener  net.Listener
	Handler   exchange.Handler
	// Opaque are further listeners, each for one service.
	Opaque []Opaque
	// UpstreamIdle is how long an unused upstream connection is kept: below
	// the upstream's own limit, or it closes under a request.
	UpstreamIdle   time.Duration
	ConnectTimeout time.Duration
	// MaxHeaderBytes of a request head; beyond it the answer is 431.
	MaxHeaderBytes int
	// TLS of accepted connections; nil for plain text only.
	TLS *TLS
	// ProtocolError counts input that is refused, by reason.
	ProtocolError func(reason string)
	Logger        *slog.Logger
}

// downstreamIdle is how long a connection may be silent between requests: above
// what a sidecar keeps its upstream connections for.
const downstreamIdle = 65 * time.Second

// What is remembered of destinations: enough for a workload's, and not for long,
// because what listens there may change.
const (
	learnedDestinations = 1024
	learnedFor          = 10 * time.Minute
)

// Engine serves one listener.
type Engine struct {
	o       Options
	http1   *http1.Server
	http2   *http2.Server
	tcp     *tcp.Server
	learned *detect.Memory
	address netip.AddrPort // of the listener
	gauges  exchange.Gauges
	serving sync.WaitGroup // connections
	drains  chan Drain     // has room for one
	aborted chan struct{}
	abort   func() // closes aborted
}

// New returns an engine that owns the listener once Run is called.
func New(o Options) *Engine {
	e := &Engine{o: o, address: addrPort(o.Listener.Addr()), learned: detect.NewMemory(learnedDestinations, learnedFor), drains: make(chan Drain, 1), aborted: make(chan struct{})}
	e.abort = sync.OnceFunc(func() { close(e.aborted) })
	e.http1 = http1.NewServer(http1.Options{
		Direction: o.Direction, Handler: o.Handler, Gauges: &e.gauges, Dial: e.dialer("http/1.1"),
		DownstreamIdle: downstreamIdle, UpstreamIdle: o.UpstreamIdle, MaxHeaderBytes: o.MaxHeaderBytes,
		HTTP2: func(ctx context.Context, c *netio.Conn, f http1.ConnFacts) {
			e.http2.Serve(ctx, c, http2.ConnFacts(f))
		},
		OpenHTTP2:     e.openHTTP2,
		ProtocolError: o.ProtocolError, Logger: o.Logger,
	})
	e.http2 = http2.NewServer(http2.Options{
		Direction: o.Direction, Handler: o.Handler, Gauges: &e.gauges, Dial: e.dialer("h2"),
		DownstreamIdle: downstreamIdle, UpstreamIdle: o.UpstreamIdle, MaxHeaderBytes: o.MaxHeaderBytes,
		OpenHTTP1:     e.openHTTP1,
		ProtocolError: o.ProtocolError, Logger: o.Logger,
	})
	e.tcp = tcp.New(tcp.Options{
		Direction: o.Direction, Handler: o.Handler, Gauges: &e.gauges, Dial: e.dialer("http/1.1"), Tunnel: e.tunnel,
	})
	return e
}

func addrPort(a net.Addr) netip.AddrPort {
	if a, ok := a.(*net.TCPAddr); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

// openHTTP2 and openHTTP1 are the ways over the bridge between the versions of
// HTTP: each engine's to the other's upstreams.
func (e *Engine) openHTTP2(ctx context.Context, t exchange.Target, fields []exchange.Field, end bool) (exchange.Stream, error) {
	s, err := e.http2.Open(ctx, t, fields, end)
	if err != nil {
		return nil, err // not a nil stream in an interface
	}
	return s, nil
}

func (e *Engine) openHTTP1(ctx context.Context, t exchange.Target, fields []exchange.Field, end bool) (exchange.Stream, error) {
	s, err := e.http1.Open(ctx, t, fields, end)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// dial opens a socket to the target.
func (e *Engine) dial(ctx context.Context, t exchange.Target) (net.Conn, error) {
	timeout := e.o.ConnectTimeout
	if t.Timeouts.Connect > 0 {
		timeout = t.Timeouts.Connect
	}
	dialer := net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp", t.Address)
	if err != nil {
		return nil, err
	}
	netio.Near(c)
	return c, nil
}

// accept serves connections until the listener is closed.
func (e *Engine) accept(l net.Listener, serve func(net.Conn)) error {
	for {
		c, err := l.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			e.serving.Go(func() { serve(c) })
		case errors.As(err, &temporary) && temporary.Temporary(): // out of file descriptors, say
			time.Sleep(10 * time.Millisecond)
		default:
			return err
		}
	}
}

// serve carries one connection. One that was made to the sidecar itself speaks
// HTTP, and what does not is told so; one that was captured may speak anything.
func (e *Engine) serve(ctx context.Context, c net.Conn) {
	facts := http1.ConnFacts{Downstream: c.RemoteAddr().String()}
	netio.Near(c)
	conn := netio.New(c, nil)
	if e.o.TLS != nil {
		var ok bool
		if conn, ok = e.secure(ctx, conn, &facts); !ok {
			_ = conn.Close() // nothing can be said to it
			return
		}
	}
	if socket, ok := c.(syscall.Conn); ok {
		if original, captured := capture.OriginalDestination(socket); captured && !capture.IsSelf(original, e.address) {
			facts.OriginalDestination = original
			if facts.TLS == nil {
				e.serveCaptured(ctx, conn, facts)
				return
			}
		}
	}
	e.http1.Serve(ctx, conn, facts)
}

// serveCaptured finds out what a connection speaks that was on its way to
// somewhere else.
func (e *Engine) serveCaptured(ctx context.Context, c *netio.Conn, facts http1.ConnFacts) {
	if capture.IsVirtual(facts.OriginalDestination.Addr()) {
		e.serveVirtual(ctx, c, facts)
		return
	}
	destination := facts.OriginalDestination.String()
	found, err := detect.Detect(ctx, c, detect.Options{
		Upstream: func(ctx context.Context) (net.Conn, error) {
			return e.dial(ctx, exchange.Target{Address: destination})
		},
		Destination: facts.OriginalDestination, Memory: e.learned,
	})
	switch {
	case err != nil:
		_ = c.Close() // it has left, or nobody ever spoke
	case found.Protocol == exchange.TCP:
		e.tcp.Serve(ctx, c, tcp.Facts{
			Downstream: facts.Downstream, OriginalDestination: facts.OriginalDestination, SNI: found.SNI,
			Upstream: found.Upstream, UpstreamAddress: destination,
		})
	default:
		e.http1.Serve(ctx, c, facts)
	}
}

// Saturation of the engine: requests in flight, upstream connections in use
// and idle, and connections being opened.
func (e *Engine) Saturation() (inFlight, active, idle, pending int64) {
	g := &e.gauges
	inFlight, idle = e.http1.Saturation()
	idle += g.PoolIdle.Load()
	return inFlight + g.InFlight.Load(), max(g.PoolOpen.Load()-idle, 0), idle, g.Pending.Load()
}
