package http1

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

const (
	// copyBelow is the body size up to which copying it behind its head is
	// cheaper than a vectored write.
	copyBelow = 4 << 10
	// maxInterim bounds the 1xx answers before the answer.
	maxInterim = 64
)

// forward sends the request on and the answer back, in as many attempts as it
// takes.
func (c *conn) forward(ctx context.Context, target exchange.Target) (again bool) {
	upgrade := ""
	if c.request.upgrade && c.request.minor == 1 {
		upgrade = c.request.dropped("upgrade")
	}
	a := &c.attempt
	a.target = target
	a.begin(c.now)
	if c.body.failed != nil { // malformed before it began: no matter for the upstream
		a.outcome.Unsent = true
		c.broken(a, c.body.failed)
		c.done(a)
		return c.fail(a)
	}
	for anew := false; ; {
		c.try(ctx, a, anew, upgrade)
		if a.final {
			c.done(a)
			return a.again
		}
		if next := a.next; next != nil {
			wait(ctx, next.Backoff)
			a.target = *next // Done was told
			a.begin(c.now)
			continue
		}
		// A kept connection that its upstream closed meanwhile says nothing of
		// the upstream: nobody has answered a byte, so ask once more.
		if a.reused && a.outcome.Failure == exchange.Reset && !a.heard && !a.sent {
			c.tried(a)
			anew = true
			continue
		}
		c.done(a)
		next, ok := exchange.Target{}, false
		if !a.sent && c.mayRetry(a) {
			next, ok = c.s.o.Handler.Retry(&c.x, a.outcome)
		}
		if !ok {
			return c.fail(a)
		}
		wait(ctx, next.Backoff)
		a.target, anew = next, false
	}
}

// wait is for the next attempt. The end of ctx, which ends it, shows there.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
}

func (c *conn) mayRetry(a *attempt) bool {
	return a.outcome.Failure != exchange.Local && a.outcome.Failure != exchange.Success && !c.timer.fired()
}

// done tells the endpoint how it went.
func (c *conn) done(a *attempt) {
	c.tried(a)
	if a.target.Endpoint != nil {
		a.target.Endpoint.Done(a.outcome)
	}
}

// tried notes how an attempt went that is over now.
func (c *conn) tried(a *attempt) {
	a.outcome.Duration = time.Duration(c.now - a.began)
	t := exchange.Try{
		Upstream: a.target.Address, Detail: a.detail, Start: time.Duration(a.began - c.start), Connect: time.Duration(a.connect),
		FirstByte: a.outcome.FirstByte, Duration: a.outcome.Duration, Failure: a.outcome.Failure, Status: uint16(a.outcome.Status),
	}
	if a.overflow {
		t.Detail = exchange.CauseOverflow
	}
	if a.final {
		t.GRPC = uint8(c.x.Record.GRPCStatus)
	}
	c.x.Tried(t)
}

// try makes one attempt. Afterwards the upstream connection is given back.
func (c *conn) try(ctx context.Context, a *attempt, anew bool, upgrade string) {
	r := &c.x.Record
	r.Upstream = a.target.Address
	r.Attempts++
	if r.Attempts > 1 {
		c.now = netio.Now()
		a.begin(c.now)
	}
	up := c.s.pool.kept(&a.target, anew, !c.body.whole || upgrade != "", c.now)
	if up == nil {
		var err error
		c.timer.clear() // connecting has a limit of its own
		up, err = c.s.pool.open(ctx, &a.target)
		opened := netio.Now()
		a.connect = opened - a.began
		if err != nil {
			c.now = opened
			a.connectFailed(err)
			return
		}
	}
	a.up, a.reused = up, up.used
	if !c.timer.is(streaming, c.now) {
		c.timer.set(streaming, c.now)
	}
	limited := c.limit(a)
	c.timer.up.Store(up)
	if c.timer.fired() { // before it could know of up
		_ = up.SetDeadline(past)
	}
	c.send(a, upgrade)
	c.receive(ctx, a, upgrade)
	c.stopSender(a)
	c.now = netio.Now()
	if !a.final { // else the request is over
		c.timer.clear()
	}
	if mine := c.timer.up.Swap(nil) != nil; !mine || !a.keep || c.timer.fired() {
		c.s.pool.discard(up)
		return
	}
	if limited {
		_ = up.SetReadDeadline(time.Time{})
	}
	c.s.pool.put(up, c.now)
}

// limit sets the deadline for the answer's head, where the target has one.
func (c *conn) limit(a *attempt) bool {
	t := a.target.Timeouts
	if t.Request == 0 && t.PerTry == 0 {
		return false
	}
	deadline := time.Now().Add(t.Request - time.Duration(c.now-c.start))
	if try := time.Now().Add(t.PerTry); t.Request == 0 || t.PerTry > 0 && try.Before(deadline) {
		deadline = try
	}
	_ = a.up.SetReadDeadline(deadline)
	return true
}

// headInTime ends the limit that was the head's alone.
func (c *conn) headInTime(a *attempt) {
	t := a.target.Timeouts
	if t.PerTry == 0 {
		return
	}
	deadline := time.Time{}
	if t.Request > 0 {
		deadline = c.x.Record.Start.Add(t.Request)
	}
	_ = a.up.SetReadDeadline(deadline)
	if c.timer.fired() || c.body.broke.Load() {
		_ = a.up.SetReadDeadline(past)
	}
}

// send writes the request's head and what there is of its body, and starts the
// sender for the rest. A short request waits for the answer's first read.
// An error shows when the answer is read: the upstream may have refused the rest
// with an answer.
func (c *conn) send(a *attempt, upgrade string) {
	c.out = c.request.appendRequest(c.out[:0], upgrade)
	early := c.in.Bytes()[c.request.size:][:c.body.early]
	if len(early) <= copyBelow {
		c.out, early = append(c.out, early...), nil
	}
	if c.body.whole && early == nil {
		a.ask = c.out
		return
	}
	_, err := a.up.Write2(c.out, early)
	if err != nil || c.body.whole {
		return
	}
	a.sent = true
	c.body.done = make(chan struct{})
	go c.body.run(c.c, a.up, &c.timer, c.body.done)
}

// finishWait is how long a sender that is almost done may take after the answer.
const finishWait = 20 * time.Millisecond

// stopSender waits for the sender to end, or ends it: the answer is there, and
// the rest of the body has nobody to read it.
func (c *conn) stopSender(a *attempt) {
	if c.body.done == nil {
		return
	}
	select {
	case <-c.body.done:
	case <-time.After(finishWait):
		_ = c.c.SetReadDeadline(past)
		_ = a.up.SetWriteDeadline(past)
		<-c.body.done
		c.resetRead()
		a.keep = false // it has a deadline now
	}
	c.body.done = nil
	if !c.body.whole {
		a.keep, a.again = false, false
	}
}

// receive reads the answer and relays it.
func (c *conn) receive(ctx context.Context, a *attempt, upgrade string) {
	for interim := 0; ; interim++ {
		if err := c.answerHead(a); err != nil {
			c.broken(a, err)
			return
		}
		status := c.response.status
		if status >= 200 || status == 101 {
			break
		}
		if interim == maxInterim {
			c.broken(a, errStatusLine)
			return
		}
		if err := c.relayInterim(); err != nil {
			c.left(a)
			return
		}
		a.up.in.Skip(c.response.size)
	}
	if c.givenUp(a) {
		return
	}
	if c.response.status == 101 {
		c.switchProtocols(ctx, a, upgrade)
		return
	}
	c.relay(a)
}

// givenUp gives up an answer whose status the retry policy wants another for,
// before anything of it has gone downstream. The connection is of use for more
// only if the answer's body came with its head.
func (c *conn) givenUp(a *attempt) bool {
	m := &c.response
	if m.status < 400 || a.sent || c.timer.fired() {
		return false
	}
	a.outcome.Status = m.status
	next, ok := c.s.o.Handler.Retry(&c.x, a.outcome)
	if !ok {
		return false
	}
	c.now = netio.Now()
	c.done(a)
	a.next = &next
	if size := m.size + int(max(m.length, 0)); c.framing() != byClose && !m.chunked && a.up.in.Len() == size {
		a.up.in.Skip(size)
		a.keep = m.persistent()
	}
	c.x.Record.FirstByte = 0 // of the answer that counts
	return true
}

// answerHead reads and parses a head.
func (c *conn) answerHead(a *attempt) error {
	in := &a.up.in
	for parsed := 0; ; {
		if in.Len() > 0 && worthParsing(in.Bytes(), parsed) {
			parsed = in.Len()
			c.response.renew(in.Bytes())
			err := c.response.parseResponse(c.response.raw)
			if err == nil {
				return c.response.checkResponse(c.response.raw)
			}
			if !errors.Is(err, errIncomplete) {
				return err
			}
		}
		if in.Full() {
			if in.Len() >= c.s.o.MaxHeaderBytes {
				return errTooLarge
			}
			in.Grow(min(2*in.Len(), c.s.o.MaxHeaderBytes+1))
		}
		if err := c.fill(a); err != nil {
			return err
		}
		if !a.heard {
			a.heard = true
			now := netio.Now()
			a.outcome.FirstByte = time.Duration(now - a.began)
			c.x.Record.FirstByte = max(time.Duration(now-c.start), 1)
		}
	}
}

// fill reads on; the first time it also sends the request.
func (c *conn) fill(a *attempt) (err error) {
	in := &a.up.in
	if a.ask == nil {
		err = a.up.Fill(in)
	} else {
		_, err = a.up.Ask(a.ask, in)
		a.ask = nil
	}
	if err == nil || !timedOut(err) {
		return err
	}
	if a.up.Peer() == netio.HalfClosed {
		return io.EOF // the sweep saw it first
	}
	if c.looked(a) {
		return a.up.Fill(in)
	}
	return err
}

// looked reports that nothing but the sweep's look at the upstream ended the wait,
// which goes on then. It looks because netio's Ask misses an answer that was there
// before the request, as that of a server which refuses connections.
func (c *conn) looked(a *attempt) bool {
	if a.looked || c.timer.up.Load() != nil || c.timer.fired() {
		return false
	}
	a.looked = true
	_ = a.up.SetReadDeadline(time.Time{})
	if request := a.target.Timeouts.Request; !a.final {
		c.limit(a)
	} else if request > 0 {
		_ = a.up.SetReadDeadline(c.x.Record.Start.Add(request))
	}
	if c.timer.fired() || c.body.broke.Load() {
		_ = a.up.SetReadDeadline(past)
	}
	return true
}

// broken says why there is no answer, or only a part of one.
func (c *conn) broken(a *attempt, err error) {
	stage := "upstream_reset_before_response_started"
	if a.final {
		stage = "upstream_reset_after_response_started"
	}
	var m *malformed
	var downstream errDownstream
	var stream *exchange.StreamError
	// What the downstream did to its request comes first: the upstream could
	// not answer it.
	if c.body.broke.Load() {
		err = c.body.failed
	}
	switch {
	case c.timer.firedAs(left), c.timer.firedAs(aborted):
		c.left(a)
	case c.timer.fired():
		a.outcome.Failure, a.detail = exchange.Timeout, "stream_idle_timeout"
	case errors.As(err, &downstream) && errors.As(err, &m):
		c.s.o.ProtocolError(m.reason)
		c.x.Fail(vocab.FlagDownstreamProtocol, "http1.body_error")
		a.outcome.Failure = exchange.Local
	case errors.As(err, &downstream):
		c.left(a)
	case timedOut(err):
		a.outcome.Failure, a.detail = exchange.Timeout, "upstream_response_timeout"
	case errors.As(err, &stream):
		a.streamFailed(stream, stage)
	case errors.As(err, &m):
		a.outcome.Failure, a.detail = exchange.ProtocolFailure, stage+"{protocol_error}"
	case errors.Is(err, io.EOF):
		a.outcome.Failure, a.detail = exchange.Reset, stage+"{connection_termination}"
	default:
		a.outcome.Failure, a.detail = exchange.Reset, stage+"{connection_termination}"
	}
	if a.final {
		c.flag(a)
	}
}

// left notes that the downstream is gone.
func (c *conn) left(a *attempt) {
	a.outcome.Failure, a.again = exchange.Local, false
	c.x.Fail(vocab.FlagDownstreamTermination, "downstream_remote_disconnect")
}

// flag names a failure as Envoy does.
func (c *conn) flag(a *attempt) (status int) {
	switch {
	case a.overflow:
		c.x.Fail(vocab.FlagUpstreamOverflow, "upstream_reset_before_response_started{overflow}")
		return 503
	case a.outcome.Failure == exchange.Local:
		return 0
	case a.detail == "stream_idle_timeout":
		c.x.Fail(vocab.FlagStreamIdle, a.detail)
		if c.body.done == nil && !c.body.whole {
			return 408
		}
		return 504
	}
	switch a.outcome.Failure {
	case exchange.ConnectFailure:
		c.x.Fail(vocab.FlagUpstreamConnect, a.detail)
	case exchange.Timeout:
		c.x.Fail(vocab.FlagUpstreamTimeout, a.detail)
		return 504
	case exchange.ProtocolFailure:
		c.x.Fail(vocab.FlagUpstreamProtocol, a.detail)
		return 502
	default:
		flag := vocab.FlagUpstreamTermination
		if a.remote {
			flag = vocab.FlagUpstreamReset
		}
		c.x.Fail(flag, a.detail)
	}
	return 503
}

// fail answers a request that nobody answered.
func (c *conn) fail(a *attempt) (again bool) {
	status := c.flag(a)
	switch {
	case c.x.Record.Flags == vocab.FlagDownstreamProtocol:
		status = 400
	case status == 0: // nobody is there to be answered
		return false
	}
	if c.timer.fired() {
		_ = c.c.SetWriteDeadline(time.Now().Add(lingerTime))
	}
	if !c.body.whole {
		c.request.close = true // what is left of the body would be read as a request
	}
	reply := &exchange.Reply{
		Status: status, ContentType: "text/plain",
		Body: "upstream connect error or disconnect/reset before headers: " + c.x.Record.Detail + "\n",
	}
	if a.overflow {
		reply.Headers = []exchange.Field{{Name: "x-envoy-overloaded", Value: "true"}}
	}
	return c.reply(reply) && !c.timer.fired()
}
