package exchange

import (
	"encoding/binary"
	"time"
)

// HeadForm is how AppendHead writes a head.
type HeadForm uint8

// The forms.
const (
	NoHead HeadForm = iota
	// HeadLines is HTTP/1's own: the first line, then the fields, as they came.
	HeadLines
	// HeadList is each field's name and value, each behind its length in two
	// bytes, little-endian. A text may hold any byte.
	HeadList
)

// AppendHeadField appends one field of a HeadList. It reports false, and appends
// nothing, if the field needs more than most bytes.
func AppendHeadField(dst []byte, name, value string, most int) ([]byte, bool) {
	if len(name)+len(value)+4 > most || len(name) > 0xffff || len(value) > 0xffff {
		return dst, false
	}
	dst = append(binary.LittleEndian.AppendUint16(dst, uint16(len(name))), name...)
	return append(binary.LittleEndian.AppendUint16(dst, uint16(len(value))), value...), true
}

// MaxTries is how many attempts an exchange notes. Of more it has the first ones
// and the last.
const MaxTries = 8

// Try is an attempt that has ended. Its texts stay valid for ever.
type Try struct {
	Upstream string // host:port
	// Detail is Envoy's response code detail of a failure, empty without one.
	Detail string
	// Start is from the exchange's, Connect how long the attempt waited for its
	// connection (0 on one that was there), FirstByte as in Outcome.
	Start, Connect, FirstByte, Duration time.Duration
	Failure                             Failure
	Status                              uint16 // 0 without an answer
	GRPC                                uint8  // gRPC status plus one, 0 without
}

// Tried notes an attempt.
func (x *Exchange) Tried(t Try) {
	if len(x.Tries) == MaxTries {
		x.Tries[MaxTries-1] = t
		return
	}
	x.Tries = append(x.Tries, t)
}

// Decision is what local policy said of an exchange.
type Decision struct {
	Verdict      string // vocab.Verdict..., empty if nobody was asked
	Policy, Rule string // empty if none had anything against it
	Duration     time.Duration
}
