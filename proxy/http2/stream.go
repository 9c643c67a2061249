package http2

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// Texts of a record are bounded: they come from whoever calls.
const (
	maxPath = 2048
	maxText = 256
	// replayLimit is how much of a request's body is kept for another attempt.
	replayLimit = 16 << 10
	// maxFree is how many ended streams a connection keeps for reuse.
	maxFree = 64
)

// stream is one exchange: a half on the downstream connection and, once there is
// a target, one on an upstream's. Its lock guards everything but what halves
// leave to their connections' locks.
type stream struct {
	server *Server

	mu       sync.Mutex
	down, up half
	x        exchange.Exchange
	req      fieldList
	resp     fieldList
	target   exchange.Target
	method   string
	protocol string // of an extended CONNECT

	deciding bool // Begin runs in a goroutine of its own and owns x
	gone     bool // the downstream left meanwhile
	waiting  bool // for an upstream connection
	attached bool // up is, or was, on a connection
	// bridge is the stream's way to an upstream of HTTP/1, which takes the body
	// from up's queue; nil without one.
	bridge   *bridge
	bridged  bool // there was one
	taken    bool // and it has taken some of the body
	paid     int  // bytes at up's queue's front that were credited before
	turn     uint64
	headSent bool
	headOnly bool // END_STREAM came with the request's head
	reqEnd   bool // the request is complete, or no longer wanted
	respEnd  bool // the answer is complete
	downSent bool // and has gone out
	ended    bool
	settled  bool // the endpoint was told

	length, received int64 // of the body: as announced, -1 if not; as it came
	bytesIn          uint64
	replay           []byte
	replayLost       bool // some of the body is not in replay

	start, attemptStart, firstByte int64
	connect                        int64 // how long the attempt waited for its connection
	trying                         bool  // an attempt is under way that x.Tries has not
	trailers                       fieldList
	limits                         limits
}

// newStream takes an ended stream for reuse, or a new one. The lock is held.
func (c *conn) newStream() *stream {
	if n := len(c.free); n > 0 {
		st := c.free[n-1]
		c.free = c.free[:n-1]
		return st
	}
	return &stream{server: c.server, ended: true}
}

// accept begins a stream with the head that c has just decoded.
func (s *Server) accept(c *conn, id uint32, end bool) {
	r, reason := parseRequest(c.head.fields)
	if reason == "" && end && r.length > 0 {
		reason = reasonLength
	}
	c.mu.Lock()
	if answered := c.refuse(id, end, reason); answered {
		c.mu.Unlock()
		return
	}
	st := c.newStream()
	c.mu.Unlock()

	st.mu.Lock()
	defer st.mu.Unlock()
	st.prepare(c, &r, end)
	c.mu.Lock()
	st.down.attach(c, id)
	st.down.recvEnd = end
	c.mu.Unlock()
	s.o.Gauges.InFlight.Add(1)
	if s.o.Handler.Waits() {
		st.deciding = true
		c.deciders.Go(func() { st.decide(c.ctx) })
		return
	}
	target, reply := s.o.Handler.Begin(c.ctx, &st.x)
	st.decided(&c.batch, target, reply)
}

// refuse answers a head that becomes no exchange. The lock is held.
func (c *conn) refuse(id uint32, end bool, reason string) bool {
	switch {
	case c.tooLarge:
		c.encode(id, []hpack.HeaderField{{Name: ":status", Value: "431"}, {Name: "content-length", Value: "0"}}, true)
		if !end {
			c.wbuf = appendRSTStream(c.output(), id, errNo)
		}
		c.server.o.ProtocolError("header_list_size")
	case reason != "":
		c.wbuf = appendRSTStream(c.output(), id, errProtocol)
		c.server.o.ProtocolError(reason)
	case c.draining || len(c.streams) >= int(c.server.o.MaxConcurrentStreams):
		c.wbuf = appendRSTStream(c.output(), id, errRefusedStream)
	default:
		return false
	}
	if !end {
		c.noteReset(id)
	}
	c.batch.add(c)
	return true
}

// prepare fills the stream in with a request's head.
func (st *stream) prepare(c *conn, r *request, end bool) {
	st.req.fields, c.head.fields = c.head.fields, st.req.fields[:0]
	st.down.sink, st.up.sink = st, st
	st.method, st.protocol = r.method, r.protocol
	st.length, st.headOnly, st.reqEnd, st.ended = r.length, end, end, false
	st.start = netio.Now()
	st.bytesIn = st.req.size()

	x := &st.x
	x.Direction, x.Request, x.Scheme = c.server.o.Direction, &st.req, r.scheme
	x.Downstream, x.OriginalDestination, x.TLS, x.Shard = c.facts.Downstream, c.facts.OriginalDestination, c.facts.TLS, c.shard
	x.Principal, x.Security = c.facts.Principal, exchange.Security(c.facts.TLS)
	if x.Scheme == "" {
		x.Scheme = "http"
	}
	rec := &x.Record
	rec.Start = time.Now()
	rec.Protocol, rec.HTTPVersion = "http", "HTTP/2.0"
	if strings.HasPrefix(r.contentType, "application/grpc") {
		rec.Protocol = "grpc"
	}
	host := r.authority
	if host == "" {
		host = r.host
	}
	x.Authority, x.Target = host, r.path
	rec.Method, rec.Host, rec.Path = limit(r.method, maxText), limit(host, maxText), limit(r.path, maxPath)
	rec.UserAgent = limit(r.userAgent, maxText)
	rec.Verdict = vocab.VerdictOK
	st.limits.begin(st.start, r.timeout)
}

func limit(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// decide waits for a decision away from the reader.
func (st *stream) decide(ctx context.Context) {
	target, reply := st.server.o.Handler.Begin(ctx, &st.x)
	var b batch
	st.mu.Lock()
	st.deciding = false
	st.decided(&b, target, reply)
	st.mu.Unlock()
	b.run()
}

// decided goes on with a decision.
func (st *stream) decided(b *batch, target exchange.Target, reply *exchange.Reply) {
	st.target, st.settled = target, target.Endpoint == nil
	switch {
	case st.gone:
		st.leave(b)
	case reply != nil:
		st.settle(exchange.Local)
		st.reply(b, reply)
	case st.protocol != "" && st.overHTTP1():
		st.settle(exchange.Local)
		st.x.Fail(vocab.FlagDownstreamProtocol, "extended_connect_not_supported")
		st.reply(b, &exchange.Reply{Status: 501, ContentType: "text/plain", Body: "extended CONNECT does not reach an HTTP/1 upstream; use Upgrade over HTTP/1.1.\n"})
	case st.method == "CONNECT" && st.protocol == "":
		st.settle(exchange.Local)
		st.x.Fail(vocab.FlagDownstreamProtocol, "connect_not_supported")
		st.reply(b, &exchange.Reply{Status: 501, ContentType: "text/plain", Body: "CONNECT works over HTTP/1.1 only; open the tunnel with that.\n"})
	default:
		st.limits.target(st.start, target.Timeouts)
		st.try(b)
	}
}

// try begins an attempt at the target.
func (st *stream) try(b *batch) {
	st.attemptStart, st.connect, st.trying = netio.Now(), 0, true
	st.limits.attempt(st.attemptStart, st.target.Timeouts.PerTry)
	st.limits.arm(st)
	st.x.Record.Upstream = st.target.Address
	st.x.Record.Attempts++
	st.turn++
	if st.overHTTP1() {
		st.cross()
		return
	}
	st.place(b)
}

// place looks for an upstream connection and reports whether there was one.
func (st *stream) place(b *batch) bool {
	st.up.src, st.up.srcID = st.down.c, st.down.id
	switch st.server.pool.open(b, st.target, &st.up, st.req.fields, st.headOnly, waiter{client: st, turn: st.turn}) {
	case placed:
		st.attached = true
		return true
	case waits:
		st.setWaiting(true)
	case overflow:
		st.failed(b, failure{kind: exchange.ConnectFailure, flag: vocab.FlagUpstreamOverflow, cause: "overflow", status: 503})
	}
	return false
}

func (st *stream) setWaiting(waiting bool) {
	if st.waiting == waiting {
		return
	}
	st.waiting = waiting
	if waiting {
		st.server.o.Gauges.Pending.Add(1)
	} else {
		st.server.o.Gauges.Pending.Add(-1)
	}
}

// admitted implements opener.
func (st *stream) admitted(b *batch, turn uint64) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.waiting || st.turn != turn {
		return true
	}
	st.setWaiting(false)
	st.connect = netio.Now() - st.attemptStart
	return st.place(b)
}

// unreachable implements opener.
func (st *stream) unreachable(b *batch, turn uint64, _ error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.waiting || st.turn != turn {
		return
	}
	st.setWaiting(false)
	st.connect = netio.Now() - st.attemptStart
	st.failed(b, failure{kind: exchange.ConnectFailure, flag: vocab.FlagUpstreamConnect, cause: "connection_failure", status: 503})
}

// settle tells the endpoint how the attempt went, once.
func (st *stream) settle(f exchange.Failure) {
	if st.settled {
		return
	}
	st.settled = true
	st.target.Endpoint.Done(st.outcome(f))
}

func (st *stream) outcome(f exchange.Failure) exchange.Outcome {
	o := exchange.Outcome{Failure: f, Duration: time.Duration(netio.Now() - st.attemptStart)}
	if st.headSent {
		o.Status, o.GRPC = int(st.x.Record.Code), st.x.Record.GRPCStatus
		o.FirstByte = time.Duration(st.firstByte - st.attemptStart)
	}
	return o
}

// end is how an attempt went that nothing has ended before its exchange.
func (st *stream) end() exchange.Failure {
	if st.respEnd {
		return exchange.Success
	}
	return exchange.Local
}

// tried notes how an attempt went that is over now. Of the outcome it takes the
// failure, and the statuses if there was no head that went downstream.
func (st *stream) tried(now int64, o exchange.Outcome) {
	st.trying = false
	t := exchange.Try{
		Upstream: st.target.Address, Detail: st.x.Record.Detail, Start: time.Duration(st.attemptStart - st.start), Connect: time.Duration(st.connect),
		FirstByte: o.FirstByte, Duration: time.Duration(now - st.attemptStart), Failure: o.Failure, Status: uint16(o.Status), GRPC: uint8(o.GRPC),
	}
	if st.headSent && st.firstByte != 0 {
		t.Status, t.GRPC, t.FirstByte = uint16(st.x.Record.Code), uint8(st.x.Record.GRPCStatus), time.Duration(st.firstByte-st.attemptStart)
	}
	st.x.Tried(t)
}

// leave ends the exchange of a downstream that has left.
func (st *stream) leave(b *batch) {
	if st.x.Record.Flags == "" {
		st.x.Fail(vocab.FlagDownstreamTermination, "downstream_remote_disconnect")
	}
	st.settle(exchange.Local)
	st.finish(b)
}

// finish ends the exchange: the only place where End is called.
func (st *stream) finish(b *batch) {
	if st.ended {
		return
	}
	st.ended = true
	if st.attached {
		st.up.c.reset(b, &st.up, errCancel) // if it is still open
	} else if unsent := st.up.pending() - st.paid; unsent > 0 {
		b.credits = append(b.credits, creditDue{st.down.c, st.down.id, unsent})
	}
	st.uncross()
	st.setWaiting(false)
	st.settle(exchange.Local)
	rec := &st.x.Record
	now := netio.Now()
	rec.Duration = time.Duration(now - st.start)
	if st.trying {
		st.tried(now, exchange.Outcome{Failure: st.end()})
	}
	if st.firstByte != 0 {
		rec.FirstByte = time.Duration(st.firstByte - st.start)
	}
	rec.BytesIn = st.bytesIn
	if rec.Flags == vocab.FlagDownstreamTermination && !st.headSent {
		rec.Code = 0 // Envoy's way: no response was sent
	}
	if rec.Detail == "" {
		rec.Detail = "via_upstream"
	}
	st.server.o.Handler.End(&st.x)
	st.server.o.Gauges.InFlight.Add(-1)
	st.recycle()
}

// recycle keeps the stream for its connection's next one. Calls that are still
// under way for it find other ids, or none.
func (st *stream) recycle() {
	c := st.down.c
	st.down.clean()
	st.up.clean()
	st.req.clear()
	st.resp.clear()
	st.trailers.clear()
	tries := st.x.Tries[:0]
	clear(tries[:cap(tries)]) // of their texts
	st.x, st.target = exchange.Exchange{}, exchange.Target{}
	st.x.Tries, st.trying = tries, false
	st.method, st.protocol = "", ""
	st.gone, st.attached, st.headSent, st.respEnd, st.downSent = false, false, false, false, false
	st.bridged, st.taken, st.paid = false, false, 0
	st.turn++
	st.received, st.bytesIn, st.replayLost, st.firstByte = 0, 0, false, 0
	if st.replay = st.replay[:0]; cap(st.replay) > maxKept {
		st.replay = nil
	}
	st.limits.clear()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.free) >= maxFree {
		st.limits.stop()
		return
	}
	c.free = append(c.free, st)
}

// retire lets go of a stream that was kept.
func (st *stream) retire() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.limits.stop()
}
