package tcp

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/identity"
	"github.com/telemesh/telemesh/proxy/netio"
)

const (
	// defaultIdle is Envoy's default for an opaque connection (TCP proxy filter,
	// idle_timeout).
	defaultIdle    = time.Hour
	defaultConnect = 10 * time.Second
)

// Options of a server.
type Options struct {
	Direction exchange.Direction
	Handler   exchange.Handler
	// Gauges may be nil.
	Gauges *exchange.Gauges
	// Dial opens the upstream connection, TLS included if the target wants it.
	// nil dials the target's address and originates its TLS.
	Dial func(ctx context.Context, t exchange.Target) (net.Conn, error)
	// Tunnel has the sidecar at the other end of c carry the bytes that follow to
	// its application, before any of them is sent: on outbound connections to the
	// mesh's own endpoints. It hands x.Request over, sets x.Response to the answer's
	// header and returns its status, of which 2xx lets the bytes through. ctx bounds
	// it. nil sends the bytes as they are.
	Tunnel func(ctx context.Context, c *netio.Conn, x *exchange.Exchange) (status int, err error)
	// Idle ends a connection on which no byte went either way for so long; 0
	// means an hour, below 0 never. A target's own idle timeout comes first.
	Idle time.Duration
}

// Facts are what is known of a connection before its first relayed byte.
type Facts struct {
	// Downstream is the caller's address, host:port.
	Downstream string
	// OriginalDestination is where a captured connection was meant to go.
	OriginalDestination netip.AddrPort
	// Host is whom the listener is for, host:port; empty if it is for anybody.
	Host string
	// SNI is the name in a ClientHello that is passed through.
	SNI string
	// TLS is the state of a connection whose TLS the sidecar terminated.
	TLS *tls.ConnectionState
	// Principal is the verified SPIFFE ID of the downstream; empty without one.
	Principal string
	// Greeted is called when the upstream spoke before the downstream, if it did;
	// nil if nobody wants to know.
	Greeted func()
	// Upstream is a connection that protocol detection opened already, to
	// UpstreamAddress. Serve owns it, and uses it if that is where the handler
	// sends the connection.
	Upstream        *netio.Conn
	UpstreamAddress string
}

// host is what the caller asked for, as far as an opaque connection says it.
func (f *Facts) host() string {
	switch {
	case f.Host != "":
		return f.Host
	case f.SNI != "":
		return f.SNI
	case f.TLS != nil && f.TLS.ServerName != "":
		return f.TLS.ServerName
	case f.OriginalDestination.IsValid():
		return f.OriginalDestination.String()
	}
	return ""
}

// Server carries opaque connections. Safe for concurrent use.
type Server struct{ o Options }

// New returns a server.
func New(o Options) *Server {
	if o.Gauges == nil {
		o.Gauges = new(exchange.Gauges)
	}
	if o.Dial == nil {
		o.Dial = dial
	}
	if o.Idle == 0 {
		o.Idle = defaultIdle
	}
	return &Server{o: o}
}

// Serve carries one accepted connection until it has ended, and closes it. The
// handler sees Begin, Retry for each target that could not be connected to, and
// End. Respond is for what another sidecar answered; without one it is left out,
// because an opaque connection has no answer. The exchange's request header is
// exchange.Fields. A refusal is a reset.
//
// Bytes are those of the payload. A tunnel's response code is the other sidecar's,
// every other connection's is 0.
//
// A connection that came to its end in order has no flags. UF: no target took the
// connection, or the application behind it did not. UO: the service has as many
// connections as it may. DC, UC: the downstream or the
// upstream broke it off. One that was ended for silence or because ctx ended has a
// detail and no flag, as with Envoy.
func (s *Server) Serve(ctx context.Context, c *netio.Conn, f Facts) {
	s.o.Gauges.InFlight.Add(1)
	defer s.o.Gauges.InFlight.Add(-1)
	defer c.Close()
	x := s.newExchange(&f)
	began := netio.Now()
	defer func() {
		x.Record.Duration = time.Duration(netio.Now() - began)
		s.o.Handler.End(x)
	}()
	spare := spare{c: f.Upstream, address: f.UpstreamAddress}
	defer spare.close()
	target, reply := s.o.Handler.Begin(ctx, x)
	if reply != nil {
		finish(target, exchange.Outcome{Failure: exchange.Local})
		ResetOnClose(c)
		return
	}
	l := leg{server: s, x: x, downstream: c, began: began, greeted: f.Greeted}
	for {
		outcome, again := l.attempt(ctx, target, &spare)
		finish(target, outcome)
		if !again {
			return
		}
		if target, again = s.o.Handler.Retry(x, outcome); !again {
			l.respond()
			ResetOnClose(c)
			return
		}
		x.Fail("", "")
		x.Record.Code, x.Response = 0, nil
		select {
		case <-time.After(target.Backoff):
		case <-ctx.Done(): // which the attempt finds
		}
	}
}

func (s *Server) newExchange(f *Facts) *exchange.Exchange {
	x := &exchange.Exchange{
		Direction: s.o.Direction, Downstream: f.Downstream, Security: "none",
		Request: new(exchange.Fields),
	}
	if f.TLS != nil && len(f.TLS.PeerCertificates) > 0 {
		x.Security = "mutual_tls"
	}
	if f.Principal != "" {
		x.Source = &identity.Peer{Principal: f.Principal}
		x.Principal = f.Principal
	}
	x.OriginalDestination = f.OriginalDestination
	x.TLS = f.TLS
	x.Record.Start = time.Now()
	x.Record.Protocol, x.Record.Host, x.Record.Verdict = vocab.ProtocolTCP, f.host(), vocab.VerdictOK
	return x
}

func finish(t exchange.Target, o exchange.Outcome) {
	if t.Endpoint != nil {
		t.Endpoint.Done(o)
	}
}

// leg is the way from an accepted connection to a target.
type leg struct {
	server     *Server
	x          *exchange.Exchange
	downstream *netio.Conn
	began      int64
	greeted    func()
}

// attempt carries the connection to one target. again reports that nothing was
// sent, so that another target may be tried.
func (l *leg) attempt(ctx context.Context, t exchange.Target, spare *spare) (o exchange.Outcome, again bool) {
	start := netio.Now()
	defer func() {
		o.Duration = time.Duration(netio.Now() - start)
		l.x.Tried(exchange.Try{
			Upstream: t.Address, Detail: l.x.Record.Detail, Start: time.Duration(start - l.began), FirstByte: o.FirstByte,
			Duration: o.Duration, Failure: o.Failure,
		})
	}()
	rec := &l.x.Record
	rec.Upstream = t.Address
	rec.Attempts++
	if t.Limits != nil {
		if !t.Limits.Connections.Enter() {
			l.x.Fail(vocab.FlagUpstreamOverflow, "upstream_reset_before_response_started{overflow}")
			ResetOnClose(l.downstream)
			return exchange.Outcome{Failure: exchange.Local, Unsent: true}, false
		}
		defer t.Limits.Connections.Leave()
	}
	upstream, err := l.connect(ctx, t, spare)
	if err != nil {
		if ctx.Err() != nil {
			l.x.Fail("", detailStopped)
			return exchange.Outcome{Failure: exchange.Local}, false
		}
		l.x.Fail(vocab.FlagUpstreamConnect, "upstream_reset_before_response_started{connection_failure}")
		return exchange.Outcome{Failure: exchange.ConnectFailure}, true
	}
	defer upstream.Close()
	l.server.o.Gauges.PoolOpen.Add(1)
	defer l.server.o.Gauges.PoolOpen.Add(-1)
	if l.tunnels(t) {
		if o, again, stands := l.tunnel(ctx, upstream); !stands {
			return o, again
		}
	}
	return l.join(ctx, t, upstream, start), false
}

func (l *leg) connect(ctx context.Context, t exchange.Target, spare *spare) (*netio.Conn, error) {
	if c := spare.take(t); c != nil && !l.tunnels(t) {
		return c, nil
	}
	l.server.o.Gauges.Pending.Add(1)
	defer l.server.o.Gauges.Pending.Add(-1)
	timeout := t.Timeouts.Connect
	if timeout <= 0 {
		timeout = defaultConnect
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := l.server.o.Dial(ctx, t)
	if err != nil {
		return nil, err
	}
	return netio.New(c, nil), nil
}

// Details of connections that the sidecar ended, in Envoy's style.
const (
	detailStopped    = "local_connection_terminated_on_drain"
	detailIdle       = "tcp_session_idle_timeout"
	detailDownstream = "downstream_remote_disconnect"
	detailUpstream   = "upstream_reset_after_response_started{connection_termination}"
)

func (l *leg) join(ctx context.Context, t exchange.Target, upstream *netio.Conn, start int64) exchange.Outcome {
	idle := l.server.o.Idle
	if t.Timeouts.Idle > 0 {
		idle = t.Timeouts.Idle
	}
	p := newPair(l.downstream, upstream)
	p.greeted = l.greeted
	ended := p.run(ctx, idle)
	rec := &l.x.Record
	rec.BytesIn, rec.BytesOut = uint64(p.in.moved.Load()), uint64(p.out.moved.Load())
	o := exchange.Outcome{Failure: exchange.Local}
	if at := p.out.firstByte.Load(); at != 0 {
		o.FirstByte = time.Duration(at - start)
		rec.FirstByte = time.Duration(at - l.began)
	}
	switch ended {
	case Neither:
		o.Failure = exchange.Success
	case Downstream:
		l.x.Fail(vocab.FlagDownstreamTermination, detailDownstream)
	case Upstream:
		o.Failure = exchange.Reset
		l.x.Fail(vocab.FlagUpstreamTermination, detailUpstream)
	case Idle:
		l.x.Fail("", detailIdle)
	case Stopped:
		l.x.Fail("", detailStopped)
	}
	return o
}

// spare is the connection that detection opened.
type spare struct {
	c       *netio.Conn
	address string
}

// take returns the spare if it goes where the target is.
func (s *spare) take(t exchange.Target) *netio.Conn {
	if s.c == nil || t.TLS != nil || t.Address != s.address {
		return nil
	}
	c := s.c
	s.c = nil
	return c
}

func (s *spare) close() {
	if s.c != nil {
		s.c.Close()
	}
}

// dial is the default of Options.Dial.
func dial(ctx context.Context, t exchange.Target) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", t.Address)
	if err != nil || t.TLS == nil {
		return c, err
	}
	secure := tls.Client(c, t.TLS)
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("TLS with %s: %w", t.Address, err)
	}
	return secure, nil
}
