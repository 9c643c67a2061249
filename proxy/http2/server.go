package http2

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// Options of a relay.
type Options struct {
	Direction exchange.Direction
	Handler   exchange.Handler
	Gauges    *exchange.Gauges
	// UpstreamIdle and DownstreamIdle are how long a connection without streams
	// is kept; 0 means for ever.
	UpstreamIdle, DownstreamIdle time.Duration
	// MaxHeaderBytes of a header list, counted as in RFC 9113, section 6.5.2;
	// beyond it the answer is 431. 64 KiB if 0.
	MaxHeaderBytes int
	// MaxConcurrentStreams of a downstream connection; 1000 if 0.
	MaxConcurrentStreams uint32
	// ProtocolError counts refused input; its reasons are constants.
	ProtocolError func(reason string)
	// Dial opens a connection that speaks HTTP/2, plain or over TLS.
	Dial func(ctx context.Context, t exchange.Target) (net.Conn, error)
	// OpenHTTP1 opens a stream at an upstream that speaks HTTP/1 only; nil
	// speaks HTTP/2 with it nevertheless.
	OpenHTTP1 exchange.Opener
	Logger    *slog.Logger
}

// ConnFacts are what is known of a downstream connection.
type ConnFacts struct {
	Downstream          string // host:port
	OriginalDestination netip.AddrPort
	TLS                 *tls.ConnectionState // nil for plain text
	Principal           string               // SPIFFE ID of its certificate
}

// Server relays downstream connections. It is safe for concurrent use.
type Server struct {
	o      Options
	pool   *pool
	served atomic.Uint32 // downstream connections

	mu       sync.Mutex // guards the fields below
	conns    map[*conn]struct{}
	draining bool
}

// NewServer returns a relay without connections.
func NewServer(o Options) *Server {
	if o.MaxHeaderBytes <= 0 {
		o.MaxHeaderBytes = 64 << 10
	}
	if o.MaxConcurrentStreams == 0 {
		o.MaxConcurrentStreams = 1000
	}
	if o.ProtocolError == nil {
		o.ProtocolError = func(string) {}
	}
	if o.Gauges == nil {
		o.Gauges = &exchange.Gauges{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, conns: map[*conn]struct{}{}}
	s.pool = newPool(s)
	return s
}

// Serve relays one downstream connection, preface first, and closes it. It
// returns when every exchange of the connection has ended; the end of ctx ends
// them.
func (s *Server) Serve(ctx context.Context, io *netio.Conn, facts ConnFacts) {
	c := newConn(s, io, false)
	c.facts, c.shard = facts, uint8(s.served.Add(1))
	c.ctx = ctx
	s.mu.Lock()
	s.conns[c] = struct{}{}
	draining := s.draining
	s.mu.Unlock()
	if draining {
		c.drain(&c.batch)
	}
	release := context.AfterFunc(ctx, c.stop)
	err := c.run()
	release()
	c.deciders.Wait()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.o.Logger.Debug("downstream connection ended", "downstream", facts.Downstream, "cause", err)
}

// Drain has every downstream connection end once its streams have: with GOAWAY,
// in two steps so that no stream is lost. It does not wait; a connection whose
// peer does not take part ends with Serve's ctx.
func (s *Server) Drain() {
	s.mu.Lock()
	s.draining = true
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		var b batch
		c.drain(&b)
		b.run()
	}
}

// Close ends the upstream connections, in use or not, and returns when they are
// gone. It belongs after the last Serve.
func (s *Server) Close() { s.pool.close() }
