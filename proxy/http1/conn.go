package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
	"github.com/telemesh/telemesh/proxy/report"
)

// Texts of a record are bounded: they come from whoever calls.
const (
	maxPath = 2048
	maxText = 256
)

// conn is a downstream connection. One goroutine runs it; the sweep and, for a
// long body, a sender touch what says so.
type conn struct {
	s     *Server
	c     *netio.Conn
	facts ConnFacts
	shard uint8
	in    netio.Buffer
	timer timer
	ctx   context.Context //nolint:containedctx // of Serve, for after a silence
	stop  func() bool     // ends the wait for the context's end
	begun bool            // a request came
	http2 bool            // it is not for us
	quick quick
	now   int64 // the last look at the clock
	start int64 // of the request
	// lingers: the last answer went out while the downstream still sent.
	lingers bool

	*work // nil while the connection is silent
}

// work is what a request needs, from its head's first byte to its end. A silent
// connection has none.
type work struct {
	x        exchange.Exchange
	attempt  attempt
	request  message
	response message
	body     body   // of the request
	answer   chunks // of the response
	out      []byte // for heads with all that the mesh adds, and a small body
	kept     []byte // the answer's head as it came
	wrote    bool   // something of the answer went out
	opaque   bool   // it became a tunnel
}

var works = sync.Pool{New: func() any { return &work{out: make([]byte, 0, 4<<10)} }}

// maxKept bounds the room that goes back to the pool.
const maxKept = 64 << 10

func (c *conn) takeWork() {
	if c.work == nil {
		c.work = works.Get().(*work)
	}
}

func (c *conn) dropWork() {
	w := c.work
	if w == nil {
		return
	}
	c.work = nil
	w.attempt = attempt{}
	if cap(w.out) > maxKept {
		w.out = make([]byte, 0, 4<<10)
	}
	if cap(w.kept) > maxKept {
		w.kept = nil
	}
	w.request.clear()
	w.response.clear()
	works.Put(w)
}

// abort ends the connection from outside, whatever it is at.
func (c *conn) abort() { c.timer.fire(c, aborted) }

// run serves the connection until it ends or falls silent.
func (c *conn) run() {
	for c.serve() {
		if c.park() {
			return
		}
	}
	defer c.s.live.Done()
	c.s.remove(c)
	if c.stop() && c.http2 {
		c.s.o.HTTP2(c.ctx, c.c, c.facts)
		return
	}
	_ = c.c.Close() // it has ended
}

// park has the connection wait without a goroutine, and reports whether it does:
// then it may run again already.
func (c *conn) park() bool {
	if !c.s.lot.Park(c.c, c) {
		return false
	}
	// Whoever ended it before it was parked found nobody to wake.
	return !c.timer.fired() || !c.s.lot.Take(c.c)
}

// Wake implements netio.Waker.
func (c *conn) Wake() { go c.run() }

// serve is false when the connection has ended, true when it has fallen silent.
func (c *conn) serve() (silent bool) {
	for c.head() && c.exchange(c.ctx) && c.serveQuick() {
		if c.quick.woken && c.in.Len() == 0 {
			c.dropWork()
			c.in.Free()
			c.timer.set(idle, c.now)
			return true
		}
	}
	c.dropWork()
	if c.lingers {
		c.linger()
	}
	c.in.Free()
	return false
}

// resetRead takes a read deadline off, but not that which ends the connection.
func (c *conn) resetRead() {
	_ = c.c.SetReadDeadline(time.Time{})
	if c.timer.fired() {
		_ = c.c.SetReadDeadline(past)
	}
}

// head waits for a request and parses its head. It is false when there is none
// to serve any more; what had to be answered was.
func (c *conn) head() bool {
	now := netio.Now()
	c.timer.set(idle, now)
	if c.in.Len() > 0 {
		c.timer.set(heading, now)
	} else {
		c.dropWork()
		c.in.Free()
	}
	parsed := 0 // bytes at the last try
	for {
		if !c.begun && c.s.o.HTTP2 != nil && c.isPreface() {
			return false
		}
		if c.skipBlankLines(); c.in.Len() > 0 && worthParsing(c.in.Bytes(), parsed) {
			parsed = c.in.Len()
			switch err := c.parse(); {
			case err == nil && c.request.size <= c.s.o.MaxHeaderBytes:
				return true
			case err == nil:
				return c.refuse(errTooLarge)
			case !errors.Is(err, errIncomplete):
				return c.refuse(err)
			}
		}
		if !c.more(&c.in) {
			return false
		}
	}
}

// parse reads the head in front of what was read.
func (c *conn) parse() error {
	c.takeWork()
	c.request.renew(c.in.Bytes())
	return c.request.parseRequest(c.request.raw)
}

// preface is the first line of HTTP/2's connection preface (RFC 9113, section
// 3.4).
const preface = "PRI * HTTP/2.0\r\n"

// isPreface hands the connection over if it begins with HTTP/2's preface.
func (c *conn) isPreface() bool {
	if b := c.in.Bytes(); len(b) < len(preface) || string(b[:len(preface)]) != preface {
		return false
	}
	c.http2 = true
	c.c.Unread(bytes.Clone(c.in.Bytes()))
	return true
}

// skipBlankLines takes off line ends before the request line (RFC 9112, section
// 2.2), however many came in one read.
func (c *conn) skipBlankLines() {
	for b := c.in.Bytes(); len(b) >= 2 && b[0] == '\r' && b[1] == '\n'; b = c.in.Bytes() {
		c.in.Skip(2)
	}
}

// worthParsing reports whether a head that was incomplete at its first parsed
// bytes can be complete now. A peer that sends it byte by byte must not have all
// of it parsed for each.
func worthParsing(b []byte, parsed int) bool {
	if len(b) == 1 && b[0] == '\r' {
		return false // the rest of a blank line may follow
	}
	if parsed == 0 || len(b) >= 2*parsed {
		return true
	}
	tail := b[max(parsed-3, 0):]
	return bytes.Contains(tail, []byte("\n\r\n")) || bytes.Contains(tail, []byte("\n\n"))
}

// more reads on for a head.
func (c *conn) more(b *netio.Buffer) bool {
	if b.Full() {
		if b.Len() >= c.s.o.MaxHeaderBytes {
			return c.refuse(errTooLarge)
		}
		b.Grow(min(2*b.Len(), c.s.o.MaxHeaderBytes+1))
	}
	before := b.Len()
	err := c.c.Fill(b)
	for errors.Is(err, os.ErrDeadlineExceeded) && !c.timer.fired() {
		c.resetRead() // a deadline for what is over by now
		err = c.c.Fill(b)
	}
	switch {
	case err == nil:
		if before == 0 {
			c.timer.set(heading, netio.Now())
		}
		return true
	case b.Len() == 0: // between requests everybody may leave
	case c.timer.firedAs(heading):
		c.s.o.ProtocolError("head_timeout")
		c.status(408)
	case errors.Is(err, io.EOF):
		c.s.o.ProtocolError("incomplete_head")
	}
	return false
}

// refuse answers what is not a request and closes.
func (c *conn) refuse(err error) bool {
	var m *malformed
	if !errors.As(err, &m) {
		return false
	}
	c.s.o.ProtocolError(m.reason)
	c.status(m.status)
	return false
}

// status answers with nothing but a status and lingers, so that the answer is
// not lost to a reset.
func (c *conn) status(code int) {
	_ = c.c.SetWriteDeadline(time.Now().Add(lingerTime)) // the sweep may have set one to end the wait
	out := appendStatusLine(nil, code)
	out = append(out, "content-type: text/plain\r\nconnection: close\r\n"...)
	out = appendBody(out, reasonPhrase(code)+"\n")
	_, err := c.c.Write(out)
	c.lingers = err == nil
}

// lingerTime and lingerBytes bound what is read from a downstream that has been
// answered and still sends.
const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// linger ends the sending direction and reads what still comes: closing a
// socket with unread bytes resets it, and the answer with it. It comes after the
// exchange: it is no part of it, and reuses the memory that the exchange's texts
// are in.
func (c *conn) linger() {
	if c.c.CloseWrite() != nil {
		return
	}
	c.in.Free()
	_ = c.c.SetReadDeadline(time.Now().Add(lingerTime))
	for n := 0; n < lingerBytes; {
		if c.c.Fill(&c.in) != nil {
			return
		}
		n += c.in.Len()
		c.in.Skip(c.in.Len())
	}
}

// exchange serves one request, and reports whether the connection can carry
// another one.
func (c *conn) exchange(ctx context.Context) (again bool) {
	if c.s.calm.Load() {
		c.s.stir()
	}
	c.start = netio.Now()
	c.now = c.start
	c.judge()
	c.begun = true
	c.begin()
	tunnel := string(c.request.method.of(c.request.raw)) == "CONNECT"
	waits := c.s.o.Handler.Waits()
	if tunnel || waits {
		c.leaveIdle(nothing)
	} else {
		c.leaveIdle(streaming)
	}
	target, reply := c.s.o.Handler.Begin(ctx, &c.x)
	switch {
	case reply != nil:
		again = c.reply(reply)
		c.now = netio.Now()
	case tunnel:
		c.connect(ctx, target)
		c.now = netio.Now()
	default:
		if waits {
			c.now = netio.Now()
		}
		again = c.forward(ctx, target)
	}
	c.x.Record.Duration = time.Duration(c.now - c.start)
	// A caller that was refused a tunnel may have begun to use it.
	c.lingers = !again && c.wrote && !c.opaque && (tunnel || !c.body.whole || c.unread())
	c.finish()
	c.s.o.Handler.End(&c.x)
	c.release()
	c.quick.ended = c.now
	if !again {
		c.timer.set(heading, c.now) // what may come now is no request's
	}
	return again
}

// unread reports bytes behind the request, which a close would answer with a
// reset.
func (c *conn) unread() bool {
	return c.in.Len() > c.request.size+c.body.early || c.body.rest.Len() > 0 || c.c.Peer() == netio.Sent
}

// begin fills the exchange from the request's head.
func (c *conn) begin() {
	m := &c.request
	added, tries := c.x.ResponseHeaders[:0], c.x.Tries[:0]
	c.x = exchange.Exchange{} // and then by field: a literal would be copied
	c.x.Tries = tries
	c.x.Direction, c.x.Request, c.x.Scheme, c.x.Security = c.s.o.Direction, m, "http", exchange.Security(c.facts.TLS)
	c.x.Shard, c.x.Switches = c.shard, m.upgrade
	c.x.Downstream, c.x.OriginalDestination, c.x.ResponseHeaders = c.facts.Downstream, c.facts.OriginalDestination, added
	if c.facts.TLS != nil {
		c.x.Scheme = "https"
		c.x.TLS, c.x.Principal = c.facts.TLS, c.facts.Principal
	}
	r := &c.x.Record
	r.Start = netio.Wall(c.start)
	r.Protocol, r.HTTPVersion = "http", "HTTP/1.1"
	if m.minor == 0 {
		r.HTTPVersion = "HTTP/1.0"
	}
	r.Method = report.BytesLimit(method(m.method.of(m.raw)), maxText)
	c.x.Authority, c.x.Target = m.authority(), ""
	r.Host = report.BytesLimit(c.x.Authority, maxText)
	if r.Method == "CONNECT" {
		r.Protocol = vocab.ProtocolTCP
	} else {
		c.x.Target = m.path()
		r.Path = report.BytesLimit(c.x.Target, maxPath)
	}
	if r.UserAgent = m.Get("user-agent"); len(r.UserAgent) > maxText {
		r.UserAgent = report.BytesLimit(r.UserAgent, maxText)
	}
	if isGRPC(m.Get("content-type")) {
		r.Protocol = "grpc"
	}
	r.BytesIn = uint64(m.size)
	r.Verdict = vocab.VerdictOK
	if a, _ := absolute(m.target.of(m.raw)); a != nil || m.hosts == 0 {
		m.Set("host", m.authority())
	}
	c.response.clear()
	c.wrote, c.opaque = false, false
	c.body.reset(m, c.in.Bytes()[m.size:])
}

// finish completes the record.
func (c *conn) finish() {
	r := &c.x.Record
	r.BytesIn += uint64(c.body.passed.Load())
	if r.Protocol == vocab.ProtocolTCP && r.Code/100 != 2 {
		r.BytesIn, r.BytesOut = 0, 0 // no tunnel, so no payload, as its other end counts
	}
	if r.Flags == vocab.FlagDownstreamTermination && !c.wrote {
		r.Code = 0 // Envoy's way: no response was sent
	}
	if r.Detail == "" {
		r.Detail = "via_upstream"
	}
}

// release gives back what a request holds. Bytes behind it stay for the next.
func (c *conn) release() {
	c.in.Skip(c.request.size + c.body.early)
	if c.body.rest.Len() > 0 { // read behind a chunked body's end
		c.in.Free()
		c.in, c.body.rest = c.body.rest, netio.Buffer{}
	}
	c.body.rest.Free()
}

// method returns a constant for the usual ones.
func method(b []byte) string {
	switch string(b) {
	case "GET":
		return "GET"
	case "POST":
		return "POST"
	case "PUT":
		return "PUT"
	case "DELETE":
		return "DELETE"
	case "HEAD":
		return "HEAD"
	case "PATCH":
		return "PATCH"
	case "OPTIONS":
		return "OPTIONS"
	case "CONNECT":
		return "CONNECT"
	}
	return view(b)
}
