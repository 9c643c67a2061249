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

// AppendHex appends the 32-digit hexadecimal form.
func (t TraceID) AppendHex(dst []byte) []byte { return hex.AppendEncode(dst, t[:]) }

// AppendUUID appends the form in which the trace ID serves as x-request-id.
func (t TraceID) AppendUUID(dst []byte) []byte {
	dst = append(hex.AppendEncode(dst, t[0:4]), '-')
	dst = append(hex.AppendEncode(dst, t[4:6]), '-')
	dst = append(hex.AppendEncode(dst, t[6:8]), '-')
	dst = append(hex.AppendEncode(dst, t[8:10]), '-')
	return hex.AppendEncode(dst, t[10:16])
}

// IsZero reports whether there is no trace ID.
func (t TraceID) IsZero() bool { return t == TraceID{} }

// UUID is the form in which the trace ID serves as x-request-id.
func (t TraceID) UUID() string {
	var b [36]byte
	return string(t.AppendUUID(b[:0]))
}

// String is the 16-digit hexadecimal form, empty for none.
func (s SpanID) String() string {
	if s == (SpanID{}) {
		return ""
	}
	return hex.EncodeToString(s[:])
}

// AppendHex appends the 16-digit hexadecimal form, also of none.
func (s SpanID) AppendHex(dst []byte) []byte { return hex.AppendEncode(dst, s[:]) }

// ParseTraceID reads 32 hexadecimal digits, or a UUID. Zero is refused.
func ParseTraceID(s string) (TraceID, bool) {
	var id TraceID
	uuid := len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-'
	if !uuid && len(s) != 32 {
		return id, false
	}
	at := 0
	for i := range id {
		if uuid && (i == 4 || i == 6 || i == 8 || i == 10) {
			at++ // the dash
		}
		high, low := digit(s[at]|0x20), digit(s[at+1]|0x20) // letters of either case
		if s[at] < '0' || s[at+1] < '0' || high > 15 || low > 15 {
			return TraceID{}, false
		}
		id[i] = high<<4 | low
		at += 2
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
	var faults byte
	for i := range dst {
		high, low := lowerDigits[s[2*i]], lowerDigits[s[2*i+1]]
		faults |= high | low
		dst[i] = high<<4 | low
	}
	return faults <= 15
}

// lowerDigits is digit as a table: no branch that random ids would mislead.
var lowerDigits = func() (t [256]byte) {
	for c := range t {
		t[c] = digit(byte(c))
	}
	return t
}()

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
	var b [55]byte
	return string(p.Append(b[:0]))
}

// Append appends the header's value, version 00, 55 bytes.
func (p Traceparent) Append(dst []byte) []byte {
	dst = append(dst, "00-"...)
	dst = append(p.TraceID.AppendHex(dst), '-')
	dst = p.SpanID.AppendHex(dst)
	if p.Sampled {
		return append(dst, "-01"...)
	}
	return append(dst, "-00"...)
}
