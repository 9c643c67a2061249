package http1

import (
	"bytes"
	"context"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
	"github.com/telemesh/telemesh/proxy/tcp"
)

// connect joins a CONNECT request's connection with the target.
func (c *conn) connect(ctx context.Context, target exchange.Target) {
	r := &c.x.Record
	r.Upstream, r.Attempts = target.Address, 1
	a := attempt{target: target, began: netio.Now()}
	up, err := c.s.pool.get(ctx, &target, true, false)
	if err != nil {
		a.connectFailed(err)
		c.done(&a)
		c.request.close = true
		c.fail(&a)
		return
	}
	defer c.s.pool.discard(up)
	c.response.clear()
	c.x.Response = &c.response
	r.Code = 200
	c.s.o.Handler.Respond(&c.x)
	c.out = append(c.response.appendFields(append(c.out[:0], "HTTP/1.1 200 OK\r\n"...)), "\r\n"...)
	a.up, a.final, c.wrote = up, true, true
	if c.write(&a, nil) {
		c.tunnel(ctx, &a, c.in.Bytes()[c.request.size:])
	}
	c.done(&a)
}

// switchProtocols relays a 101 and all that follows.
func (c *conn) switchProtocols(ctx context.Context, a *attempt, upgrade string) {
	m := &c.response
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
	c.out = append(out, a.up.in.Bytes()[m.size:]...)
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
