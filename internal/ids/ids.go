// Package ids makes and reads the identifiers of a request: x-request-id,
// trace and span IDs and the W3C traceparent.
//
// A request ID that the mesh makes is a UUIDv4 whose 16 bytes are also the
// trace ID; the UUID's last seven bytes are random, as W3C trace context level
// 2 demands of a random trace ID.
package ids

import (
	"encoding/binary"
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
func (t TraceID) AppendHex(dst []byte) []byte {
	n := len(dst)
	dst = append(dst, "00000000000000000000000000000000"...)
	b := dst[n:]
	for i := range 4 {
		binary.BigEndian.PutUint64(b[8*i:], hex8(binary.BigEndian.Uint32(t[4*i:])))
	}
	return dst
}

// AppendUUID appends the form in which the trace ID serves as x-request-id.
func (t TraceID) AppendUUID(dst []byte) []byte {
	n := len(dst)
	dst = append(dst, "00000000-0000-0000-0000-000000000000"...)
	b := dst[n:]
	second, third := hex8(binary.BigEndian.Uint32(t[4:])), hex8(binary.BigEndian.Uint32(t[8:]))
	binary.BigEndian.PutUint64(b, hex8(binary.BigEndian.Uint32(t[:])))
	binary.BigEndian.PutUint32(b[9:], uint32(second>>32))
	binary.BigEndian.PutUint32(b[14:], uint32(second))
	binary.BigEndian.PutUint32(b[19:], uint32(third>>32))
	binary.BigEndian.PutUint32(b[24:], uint32(third))
	binary.BigEndian.PutUint64(b[28:], hex8(binary.BigEndian.Uint32(t[12:])))
	return dst
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
func (s SpanID) AppendHex(dst []byte) []byte {
	n := len(dst)
	dst = append(dst, "0000000000000000"...)
	b := dst[n:]
	binary.BigEndian.PutUint64(b, hex8(binary.BigEndian.Uint32(s[:])))
	binary.BigEndian.PutUint64(b[8:], hex8(binary.BigEndian.Uint32(s[4:])))
	return dst
}

// ParseTraceID reads 32 hexadecimal digits, or a UUID. Zero is refused.
func ParseTraceID(s string) (TraceID, bool) {
	var id TraceID
	uuid := len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-'
	if !uuid && len(s) != 32 {
		return id, false
	}
	words := [4]uint64{word(s), word(s[8:]), word(s[16:]), word(s[len(s)-8:])}
	if uuid {
		words[1] = word(s[9:])&^(1<<32-1) | word(s[14:])>>32
		words[2] = word(s[19:])&^(1<<32-1) | word(s[24:])>>32
	}
	faults := uint64(0)
	for i, w := range words {
		v, fault := hexOf(w | eachByte*0x20) // letters of either case
		// What is below '0' must not become a digit by that.
		faults |= fault | ^(w + eachByte*(0x80-'0'))
		binary.BigEndian.PutUint32(id[4*i:], v)
	}
	if faults&(eachByte*0x80) != 0 || id.IsZero() {
		return TraceID{}, false
	}
	return id, true
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
	// Eight digits at a time; version and flags are four of one such word.
	flags, faults := hexOf(word(s)&^(1<<48-1) | word(s[47:])&(1<<16-1)<<32 | eachByte*'0'>>32)
	for i := range 4 {
		v, fault := hexOf(word(s[3+8*i:]))
		faults |= fault
		binary.BigEndian.PutUint32(p.TraceID[4*i:], v)
	}
	for i := range 2 {
		v, fault := hexOf(word(s[36+8*i:]))
		faults |= fault
		binary.BigEndian.PutUint32(p.SpanID[4*i:], v)
	}
	if faults&(eachByte*0x80) != 0 || p.TraceID.IsZero() || p.SpanID == (SpanID{}) {
		return Traceparent{}, false
	}
	p.Sampled = flags>>16&1 != 0
	return p, true
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
