// Package propagation gives a request its IDs and passes them on: x-request-id
// and the W3C trace context.
package propagation

import (
	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// maxRequestID bounds what is kept of a foreign request ID.
const maxRequestID = 128

// Stamp reads the IDs that came with the request, makes what is missing, opens
// the sidecar's own span and writes all of it to the head that goes on.
//
//   - A request ID that came is kept as it is. Without one, the request ID is
//     the UUID form of the trace ID.
//   - A valid traceparent is continued. Without one a trace begins: its ID is
//     the request ID's 16 bytes if that is a UUID, else random.
//   - An invalid traceparent is dropped together with its tracestate, as W3C
//     trace context section 4.3 asks.
func Stamp(x *exchange.Exchange) {
	r := &x.Record
	foreign := x.Request.Get(vocab.HeaderRequestID)
	if len(foreign) > maxRequestID || !printable(foreign) {
		foreign = ""
	}
	fromRequest, isUUID := ids.ParseTraceID(foreign)

	parent, ok := ids.ParseTraceparent(x.Request.Get(vocab.HeaderTraceparent))
	switch {
	case ok:
		r.TraceID, r.ParentSpanID, r.Sampled = parent.TraceID, parent.SpanID, parent.Sampled
	case isUUID:
		r.TraceID, r.Sampled = fromRequest, true
	default:
		r.TraceID, r.Sampled = ids.NewTraceID(), true
	}
	if !ok {
		x.Request.Del(vocab.HeaderTracestate)
	}
	r.SpanID = ids.NewSpanID()

	own := ids.TraceID(r.TraceID).UUID()
	requestID := foreign
	if requestID == "" {
		requestID = own
	}
	if requestID != own {
		r.RequestID = requestID
	}
	x.Request.Set(vocab.HeaderRequestID, requestID)
	x.Request.Set(vocab.HeaderTraceparent, ids.Traceparent{TraceID: r.TraceID, SpanID: r.SpanID, Sampled: r.Sampled}.String())
}

// RequestID is the request's x-request-id, after Stamp.
func RequestID(x *exchange.Exchange) string {
	if x.Record.RequestID != "" {
		return x.Record.RequestID
	}
	return ids.TraceID(x.Record.TraceID).UUID()
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
