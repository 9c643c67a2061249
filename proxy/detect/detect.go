package detect

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// Hint is what the listener knows beforehand.
type Hint uint8

const (
	// Any protocol may come.
	Any Hint = iota
	// HTTPOnly is HTTP/2 by its preface, and HTTP/1 otherwise, whose engine
	// answers what is malformed. Neither TLS nor opaque TCP.
	HTTPOnly
)

// How long the caller alone is listened to, before the upstream is connected to
// and listened to as well. A caller that speaks first does so at once as a rule,
// and then no connection is opened in vain.
const (
	headStart        = 3 * time.Millisecond
	headStartLearned = 500 * time.Millisecond
	// afterFailure is how long a caller has to speak when the upstream does not
	// take connections. Then there is nobody who could speak first.
	afterFailure   = time.Second
	defaultTimeout = time.Minute
)

// Options of one detection.
type Options struct {
	Hint Hint
	// Upstream connects to where the connection goes if it is opaque; nil if that
	// is not known, so that only the caller can be listened to. Its own bytes or
	// what Memory has of Destination decide then.
	Upstream func(ctx context.Context) (net.Conn, error)
	// Destination is Upstream's, as the key of what was learned. Memory may be
	// nil, Destination the zero value.
	Destination netip.AddrPort
	Memory      *Memory
	// Timeout ends the wait for the first byte and for each further one, 0 means a
	// minute. With an upstream the connection is then opaque, because whoever
	// waits so long can wait opaquely; without one it is ErrSilent.
	Timeout time.Duration
}

// Result is what a connection speaks.
type Result struct {
	Protocol exchange.Protocol // HTTP1, HTTP2 or TCP; TCP if TLS is set
	TLS      bool
	// SNI and ALPN are the ClientHello's.
	SNI  string
	ALPN []string
	// Early is what was read. The connection serves it again; it is here to be
	// looked at.
	Early []byte
	// Upstream was opened on the way, to Options.Upstream, and serves what was
	// read from it again; nil if it was not needed. It is set only for TCP. The
	// caller owns it.
	Upstream *netio.Conn
}

// ErrSilent says that the caller sent nothing in time, and nobody else could.
var ErrSilent = errors.New("no byte from the downstream")

// Detect reads the first bytes of c, at most 24 or a ClientHello of up to 16 KiB,
// and gives them back to it. It decides with the first byte that decides:
//
//   - HTTP/1 by a method and the beginning of a target, HTTP/2 by its preface, TLS
//     by a ClientHello. As soon as the bytes cannot be one of these, TCP.
//   - TCP if the upstream speaks before the caller did, apart from an HTTP/2
//     server's first frame.
//
// What it saw is remembered for the destination: later connections to one that
// spoke first do not wait at all. Detect returns an error only if there is nothing
// to be done but to close c: the caller broke the connection, ctx ended, ErrSilent.
// It leaves c without deadline and no goroutine behind.
func Detect(ctx context.Context, c *netio.Conn, o Options) (Result, error) {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	known := o.Memory.recall(o.Destination)
	if known == serverFirst && o.Hint == Any {
		return Result{Protocol: exchange.TCP}, nil
	}
	p := &peek{c: c, o: o, alarm: &alarm{c: c}}
	if o.Upstream != nil && o.Hint == Any {
		p.watch = startWatch(ctx, p.alarm, &o, known, c.Peer() != netio.Open)
	}
	stop := context.AfterFunc(ctx, p.alarm.ring)
	err := p.read()
	stop()
	spoke, upstream := p.watch.end()
	p.alarm.off()
	return p.result(ctx, spoke, upstream, err)
}

// peek is one detection.
type peek struct {
	c     *netio.Conn
	o     Options
	alarm *alarm
	watch *watch
	b     []byte
	guess guess
}

// read takes bytes until they decide. Errors: os.ErrDeadlineExceeded if the
// upstream spoke or nobody did, io.EOF if the caller ended its direction.
func (p *peek) read() error {
	p.b = make([]byte, 0, maxPeek)
	want := maxPeek
	for p.guess == undecided || p.guess == isTLS {
		if p.guess == isTLS {
			if want = helloNeeds(p.b); want <= len(p.b) {
				return nil // whole, or none
			}
		}
		if want > cap(p.b) {
			p.b = append(make([]byte, 0, want), p.b...)
		}
		p.alarm.set(p.o.Timeout)
		n, err := p.c.Read(p.b[len(p.b):want])
		if p.b = p.b[:len(p.b)+n]; n > 0 && p.guess == undecided {
			p.guess = classify(p.b, p.o.Hint)
		}
		if err != nil && p.guess == undecided {
			return err
		}
		if err != nil {
			return nil // decided, and the engine meets the error again
		}
	}
	return nil
}

// result settles what was read and what the upstream did.
func (p *peek) result(ctx context.Context, spoke speech, upstream *netio.Conn, err error) (Result, error) {
	r := Result{Protocol: p.guess.protocol(), Early: p.b}
	p.c.Unread(p.b)
	if p.guess == undecided {
		if p.o.Hint == HTTPOnly {
			r.Protocol = exchange.HTTP1 // its engine knows what to say to half a preface
		}
		err = p.undecided(ctx, err)
	} else {
		err = nil
		p.o.Memory.learn(p.o.Destination, clientFirst)
	}
	if p.guess == isTLS {
		p.readHello(&r)
	}
	if spoke == greeted && len(p.b) == 0 && err == nil {
		p.o.Memory.learn(p.o.Destination, serverFirst)
	}
	switch {
	case upstream == nil:
	case err == nil && r.Protocol == exchange.TCP:
		r.Upstream = upstream
	default:
		upstream.Close()
	}
	if err != nil {
		return Result{}, err
	}
	return r, nil
}

// undecided says whether a connection that was not recognised can go on as it
// is: nil if so.
func (p *peek) undecided(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		if len(p.b) > 0 || p.watch != nil {
			return nil
		}
		return ErrSilent
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}

// readHello fills in what a ClientHello says. One that is cut off, too long or
// malformed is still the beginning of TLS if its header was, but routed by
// nothing; what follows is the other end's to refuse.
func (p *peek) readHello(r *Result) {
	r.TLS = true
	if h, ok := parseHello(p.b); ok {
		r.SNI, r.ALPN = h.sni, h.alpn
	}
}
