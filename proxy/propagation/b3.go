package propagation

import (
	"strings"

	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// B3 propagation (openzipkin/b3-propagation), in one header or in several:
//
//	b3: TRACE-SPAN[-SAMPLED[-PARENT]], or SAMPLED alone
//
// A trace ID has 16 or 32 digits. SAMPLED is 1, 0 or d for debug; true and
// false are of its earlier days. Without it the receiver decides.

func parseB3(v string) carried {
	c := carried{present: true}
	if len(v) <= len("false") && c.decide(v) {
		return c
	}
	trace, rest, _ := strings.Cut(v, "-")
	span, rest, more := strings.Cut(rest, "-")
	if !c.identify(trace, span) {
		return carried{present: true}
	}
	if !more {
		return c
	}
	sampled, parent, more := strings.Cut(rest, "-")
	var unused ids.SpanID
	if !c.decide(sampled) || more && (len(parent) != 16 || !decodeHex(unused[:], parent)) {
		return carried{present: true}
	}
	return c
}

// readB3 reads the form of several headers into c, which is empty.
func readB3(h exchange.Header, c *carried) {
	trace, sampled := h.Get(vocab.HeaderB3TraceID), h.Get(vocab.HeaderB3Sampled)
	if trace == "" && sampled == "" {
		return
	}
	c.present = true
	if trace != "" && !c.identify(trace, h.Get(vocab.HeaderB3SpanID)) {
		*c = carried{present: true}
	}
	if h.Get(vocab.HeaderB3Flags) == "1" {
		sampled = "d"
	}
	c.decide(sampled) // what it does not say, we say
}

// identify takes the IDs over if they are valid.
func (c *carried) identify(trace, span string) bool {
	if len(trace) != 32 && len(trace) != 16 || len(span) != 16 {
		return false
	}
	c.short = len(trace) == 16
	c.valid = decodeHex(c.trace[:], trace) && decodeHex(c.span[:], span) && !c.trace.IsZero() && c.span != ids.SpanID{}
	return c.valid
}

// decide takes the sampling decision over if there is a valid one.
func (c *carried) decide(v string) bool {
	switch v {
	case "1", "true":
		c.sampled = true
	case "d":
		c.sampled, c.debug = true, true
	case "0", "false":
	default:
		return false
	}
	c.decided = true
	return true
}

// sampling is the decision in B3's notation.
func sampling(c *carried, x *exchange.Exchange) string {
	switch {
	case !x.Record.Sampled:
		return "0"
	case c.debug:
		return "d"
	}
	return "1"
}

func appendB3(dst []byte, c *carried, x *exchange.Exchange) []byte {
	r := &x.Record
	dst = append(appendTrace(dst, r.TraceID, c.short), '-')
	dst = append(ids.SpanID(r.SpanID).AppendHex(dst), '-')
	dst = append(dst, sampling(c, x)...)
	if r.ParentSpanID != [8]byte{} {
		dst = ids.SpanID(r.ParentSpanID).AppendHex(append(dst, '-'))
	}
	return dst
}

// writeB3 writes the form of several headers.
func writeB3(x *exchange.Exchange, c *carried, free *[]byte) {
	r, h := &x.Record, x.Request
	h.Set(vocab.HeaderB3TraceID, text(free, appendTrace(*free, r.TraceID, c.short)))
	h.Set(vocab.HeaderB3SpanID, text(free, ids.SpanID(r.SpanID).AppendHex(*free)))
	if r.ParentSpanID != [8]byte{} {
		h.Set(vocab.HeaderB3Parent, text(free, ids.SpanID(r.ParentSpanID).AppendHex(*free)))
	} else {
		h.Del(vocab.HeaderB3Parent) // of what was invalid
	}
	s := sampling(c, x)
	if s == "d" {
		// Debug implies the decision, which must then not be sent beside it.
		h.Set(vocab.HeaderB3Flags, "1")
		h.Del(vocab.HeaderB3Sampled)
		return
	}
	h.Del(vocab.HeaderB3Flags)
	h.Set(vocab.HeaderB3Sampled, s)
}
