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
	var b [32]byte
	t.put(&b)
	return append(dst, b[:]...)
}

func (t TraceID) put(b *[32]byte) {
	for i := range 4 {
		putHex(b[8*i:], binary.BigEndian.Uint32(t[4*i:]))
	}
}

// AppendUUID appends the form in which the trace ID serves as x-request-id.
func (t TraceID) AppendUUID(dst []byte) []byte {
	var b [32]byte
	t.put(&b)
	var out [36]byte
	copy(out[0:8], b[0:8])
	copy(out[9:13], b[8:12])
	copy(out[14:18], b[12:16])
	copy(out[19:23], b[16:20])
	copy(out[24:36], b[20:32])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return append(dst, out[:]...)
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
	var b [16]byte
	putHex(b[:8], binary.BigEndian.Uint32(s[:4]))
	putHex(b[8:], binary.BigEndian.Uint32(s[4:]))
	return append(dst, b[:]...)
}

// ParseTraceID reads 32 hexadecimal digits, or a UUID. Zero is refused.
func ParseTraceID(s string) (TraceID, bool) {
	var id TraceID
	uuid := len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-'
	if !uuid && len(s) != 32 {
		return id, false
	}
	var digits [32]byte
	if uuid {
		copy(digits[0:8], s[0:8])
		copy(digits[8:12], s[9:13])
		copy(digits[12:16], s[14:18])
		copy(digits[16:20], s[19:23])
		copy(digits[20:32], s[24:36])
	} else {
		copy(digits[:], s)
	}
	faults := uint64(0)
	for i := range 4 {
		w := binary.BigEndian.Uint64(digits[8*i:])
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
	ends := [8]byte{s[0], s[1], s[53], s[54], '0', '0', '0', '0'}
	flags, faults := hexOf(binary.BigEndian.Uint64(ends[:]))
	var digits [48]byte
	copy(digits[:32], s[3:35])
	copy(digits[32:], s[36:52])
	for i := range 6 {
		v, fault := hexOf(binary.BigEndian.Uint64(digits[8*i:]))
		faults |= fault
		if i < 4 {
			binary.BigEndian.PutUint32(p.TraceID[4*i:], v)
		} else {
			binary.BigEndian.PutUint32(p.SpanID[4*i-16:], v)
		}
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
