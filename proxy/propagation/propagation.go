// Package propagation gives a request its IDs and passes them on: x-request-id
// and the trace context, which comes as W3C, B3, Jaeger or OpenCensus wrote it
// and goes on as W3C and as it came.
package propagation

import (
	"bytes"
	"strconv"
	"unsafe"

	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// maxRequestID bounds what is kept of a foreign request ID.
const maxRequestID = 128

// ConflictAttribute of a record says that a request came with several trace
// IDs: the formats that named another one than the first, each with its ID.
const ConflictAttribute = "trace.conflict"

// The formats in the order in which they are believed.
const (
	w3c = iota
	b3Single
	b3Multi
	jaeger
	census
	formats
)

var formatNames = [formats]string{"traceparent", "b3", "x-b3", "uber-trace-id", "grpc-trace-bin"}

// carried is what one format said. The zero value is that it did not come.
type carried struct {
	present bool // the header came, whatever is in it
	valid   bool // it names a trace and a span
	trace   ids.TraceID
	span    ids.SpanID
	short   bool // the trace ID was written with 64 bits
	decided bool // it says whether to sample
	sampled bool
	debug   bool
	flags   byte // Jaeger's
}

// Stamp reads the IDs that came with the request, makes what is missing, opens
// the sidecar's own span and writes all of it to the head that goes on.
//
//   - A request ID that came is kept as it is. Without one, the request ID is
//     the UUID form of the trace ID.
//   - The first valid trace context is continued; others that disagree are
//     noted in the record. Without one a trace begins: its ID is the request
//     ID's 16 bytes if that is a UUID, else random.
//   - An invalid traceparent is dropped together with its tracestate, as W3C
//     trace context section 4.3 asks.
//   - traceparent is always written, and every other format that came is
//     written anew with the same IDs: an application that passes on only what
//     it knows stays in the trace.
//
// What it writes are views into the exchange, which end with it. It does not
// allocate for a request with at most one format besides traceparent.
func Stamp(x *exchange.Exchange) {
	r := &x.Record
	foreign := x.Request.Get(vocab.HeaderRequestID)
	if len(foreign) > maxRequestID || !printable(foreign) {
		foreign = ""
	}
	fromRequest, isUUID := ids.ParseTraceID(foreign)

	var came [formats]carried
	readAll(x.Request, &came)
	winner := 0
	for winner < formats && !came[winner].valid {
		winner++
	}
	switch {
	case winner < formats:
		c := &came[winner]
		r.TraceID, r.ParentSpanID, r.Sampled = c.trace, c.span, c.sampled || !c.decided
		note(x, &came, winner)
	case isUUID:
		r.TraceID, r.Sampled = fromRequest, decision(&came)
	default:
		r.TraceID, r.Sampled = ids.NewTraceID(), decision(&came)
	}
	if winner != w3c {
		x.Request.Del(vocab.HeaderTracestate)
	}
	r.SpanID = ids.NewSpanID()
	writeAll(x, foreign, &came)
}

func readAll(h exchange.Header, came *[formats]carried) {
	if v := h.Get(vocab.HeaderTraceparent); v != "" {
		c := &came[w3c]
		c.present = true
		if p, ok := ids.ParseTraceparent(v); ok {
			c.valid, c.trace, c.span, c.decided, c.sampled = true, p.TraceID, p.SpanID, true, p.Sampled
		}
	}
	if v := h.Get(vocab.HeaderB3); v != "" {
		came[b3Single] = parseB3(v)
	}
	readB3(h, &came[b3Multi])
	if v := h.Get(vocab.HeaderUberTraceID); v != "" {
		came[jaeger] = parseUber(v)
	}
	if v := h.Get(vocab.HeaderGRPCTraceBin); v != "" {
		came[census] = parseCensus(v)
	}
}

// decision is what the caller said of sampling without naming a trace.
func decision(came *[formats]carried) bool {
	for i := range came {
		if came[i].decided {
			return came[i].sampled
		}
	}
	return true
}

// note records the trace IDs that lost.
func note(x *exchange.Exchange, came *[formats]carried, winner int) {
	text := ""
	for i := winner + 1; i < formats; i++ {
		if c := &came[i]; c.valid && !c.same(&came[winner]) {
			text += " " + formatNames[i] + "=" + c.trace.String()
		}
	}
	if text == "" {
		return
	}
	if x.Record.Attributes == nil {
		x.Record.Attributes = make(map[string]string, 1)
	}
	x.Record.Attributes[ConflictAttribute] = text[1:]
}

// same compares trace IDs, of which one may have lost its upper half.
func (c *carried) same(other *carried) bool {
	if c.short || other.short {
		return bytes.Equal(c.trace[8:], other.trace[8:])
	}
	return c.trace == other.trace
}

// writeAll puts the record's IDs into the head.
func writeAll(x *exchange.Exchange, requestID string, came *[formats]carried) {
	r := &x.Record
	free := x.Scratch[:0]
	// The UUID stands first, for RequestID.
	own := text(&free, ids.TraceID(r.TraceID).AppendUUID(free))
	if requestID == "" {
		requestID = own
	}
	if requestID != own {
		r.RequestID = requestID
	}
	x.Request.Set(vocab.HeaderRequestID, requestID)
	x.Request.Set(vocab.HeaderTraceparent,
		text(&free, ids.Traceparent{TraceID: r.TraceID, SpanID: r.SpanID, Sampled: r.Sampled}.Append(free)))
	if c := &came[b3Single]; c.present {
		x.Request.Set(vocab.HeaderB3, text(&free, appendB3(free, c, x)))
	}
	if c := &came[b3Multi]; c.present {
		writeB3(x, c, &free)
	}
	if c := &came[jaeger]; c.present {
		x.Request.Set(vocab.HeaderUberTraceID, text(&free, appendUber(free, c, x)))
	}
	if c := &came[census]; c.present {
		x.Request.Set(vocab.HeaderGRPCTraceBin, text(&free, appendCensus(free, x)))
	}
}

// text makes a string of what was appended to free, without a copy, and moves
// free behind it. What did not fit is in memory of its own, which append took.
func text(free *[]byte, appended []byte) string {
	if len(appended) <= cap(*free) {
		*free = (*free)[:len(appended)][len(appended):]
	}
	// Nobody writes to these bytes again before the exchange ends.
	return unsafe.String(unsafe.SliceData(appended), len(appended))
}

// RequestID is the request's x-request-id, after Stamp. Like the request's
// other texts it may end with the exchange.
func RequestID(x *exchange.Exchange) string {
	if x.Record.RequestID != "" {
		return x.Record.RequestID
	}
	if x.Scratch[0] != 0 {
		return unsafe.String(&x.Scratch[0], 36)
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

// decodeHex reads 1 to 2·len(dst) hexadecimal digits of either case, as if
// zeros stood before them.
func decodeHex(dst []byte, s string) bool {
	if s == "" || len(s) > 2*len(dst) {
		return false
	}
	clear(dst)
	for i := range len(s) {
		v, ok := hexDigit(s[len(s)-1-i])
		if !ok {
			return false
		}
		dst[len(dst)-1-i/2] |= v << (4 * (i % 2))
	}
	return true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// appendTrace writes a trace ID with as many bits as it came with, if that is
// enough.
func appendTrace(dst []byte, id ids.TraceID, short bool) []byte {
	if short && [8]byte(id[:8]) == [8]byte{} {
		return ids.SpanID(id[8:]).AppendHex(dst)
	}
	return id.AppendHex(dst)
}

// appendFlags writes a number in hexadecimal without leading zeros.
func appendFlags(dst []byte, flags byte) []byte { return strconv.AppendUint(dst, uint64(flags), 16) }
