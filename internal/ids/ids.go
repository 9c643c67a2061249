// Package ids makes and reads the identifiers of a request: x-request-id,
// trace and span IDs and the W3C traceparent.
//
// A request ID that the mesh makes is a UUIDv4 whose 16 bytes are also the
// trace ID; the UUID's last seven bytes are random, as W3C trace context level
// 2 demands of a random trace ID.
package ids

import (
	"encoding/hex"
	"math/rand/v2"
	"strings"
)

// TraceID is a W3C trace ID. The zero value means none.
type TraceID [16]byte

// SpanID is a W3C span ID. The zero value means none.
type SpanID [8]byte

// NewTraceID returns a random trace ID with the version and variant bits of a
// UUIDv4. The randomness is the runtime's ChaCha8: unpredictable, no syscall.
func NewTraceID() (id TraceID) {
	putUint64(id[:8], rand.Uint64())
	putUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// NewSpanID returns a random span ID, never zero.
func NewSpanID() (id SpanID) {
	for id == (SpanID{}) {
		putUint64(id[:], rand.Uint64())
	}
	return id
}

func putUint64(b []byte, v uint64) {
	for i := range 8 {
		b[i] = byte(v >> (8 * i))
	}
}

// String is the 32-digit hexadecimal form.
func (t TraceID) String() string { return hex.EncodeToString(t[:]) }

// IsZero reports whether there is no trace ID.
func (t TraceID) IsZero() bool { return t == TraceID{} }

// UUID is the form in which the trace ID serves as x-request-id.
func (t TraceID) UUID() string {
	var b [36]byte
	hex.Encode(b[0:8], t[0:4])
	hex.Encode(b[9:13], t[4:6])
	hex.Encode(b[14:18], t[6:8])
	hex.Encode(b[19:23], t[8:10])
	hex.Encode(b[24:36], t[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// String is the 16-digit hexadecimal form, empty for none.
func (s SpanID) String() string {
	if s == (SpanID{}) {
		return ""
	}
	return hex.EncodeToString(s[:])
}

// ParseTraceID reads 32 hexadecimal digits, or a UUID. Zero is refused.
func ParseTraceID(s string) (TraceID, bool) {
	var id TraceID
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		s = strings.ReplaceAll(s, "-", "")
	}
	if len(s) != 32 {
		return id, false
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return TraceID{}, false
	}
	return id, !id.IsZero()
}

// Traceparent is a parsed W3C traceparent header.
type Traceparent struct {
	TraceID TraceID
	SpanID  SpanID
	Sampled bool
}

// ParseTraceparent reads a header of version 00, or of a later version by its
// first four fields (W3C trace context, section 3.2). Uppercase, zero IDs and
// version ff are invalid.
func ParseTraceparent(s string) (Traceparent, bool) {
	var p Traceparent
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" {
		return p, false
	}
	if s[:2] == "00" && len(s) != 55 || len(s) > 55 && s[55] != '-' {
		return p, false
	}
	var version, flags [1]byte
	ok := decodeLower(version[:], s[0:2]) && decodeLower(p.TraceID[:], s[3:35]) &&
		decodeLower(p.SpanID[:], s[36:52]) && decodeLower(flags[:], s[53:55])
	if !ok || p.TraceID.IsZero() || p.SpanID == (SpanID{}) {
		return Traceparent{}, false
	}
	p.Sampled = flags[0]&1 != 0
	return p, true
}

func decodeLower(dst []byte, s string) bool {
	for i := range dst {
		high, low := digit(s[2*i]), digit(s[2*i+1])
		if high > 15 || low > 15 {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// String is the header's value, version 00.
func (p Traceparent) String() string {
	b := make([]byte, 0, 55)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, p.TraceID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, p.SpanID[:])
	if p.Sampled {
		return string(append(b, "-01"...))
	}
	return string(append(b, "-00"...))
}
