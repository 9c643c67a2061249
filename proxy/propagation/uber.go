package propagation

import (
	"strings"

	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// Jaeger's uber-trace-id (Jaeger client libraries, propagation format):
//
//	TRACE:SPAN:PARENT:FLAGS
//
// Hexadecimal without fixed width: up to 32 digits of trace ID, up to 16 of the
// others. The lowest bit of the flags says sampled, the next one debug. Some
// clients percent-encode the colons.

const (
	uberSampled = 1
	uberDebug   = 2
)

func parseUber(v string) carried {
	c := carried{present: true}
	trace, rest := cutUber(v)
	span, rest := cutUber(rest)
	parent, flags := cutUber(rest)
	var unused ids.SpanID
	var bits [1]byte
	ok := decodeHex(c.trace[:], trace) && decodeHex(c.span[:], span) && decodeHex(unused[:], parent) && decodeHex(bits[:], flags)
	if !ok || c.trace.IsZero() || c.span == (ids.SpanID{}) {
		return carried{present: true}
	}
	c.valid, c.decided, c.flags, c.short = true, true, bits[0], len(trace) <= 16
	c.sampled, c.debug = bits[0]&(uberSampled|uberDebug) != 0, bits[0]&uberDebug != 0
	return c
}

// cutUber cuts at a colon, plain or percent-encoded.
func cutUber(s string) (before, after string) {
	for i := range len(s) {
		switch {
		case s[i] == ':':
			return s[:i], s[i+1:]
		case s[i] == '%' && len(s) >= i+3 && strings.EqualFold(s[i:i+3], "%3a"):
			return s[:i], s[i+3:]
		}
	}
	return s, ""
}

// appendUber keeps the flags that it does not know.
func appendUber(dst []byte, c *carried, x *exchange.Exchange) []byte {
	r := &x.Record
	flags := c.flags &^ (uberSampled | uberDebug)
	if r.Sampled {
		flags |= uberSampled
		if c.debug {
			flags |= uberDebug
		}
	}
	dst = append(appendTrace(dst, r.TraceID, c.short), ':')
	dst = append(ids.SpanID(r.SpanID).AppendHex(dst), ':')
	dst = append(ids.SpanID(r.ParentSpanID).AppendHex(dst), ':')
	return appendFlags(dst, flags)
}
