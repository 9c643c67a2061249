package http2

import (
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// failure is why an attempt failed, and what becomes of it if it was the last.
type failure struct {
	kind   exchange.Failure
	flag   string // Envoy's
	cause  string // Envoy's name for it, inside the detail's braces
	status int
	last   bool    // there shall be no other attempt
	code   errCode // that the upstream gave, if it reset the stream
}

// failed ends an attempt: another one, or the sidecar's answer, or a reset if
// the answer has begun.
func (st *stream) failed(b *batch, f failure) {
	outcome := st.outcome(f.kind)
	st.settle(f.kind)
	if st.trying {
		st.tried(netio.Now(), exchange.Outcome{Failure: f.kind})
		st.x.Tries[len(st.x.Tries)-1].Detail = f.cause
	}
	if st.headSent {
		st.brokenOff(b, f)
		return
	}
	if !f.last && (!st.attached && !st.taken || !st.replayLost) {
		if target, ok := st.server.o.Handler.Retry(&st.x, outcome); ok {
			st.again(b, target)
			return
		}
	}
	if st.x.Record.Flags == "" {
		st.x.Fail(f.flag, f.detail("before"))
	}
	st.reply(b, &exchange.Reply{
		Status: f.status, ContentType: "text/plain",
		Body: "upstream connect error or disconnect/reset before headers: " + st.x.Record.Detail + "\n",
	})
}

func (f *failure) detail(when string) string {
	switch f.flag {
	case vocab.FlagUpstreamTimeout, vocab.FlagUpstreamOverflow, vocab.FlagStreamIdle:
		return f.cause
	}
	return "upstream_reset_" + when + "_response_started{" + f.cause + "}"
}

// again makes another attempt with the whole request.
func (st *stream) again(b *batch, target exchange.Target) {
	if st.attached || st.taken {
		if st.paid += len(st.replay) - st.up.pending(); st.attached {
			st.paid = len(st.replay) // or they were, when the half was dropped
		}
		st.up.clean()
		st.up.sink = st
		st.up.queue = append(st.up.queue, st.replay...)
		st.up.end = st.reqEnd
		st.attached, st.taken = false, false
	}
	st.target, st.settled = target, target.Endpoint == nil
	st.x.Record.Flags, st.x.Record.Detail = "", ""
	if target.Backoff > 0 {
		st.limits.backoff(netio.Now(), target.Backoff)
		st.limits.arm(st)
		return
	}
	st.try(b)
}

// brokenOff ends an answer that has begun. A gRPC caller whose upstream is gone
// is told so in trailers; others see a reset.
func (st *stream) brokenOff(b *batch, f failure) {
	if st.x.Record.Flags == "" {
		st.x.Fail(f.flag, f.detail("after"))
	}
	grpc := st.x.Record.Protocol == "grpc" && (f.flag == vocab.FlagUpstreamTermination || f.flag == vocab.FlagUpstreamTimeout)
	if !grpc || st.respEnd {
		code := f.code
		if code == errNo {
			code = errInternal
		}
		st.down.c.reset(b, &st.down, code)
		st.finish(b)
		return
	}
	status := exchange.GRPCStatus(st.x.Record.Flags, f.status)
	st.x.Record.GRPCStatus = uint32(status) + 1
	trailers := [2]hpack.HeaderField{
		{Name: "grpc-status", Value: strconv.Itoa(status)},
		{Name: "grpc-message", Value: exchange.GRPCMessage(st.x.Record.Detail)},
	}
	st.respEnd = true
	st.detach(b)
	st.downSent = st.down.c.sendTrailers(b, &st.down, trailers[:])
	st.endRequest(b)
}

// detach gives the upstream's half up.
func (st *stream) detach(b *batch) {
	if st.attached {
		st.up.c.reset(b, &st.up, errCancel)
	}
	st.uncross()
	st.setWaiting(false)
}

// endRequest wants no more of the request once the answer has gone out.
func (st *stream) endRequest(b *batch) {
	if !st.reqEnd {
		st.reqEnd = true
		st.down.c.quiet(b, &st.down)
	}
	st.check(b)
}

// reply gives the sidecar's own answer; to a gRPC caller in gRPC's form.
func (st *stream) reply(b *batch, r *exchange.Reply) {
	st.detach(b)
	body := r.Body
	h := &st.resp
	h.fields = append(h.fields[:0], hpack.HeaderField{Name: ":status", Value: strconv.Itoa(r.Status)})
	for _, f := range r.Headers {
		h.Set(f.Name, f.Value)
	}
	st.x.Record.Code = uint32(r.Status)
	if st.x.Record.Protocol == "grpc" {
		status := exchange.GRPCStatus(st.x.Record.Flags, r.Status)
		st.x.Record.GRPCStatus = uint32(status) + 1
		st.x.Record.Code = 200
		h.fields[0].Value = "200"
		h.Set("content-type", "application/grpc")
		h.Set("grpc-status", strconv.Itoa(status))
		h.Set("grpc-message", exchange.GRPCMessage(strings.TrimSpace(body)))
		body = ""
	} else {
		if r.ContentType != "" {
			h.Set("content-type", r.ContentType)
		}
		h.Set("content-length", strconv.Itoa(len(body)))
	}
	if st.method == "HEAD" {
		body = ""
	}
	st.respond()
	st.respEnd = true
	st.downSent = st.down.c.sendHeaders(b, &st.down, h.fields, body == "")
	if body != "" {
		st.x.Record.BytesOut += uint64(len(body))
		st.downSent = st.down.c.sendData(b, &st.down, []byte(body), true)
	}
	st.endRequest(b)
}
