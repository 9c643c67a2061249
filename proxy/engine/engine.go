// Package engine speaks HTTP for the sidecar. This first engine stands on
// net/http; nothing outside the package sees a type of it, so that the engine
// can be replaced (docs/adr/003-first-http-engine.md).
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// Target is where a request goes next.
type Target struct {
	Address string // host:port
	// Endpoint is told how the request went; nil outside the mesh.
	Endpoint exchange.Endpoint
}

// Handler decides on requests and observes them. Each exchange sees Begin,
// then Respond when there is an answer, then End exactly once.
type Handler interface {
	// Begin decides: either a target to forward to or a reply to give.
	Begin(ctx context.Context, x *exchange.Exchange) (Target, *exchange.Reply)
	// Respond sees the answer's head (the upstream's or the sidecar's own)
	// before it goes downstream.
	Respond(x *exchange.Exchange)
	// End sees the finished exchange.
	End(x *exchange.Exchange)
}

// Options of an engine.
type Options struct {
	Direction exchange.Direction
	Listener  net.Listener
	Handler   Handler
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
	o         Options
	server    *http.Server    // HTTP/1
	server2   *http.Server    // HTTP/2 with prior knowledge
	transport *http.Transport // HTTP/1.1 upstream
	h2c       *http.Transport // HTTP/2 without TLS upstream
	gauges    gauges
	serving   sync.WaitGroup // exchanges, upgraded and tunnelled ones too
}

// gauges are how full the engine is.
type gauges struct {
	inFlight, open, active, pending atomic.Int64
}

// New returns an engine that owns the listener once Run is called.
func New(o Options) *Engine {
	e := &Engine{o: o}
	e.transport = e.newTransport(false)
	e.h2c = e.newTransport(true)
	e.server, e.server2 = e.newServer(false), e.newServer(true)
	return e
}

func (e *Engine) newServer(http2 bool) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	return &http.Server{
		Handler:   http.HandlerFunc(e.serve),
		Protocols: protocols,
		// "OPTIONS *" is for the application.
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            30 * time.Second,
		IdleTimeout:                  65 * time.Second,
		MaxHeaderBytes:               e.o.MaxHeaderBytes,
		ErrorLog:                     slog.NewLogLogger(e.o.Logger.Handler(), slog.LevelDebug),
	}
}

func (e *Engine) newTransport(http2 bool) *http.Transport {
	dialer := &net.Dialer{Timeout: e.o.ConnectTimeout, KeepAlive: 30 * time.Second}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	return &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			e.gauges.pending.Add(1)
			defer e.gauges.pending.Add(-1)
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, &dialError{err}
			}
			e.gauges.open.Add(1)
			return &upstreamConn{Conn: c, closed: func() { e.gauges.open.Add(-1) }}, nil
		},
		MaxIdleConns:        1024,
		MaxIdleConnsPerHost: 1024,
		IdleConnTimeout:     e.o.UpstreamIdle,
		DisableCompression:  true,
		WriteBufferSize:     16 << 10,
		ReadBufferSize:      16 << 10,
	}
}

// Run serves until ctx ends, then refuses new connections, lets requests in
// flight, tunnels included, finish for up to grace and closes what is left. It
// returns when no exchange is left.
func (e *Engine) Run(ctx context.Context, grace time.Duration) error {
	requests, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	accepting := newSplit(e.o.Listener, e.o.ProtocolError)
	failed := make(chan error, 1)
	go func() { failed <- accepting.run() }()
	var servers errgroup.Group
	for server, l := range map[*http.Server]net.Listener{e.server: accepting.http1, e.server2: accepting.http2} {
		server.BaseContext = func(net.Listener) context.Context { return requests }
		servers.Go(func() error { return server.Serve(l) })
	}
	defer e.transport.CloseIdleConnections()
	defer e.h2c.CloseIdleConnections()
	var broken error
	select {
	case err := <-failed:
		failed <- err // for the end
		broken = fmt.Errorf("serve %s listener: %w", e.o.Direction, err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	// Also ends what Shutdown does not know of: hijacked connections.
	stop := context.AfterFunc(drain, end)
	defer stop()
	accepting.close()
	<-failed
	for _, server := range []*http.Server{e.server, e.server2} {
		if server.Shutdown(drain) != nil {
			broken = errors.Join(broken, server.Close())
		}
	}
	e.serving.Wait()
	_ = servers.Wait() // it says that the servers were shut down
	return broken
}

// Saturation of the engine: requests in flight, upstream connections in use
// and idle, and connections being opened.
func (e *Engine) Saturation() (inFlight, active, idle, pending int64) {
	inFlight, active = e.gauges.inFlight.Load(), e.gauges.active.Load()
	return inFlight, active, max(e.gauges.open.Load()-active, 0), e.gauges.pending.Load()
}

// dialError marks a request of which no byte was sent.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

// upstreamConn tells when it is closed.
type upstreamConn struct {
	net.Conn
	done   atomic.Bool
	closed func()
}

func (c *upstreamConn) Close() error {
	if c.done.CompareAndSwap(false, true) {
		c.closed()
	}
	return c.Conn.Close()
}
