// Package engine accepts the connections of one listener and gives each to the
// package that speaks its protocol: http1 of the mesh's own, and for HTTP/2
// net/http for now (docs/adr/003-first-http-engine.md).
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/http1"
	"github.com/telemesh/telemesh/proxy/netio"
)

// Options of an engine.
type Options struct {
	Direction exchange.Direction
	Listener  net.Listener
	Handler   exchange.Handler
	// UpstreamIdle is how long an unused upstream connection is kept: below
	// the upstream's own limit, or it closes under a request.
	UpstreamIdle   time.Duration
	ConnectTimeout time.Duration
	// MaxHeaderBytes of a request head; beyond it the answer is 431.
	MaxHeaderBytes int
	// ProtocolError counts input that is not HTTP, by reason.
	ProtocolError func(reason string)
	Logger        *slog.Logger
}

// Engine serves one listener.
type Engine struct {
	o       Options
	http1   *http1.Server
	server2 *http.Server // HTTP/2 with prior knowledge
	conns2  *handover
	h2c     *http.Transport
	gauges  exchange.Gauges
	serving sync.WaitGroup // connections, and exchanges of HTTP/2
}

// New returns an engine that owns the listener once Run is called.
func New(o Options) *Engine {
	e := &Engine{o: o}
	e.conns2 = newHandover(o.Listener.Addr())
	e.http1 = http1.NewServer(http1.Options{
		Direction: o.Direction, Handler: o.Handler, Gauges: &e.gauges, Dial: e.dial,
		UpstreamIdle: o.UpstreamIdle, MaxHeaderBytes: o.MaxHeaderBytes,
		HTTP2:         func(_ context.Context, c *netio.Conn, _ http1.ConnFacts) { e.conns2.give(c) },
		ProtocolError: o.ProtocolError, Logger: o.Logger,
	})
	e.h2c = e.newTransport()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	e.server2 = &http.Server{
		Handler: http.HandlerFunc(e.serve), Protocols: protocols, DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 65 * time.Second, MaxHeaderBytes: o.MaxHeaderBytes,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	return e
}

// dial opens an upstream connection.
func (e *Engine) dial(ctx context.Context, t exchange.Target) (net.Conn, error) {
	timeout := e.o.ConnectTimeout
	if t.Timeouts.Connect > 0 {
		timeout = t.Timeouts.Connect
	}
	dialer := net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	return dialer.DialContext(ctx, "tcp", t.Address)
}

func (e *Engine) newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			c, err := e.dial(ctx, exchange.Target{Address: address})
			if err != nil {
				return nil, &dialError{err}
			}
			return c, nil
		},
		MaxIdleConnsPerHost: 1024, IdleConnTimeout: e.o.UpstreamIdle, DisableCompression: true,
	}
}

// Run serves until ctx ends, then refuses new connections, lets requests in
// flight, tunnels included, finish for up to grace and closes what is left. It
// returns when no exchange is left.
func (e *Engine) Run(ctx context.Context, grace time.Duration) error {
	requests, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	failed := make(chan error, 1)
	go func() { failed <- e.accept(requests) }()
	e.server2.BaseContext = func(net.Listener) context.Context { return requests }
	served := make(chan error, 1)
	go func() { served <- e.server2.Serve(e.conns2) }()

	var broken error
	select {
	case err := <-failed:
		failed <- err // for the end
		broken = fmt.Errorf("serve %s listener: %w", e.o.Direction, err)
	case <-ctx.Done():
	}
	_ = e.o.Listener.Close() // nothing is lost with it
	<-failed
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	stop := context.AfterFunc(drain, end)
	defer stop()
	e.http1.Drain()
	if e.server2.Shutdown(drain) != nil {
		broken = errors.Join(broken, e.server2.Close())
	}
	e.serving.Wait()
	e.conns2.end()
	<-served // it says that the server was shut down
	e.http1.Close()
	e.h2c.CloseIdleConnections()
	return broken
}

// accept serves connections until the listener is closed.
func (e *Engine) accept(ctx context.Context) error {
	for {
		c, err := e.o.Listener.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case err == nil:
			e.serving.Go(func() {
				e.http1.Serve(ctx, netio.New(c, nil), http1.ConnFacts{Downstream: c.RemoteAddr().String()})
			})
		case errors.As(err, &temporary) && temporary.Temporary(): // out of file descriptors, say
			time.Sleep(10 * time.Millisecond)
		default:
			return err
		}
	}
}

// Saturation of the engine: requests in flight, upstream connections in use
// and idle, and connections being opened.
func (e *Engine) Saturation() (inFlight, active, idle, pending int64) {
	g := &e.gauges
	return g.InFlight.Load(), g.PoolActive.Load(), g.PoolIdle.Load(), g.Pending.Load()
}

// dialError marks a request of which no byte was sent.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

// handover is a listener whose connections were accepted elsewhere.
type handover struct {
	address net.Addr
	conns   chan net.Conn
	ended   chan struct{}
	once    sync.Once
}

func newHandover(address net.Addr) *handover {
	return &handover{address: address, conns: make(chan net.Conn), ended: make(chan struct{})}
}

func (h *handover) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.ended:
		_ = c.Close() // the sidecar is going
	}
}

func (h *handover) end() { h.once.Do(func() { close(h.ended) }) }

// Accept implements net.Listener.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handover) Close() error { h.end(); return nil }

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return h.address }
