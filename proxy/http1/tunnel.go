package http1

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
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
	if upgrade == "" || to == "" {
		c.broken(a, errStatusLine) // nobody asked for it
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
	c.tunnel(ctx, a, c.in.Bytes()[c.request.size+c.body.early:])
}

// tunnel passes bytes both ways until both directions have ended. early is what
// the downstream sent with its request.
func (c *conn) tunnel(ctx context.Context, a *attempt, early []byte) {
	c.timer.clear()
	c.timer.up.Store(a.up)
	defer c.timer.up.Store(nil)
	r := &c.x.Record
	if n, err := a.up.Write(early); err != nil {
		r.BytesIn += uint64(n)
		c.left(a)
		return
	}
	c.body.early += len(early)
	r.BytesIn += uint64(len(early))
	var in atomic.Int64
	ended := make(chan error, 1)
	go func() {
		n, err := copyStream(a.up.Conn, c.c)
		in.Store(n)
		if err != nil {
			_ = c.c.SetDeadline(past)
		}
		ended <- err
	}()
	out, err := copyStream(c.c, a.up.Conn)
	if err != nil {
		_ = a.up.SetDeadline(past)
		_ = c.c.SetDeadline(past)
	}
	inErr := <-ended
	r.BytesOut += uint64(out)
	r.BytesIn += uint64(in.Load())
	if c.timer.fired() || inErr != nil && err != nil {
		a.outcome.Failure = exchange.Local
	}
	if (inErr != nil || err != nil) && !c.timer.fired() && r.Flags == "" {
		c.x.Fail(vocab.FlagUpstreamTermination, "upstream_reset_after_response_started{connection_termination}")
		if timedOut(err) { // the downstream broke first
			c.x.Fail(vocab.FlagDownstreamTermination, "downstream_remote_disconnect")
		}
	}
	_ = ctx
}

// copyStream passes one direction on, with its end.
func copyStream(to, from *netio.Conn) (n int64, err error) {
	n, err = io.Copy(to.Conn, onlyReader{from})
	if err == nil {
		err = to.CloseWrite()
	}
	return n, err
}

// onlyReader keeps io.Copy to Read, which knows of bytes that were read early.
type onlyReader struct{ io.Reader }
