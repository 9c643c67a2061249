package http1

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

// Options of a server. Direction, Handler, Gauges and Dial are required.
type Options struct {
	Direction exchange.Direction
	Handler   exchange.Handler
	Gauges    *exchange.Gauges
	// Dial opens an upstream connection within the target's connect timeout.
	Dial func(ctx context.Context, t exchange.Target) (net.Conn, error)
	// OpenHTTP2 opens a stream at an upstream that speaks HTTP/2 only; nil
	// speaks HTTP/1 with it nevertheless.
	OpenHTTP2 exchange.Opener
	// DownstreamIdle is how long a connection may be silent between requests.
	DownstreamIdle time.Duration
	// UpstreamIdle is how long an unused upstream connection is kept: below
	// the upstream's own limit, or it closes under a request.
	UpstreamIdle time.Duration
	// HeadTimeout is from a head's first byte to its last.
	HeadTimeout time.Duration
	// StreamIdle is how long a request may go without a byte either way.
	StreamIdle time.Duration
	// TunnelIdle is how long CONNECT and upgraded connections may be silent.
	TunnelIdle time.Duration
	// HalfClose is how long the answer may take after the downstream has ended
	// its direction. Half a close and a whole one look the same from here.
	HalfClose time.Duration
	// MaxHeaderBytes of a request or response head.
	MaxHeaderBytes int
	// HTTP2 takes over a connection that begins with HTTP/2's preface, and
	// closes it; nil refuses it.
	HTTP2 func(ctx context.Context, c *netio.Conn, facts ConnFacts)
	// ProtocolError counts input that is not HTTP, by a constant reason.
	ProtocolError func(reason string)
	Logger        *slog.Logger
}

func (o *Options) setDefaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.DownstreamIdle, 65 * time.Second},
		{&o.UpstreamIdle, 3 * time.Second},
		{&o.HeadTimeout, 30 * time.Second},
		{&o.StreamIdle, 5 * time.Minute}, // Envoy's default
		{&o.TunnelIdle, time.Hour},       // Envoy's default for opaque connections
		{&o.HalfClose, 5 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.MaxHeaderBytes == 0 {
		o.MaxHeaderBytes = 64 << 10
	}
	if o.ProtocolError == nil {
		o.ProtocolError = func(string) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// ConnFacts is what is known of a downstream connection before its first byte of
// HTTP.
type ConnFacts struct {
	Downstream          string         // host:port
	OriginalDestination netip.AddrPort // of a captured connection
	TLS                 *tls.ConnectionState
	Principal           string // SPIFFE ID of its certificate
}

// Server relays the HTTP/1 connections of one listener.
type Server struct {
	o        Options
	pool     pool
	lot      netio.Lot      // silent connections
	live     sync.WaitGroup // connections
	draining atomic.Bool
	silence  atomic.Int64  // after which draining closes a connection
	served   atomic.Uint32 // connections
	busy     atomic.Int32  // connections that hold memory between requests
	calm     atomic.Bool   // the sweep looks seldom
	stirred  chan struct{} // has room for one: the sweep should look often again

	mu    sync.Mutex // guards the fields below
	conns map[*conn]struct{}
	sweep chan struct{} // closed to end the sweep, nil while none runs
	swept sync.WaitGroup
}

// NewServer returns a server without connections. It has no goroutine until it
// serves.
func NewServer(o Options) *Server {
	o.setDefaults()
	s := &Server{o: o, conns: make(map[*conn]struct{}), stirred: make(chan struct{}, 1)}
	s.pool.init(&s.o)
	return s
}

// Serve relays one connection until it ends, and closes it. It ends early when
// ctx does. It returns earlier than that when the connection falls silent: Wait
// waits for all.
func (s *Server) Serve(ctx context.Context, c *netio.Conn, facts ConnFacts) {
	d := &conn{s: s, ctx: ctx, c: c, facts: facts, shard: uint8(s.served.Add(1))}
	s.live.Add(1)
	d.timer.set(idle, netio.Now()) // before anybody sees it
	s.add(d)
	d.stop = context.AfterFunc(ctx, d.abort)
	d.run()
}

// Saturation counts the requests under way and the upstream connections that are
// kept for later: by looking, a few times a minute, because a gauge of either would
// cost each request two atomic additions.
func (s *Server) Saturation() (inFlight, idle int64) {
	s.mu.Lock()
	for c := range s.conns {
		if c.timer.serves() {
			inFlight++
		}
	}
	s.mu.Unlock()
	return inFlight, s.pool.idle()
}

// Wait waits until every connection has ended. No Serve may begin meanwhile.
func (s *Server) Wait() { s.live.Wait() }

func (s *Server) add(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	s.startSweep()
}

// startSweep has a sweep run. The lock is held.
func (s *Server) startSweep() {
	if s.sweep == nil {
		s.sweep = make(chan struct{})
		s.swept.Add(1)
		go s.runSweep(s.sweep)
	}
}

// keepSweeping sees to the upstream connections of a bridge, which may have no
// downstream connection here.
func (s *Server) keepSweeping() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.startSweep()
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Drain has every connection end with its next answer, or the one that it is
// at, and tells the downstream with Connection: close. One that was promised
// more and stays silent is closed after that long. It may be called again with
// another silence.
func (s *Server) Drain(silence time.Duration) {
	s.silence.Store(int64(silence))
	s.draining.Store(true)
	s.stir()
}

// Close closes the kept upstream connections and ends the sweep. Connections
// have ended by then: see Wait.
func (s *Server) Close() {
	s.mu.Lock()
	sweep := s.sweep
	s.sweep = nil
	s.mu.Unlock()
	if sweep != nil {
		close(sweep)
	}
	s.swept.Wait()
	s.lot.Close()
	s.pool.closeIdle(netio.Now() + int64(time.Hour))
}
