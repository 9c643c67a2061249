package http1

import (
	"bytes"
	"context"
	"errors"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
	"github.com/telemesh/telemesh/proxy/tcp"
)

// connect joins a CONNECT request's connection with the target. Where that is one
// of the mesh's sidecars, it is asked to do the same with its application.
func (c *conn) connect(ctx context.Context, target exchange.Target) {
	r := &c.x.Record
	r.Upstream, r.Attempts = target.Address, 1
	a := &c.attempt
	target.Protocol = exchange.Same // the tunnel's bytes are the caller's
	a.target = target
	a.begin(c.now)
	up, err := c.s.pool.get(ctx, &target, true, false, c.now)
	if err != nil {
		a.connectFailed(err)
		c.now = netio.Now()
		c.done(a)
		c.request.close = true
		c.fail(a)
		return
	}
	defer c.s.pool.discard(up)
	c.response.clear()
	if target.Endpoint == nil {
		r.Code = 200
	} else if !c.passConnect(ctx, a, up) {
		c.now = netio.Now()
		c.done(a)
		return
	}
	c.x.Response = &c.response
	c.s.o.Handler.Respond(&c.x)
	c.out = append(c.response.appendFields(append(c.out[:0], "HTTP/1.1 200 OK\r\n"...)), "\r\n"...)
	a.up, a.final, c.wrote = up, true, true
	stands := c.write(a, nil)
	r.BytesIn, r.BytesOut = 0, 0 // the payload alone, as the tunnel's other end counts
	if stands {
		c.tunnel(ctx, a, c.in.Bytes()[c.request.size:])
	}
	c.now = netio.Now()
	c.done(a)
}

// passConnect asks another sidecar for a tunnel. It reports whether that stands; if
// not, the downstream has its answer.
func (c *conn) passConnect(ctx context.Context, a *attempt, up *upstream) bool {
	limited, cancel := context.WithTimeout(ctx, tcp.TunnelTimeout)
	defer cancel()
	c.request.Del("content-length") // a tunnel has no body
	c.request.Del("transfer-encoding")
	head := append(append(c.out[:0], "CONNECT "...), c.request.authority()...)
	c.out = append(c.request.appendFields(append(head, " HTTP/1.1\r\n"...)), "\r\n"...)
	m := &c.response
	if err := ask(limited, up.Conn, c.out, m, c.s.o.MaxHeaderBytes); err != nil {
		a.notAsked(ctx, err)
		c.fail(a)
		return false
	}
	a.outcome.Status, c.x.Record.Code = m.status, uint32(m.status)
	m.Del("content-length") // nor has its answer, RFC 9110, section 9.3.6
	m.Del("transfer-encoding")
	if m.status/100 == 2 {
		return true
	}
	if !tcp.Refused(m.status, m) {
		c.x.Fail(vocab.FlagUpstreamConnect, "upstream_reset_before_response_started{connection_failure}")
	}
	c.x.Response = m
	c.s.o.Handler.Respond(&c.x)
	c.out = m.appendFields(m.appendStatus(c.out[:0]))
	c.out = append(c.out, "content-length: 0\r\nconnection: close\r\n\r\n"...)
	a.final, c.wrote = true, true
	c.write(a, nil)
	return false
}

// notAsked names why another sidecar gave no answer.
func (a *attempt) notAsked(ctx context.Context, err error) {
	a.outcome.Unsent = true
	switch {
	case ctx.Err() != nil:
		a.outcome.Failure = exchange.Local
	case IsMalformed(err):
		a.outcome.Failure, a.detail = exchange.ProtocolFailure, "upstream_reset_before_response_started{protocol_error}"
	case errors.Is(err, context.DeadlineExceeded):
		a.outcome.Failure, a.detail = exchange.Timeout, "upstream_response_timeout"
	default:
		a.outcome.Failure, a.detail = exchange.Reset, "upstream_reset_before_response_started{connection_termination}"
	}
}

// switchProtocols relays a 101 and all that follows.
func (c *conn) switchProtocols(ctx context.Context, a *attempt, upgrade string) {
	m := &c.response
	c.keepHead(m) // the handler may read it until the exchange ends
	to := m.dropped("upgrade")
	if upgrade == "" || to == "" || !c.body.ended() {
		c.broken(a, errStatusLine) // nobody asked for it, or not to its end
		return
	}
	m.Del("content-length")
	m.Del("transfer-encoding")
	c.x.Record.Code, a.outcome.Status = 101, 101
	c.x.Response = m
	c.s.o.Handler.Respond(&c.x)
	out := m.appendFields(m.appendStatus(c.out[:0]))
	out = append(out, "connection: upgrade\r\n"...)
	out = append(appendField(out, "upgrade", to), "\r\n"...)
	out = append(out, a.up.in.Bytes()[m.size:]...)
	c.out = out
	a.final, c.wrote = true, true
	if !c.write(a, nil) {
		return
	}
	a.up.in.Free()
	early := c.in.Bytes()[c.request.size+c.body.early:]
	if c.body.rest.Len() > 0 {
		early = c.body.rest.Bytes() // then the body took all of the former
	}
	c.tunnel(ctx, a, early)
}

// tunnel passes bytes both ways until both directions have ended. early is what
// the downstream sent with its request.
func (c *conn) tunnel(ctx context.Context, a *attempt, early []byte) {
	c.timer.clear()
	r := &c.x.Record
	c.opaque = true
	c.c.Unread(bytes.Clone(early)) // the buffer is given back before the tunnel ends
	in, out, ended := tcp.Join(ctx, c.c, a.up.Conn, c.s.o.TunnelIdle)
	r.BytesIn += uint64(in)
	r.BytesOut += uint64(out)
	switch ended {
	case tcp.Downstream:
		c.left(a)
	case tcp.Upstream:
		a.outcome.Failure = exchange.Reset
		c.x.Fail(vocab.FlagUpstreamTermination, "upstream_reset_after_response_started{connection_termination}")
	case tcp.Idle:
		a.outcome.Failure = exchange.Local
		c.x.Fail(vocab.FlagStreamIdle, "stream_idle_timeout")
	case tcp.Stopped:
		a.outcome.Failure = exchange.Local
	}
}
