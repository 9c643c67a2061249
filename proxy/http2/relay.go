package http2

import (
	"strconv"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// is reports whether an event of c's stream id concerns half h as it is now.
func (st *stream) is(h *half, c *conn, id uint32) bool { return !st.ended && h.c == c && h.id == id }

// onHeaders implements sink.
func (st *stream) onHeaders(b *batch, c *conn, id uint32, l *fieldList, end bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.limits.moved = true
	switch {
	case st.is(&st.down, c, id):
		st.requestTrailers(b, l)
	case !st.is(&st.up, c, id):
	case st.headSent:
		st.answerTrailers(b, l, end)
	default:
		st.answerHead(b, l, end)
	}
}

// onData implements sink.
func (st *stream) onData(b *batch, c *conn, id uint32, p []byte, end bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.limits.moved = true
	switch {
	case st.is(&st.down, c, id):
		st.requestData(b, p, end)
	case !st.is(&st.up, c, id):
		b.credits = append(b.credits, creditDue{c, id, len(p)})
	case !st.headSent:
		b.credits = append(b.credits, creditDue{c, id, len(p)})
		st.malformedAnswer(b)
	default:
		st.x.Record.BytesOut += uint64(len(p))
		st.respEnd = end
		if end {
			st.settle(exchange.Success)
		}
		st.downSent = st.down.c.sendData(b, &st.down, p, end) || st.downSent
		st.check(b)
	}
}

// onSent implements sink.
func (st *stream) onSent(b *batch, c *conn, id uint32) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.is(&st.down, c, id) {
		if st.bridged && !st.drained() {
			return
		}
		st.downSent = true
		st.check(b)
	}
}

// onReset implements sink.
func (st *stream) onReset(b *batch, c *conn, id uint32, code errCode, why cause) {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.is(&st.down, c, id):
		st.downstreamReset(b, why)
	case st.is(&st.up, c, id):
		st.upstreamReset(b, code, why)
	}
}

// check ends the exchange once both directions have ended.
func (st *stream) check(b *batch) {
	if st.downSent && st.reqEnd {
		st.finish(b)
	}
}

func (st *stream) requestData(b *batch, p []byte, end bool) {
	st.bytesIn += uint64(len(p))
	st.received += int64(len(p))
	st.reqEnd = st.reqEnd || end
	if st.length >= 0 && (st.received > st.length || end && st.received != st.length) {
		b.credits = append(b.credits, creditDue{st.down.c, st.down.id, len(p)})
		st.malformedRequest(b, reasonLength)
		return
	}
	if !st.headSent && !st.replayLost {
		if st.replayLost = len(st.replay)+len(p) > replayLimit; !st.replayLost {
			st.replay = append(st.replay, p...)
		}
	}
	if st.attached {
		st.up.c.sendData(b, &st.up, p, end)
	} else {
		st.up.hold(p)
		st.up.end = st.up.end || end
		st.bridge.wake()
	}
	if end {
		st.check(b)
	}
}

func (st *stream) requestTrailers(b *batch, l *fieldList) {
	st.bytesIn += l.size()
	st.reqEnd, st.replayLost = true, true
	if reason := checkTrailers(l.fields); reason != "" {
		st.malformedRequest(b, reason)
		return
	}
	if st.length >= 0 && st.received != st.length {
		st.malformedRequest(b, reasonLength)
		return
	}
	switch {
	case st.attached && len(l.fields) == 0:
		st.up.c.sendData(b, &st.up, nil, true)
	case st.attached:
		st.up.c.sendTrailers(b, &st.up, l.fields)
	default:
		st.up.trailers = append(st.up.trailers[:0], l.fields...)
		st.up.end = true
		st.bridge.wake()
	}
	st.check(b)
}

// malformedRequest resets the downstream's half (RFC 9113, section 8.1.1).
func (st *stream) malformedRequest(b *batch, reason string) {
	st.server.o.ProtocolError(reason)
	st.down.c.reset(b, &st.down, errProtocol)
	if st.deciding {
		st.gone = true
		return
	}
	st.x.Fail(vocab.FlagDownstreamProtocol, "http2.violation.of.messaging.rule")
	st.leave(b)
}

func (st *stream) downstreamReset(b *batch, why cause) {
	switch {
	case st.deciding:
		st.gone = true
		return
	case st.downSent:
		st.finish(b) // it had the whole answer
		return
	case why == causeMalformed:
		st.x.Fail(vocab.FlagDownstreamProtocol, "http2.violation.of.messaging.rule")
	}
	st.leave(b)
}

// answerHead relays an answer's head, or an interim one.
func (st *stream) answerHead(b *batch, l *fieldList, end bool) {
	status := parseStatus(l)
	switch {
	case status == 0 || status == 101 || status < 200 && end:
		st.malformedAnswer(b)
		return
	case status < 200:
		st.x.Record.BytesOut += l.size()
		st.down.c.sendHeaders(b, &st.down, l.fields, false)
		return
	}
	if (end || status >= 400) && st.givenUp(b, l, status) {
		return
	}
	st.resp.fields, l.fields = l.fields, st.resp.fields[:0]
	st.firstByte = netio.Now()
	st.x.Record.Code = uint32(status)
	if st.x.Record.Protocol == "grpc" {
		st.readStatus(&st.resp)
	}
	st.respond()
	st.limits.head()
	if st.respEnd = end; end {
		st.settle(exchange.Success)
	}
	if st.attached {
		st.down.c.source(&st.down, st.up.c, st.up.id)
	}
	st.downSent = st.down.c.sendHeaders(b, &st.down, st.resp.fields, end)
	st.check(b)
}

// givenUp gives up an answer by its head, for another attempt, if the retry policy
// names its status. gRPC has its status there when it refuses: then the head is
// all of the answer.
func (st *stream) givenUp(b *batch, l *fieldList, status int) bool {
	if st.settled || !st.attached || st.replayLost {
		return false
	}
	o := st.outcome(exchange.Success)
	o.Status, o.FirstByte = status, o.Duration
	if st.x.Record.Protocol == "grpc" {
		o.GRPC = grpcStatusOf(l)
	}
	if o.Status < 400 && o.GRPC <= 1 {
		return false
	}
	target, ok := st.server.o.Handler.Retry(&st.x, o)
	if !ok {
		return false
	}
	st.settled = true
	st.target.Endpoint.Done(o)
	st.tried(netio.Now(), o)
	st.up.c.reset(b, &st.up, errCancel) // if the upstream did not want all of the request
	st.again(b, target)
	return true
}

// respond shows the handler the answer's head as it stands in resp.
func (st *stream) respond() {
	st.headSent = true
	st.replay = st.replay[:0]
	st.x.Response = &st.resp
	st.server.o.Handler.Respond(&st.x)
	st.x.Record.BytesOut += st.resp.size()
}

func (st *stream) answerTrailers(b *batch, l *fieldList, end bool) {
	if !end || checkTrailers(l.fields) != "" {
		st.malformedAnswer(b)
		return
	}
	if st.x.Record.Protocol == "grpc" {
		st.readStatus(l)
	}
	st.x.Record.BytesOut += l.size()
	if len(l.fields) > 0 {
		st.trailers.fields = append(st.trailers.fields[:0], l.fields...)
		st.x.Trailers = &st.trailers
	}
	st.respEnd = true
	st.settle(exchange.Success)
	if len(l.fields) == 0 {
		st.downSent = st.down.c.sendData(b, &st.down, nil, true)
	} else {
		st.downSent = st.down.c.sendTrailers(b, &st.down, l.fields)
	}
	st.check(b)
}

// readStatus notes gRPC's own status.
func (st *stream) readStatus(l *fieldList) {
	if status := grpcStatusOf(l); status != 0 {
		st.x.Record.GRPCStatus = status
	}
}

// grpcStatusOf is gRPC's status plus one, 0 without one.
func grpcStatusOf(l *fieldList) uint32 {
	status := l.Get("grpc-status")
	if status == "" {
		return 0 // ParseUint's error would be an allocation
	}
	n, err := strconv.ParseUint(status, 10, 8)
	if err != nil {
		return 0
	}
	return uint32(n) + 1
}

// malformedAnswer ends the attempt of an upstream that does not keep to the
// protocol.
func (st *stream) malformedAnswer(b *batch) {
	if st.attached {
		st.up.c.reset(b, &st.up, errProtocol)
	}
	st.uncross()
	st.failed(b, failure{kind: exchange.ProtocolFailure, flag: vocab.FlagUpstreamProtocol, cause: "protocol_error", status: 502})
}

// upstreamReset follows the loss of the upstream's half.
func (st *stream) upstreamReset(b *batch, code errCode, why cause) {
	if st.respEnd {
		// The answer is complete; the upstream wants no more of the request.
		st.reqEnd = true
		st.down.c.quiet(b, &st.down)
		st.check(b)
		return
	}
	if st.limits.request != 0 && netio.Now() >= st.limits.request {
		// The upstream keeps the same deadline and was quicker than our timer.
		st.expired(b, st.limits.request)
		return
	}
	f := failure{kind: exchange.Reset, flag: vocab.FlagUpstreamReset, cause: "remote_reset", status: 503}
	switch why {
	case causeRefused:
		f.kind, f.cause = exchange.Refused, "remote_refused_stream_reset"
	case causeLost:
		f.flag, f.cause = vocab.FlagUpstreamTermination, "connection_termination"
	case causeMalformed:
		f = failure{kind: exchange.ProtocolFailure, flag: vocab.FlagUpstreamProtocol, cause: "protocol_error", status: 502}
	case causeReset:
		f.code = code
	}
	st.failed(b, f)
}

// source says where the bytes come from that go out on h.
func (c *conn) source(h *half, src *conn, id uint32) {
	c.mu.Lock()
	h.src, h.srcID = src, id
	c.mu.Unlock()
}

// quiet has the peer stop sending once our END_STREAM has gone out.
func (c *conn) quiet(b *batch, h *half) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.closed || c.closed {
		return
	}
	if h.sentEnd {
		c.resetLocked(b, h, errNo)
		return
	}
	h.quiet = true
}
