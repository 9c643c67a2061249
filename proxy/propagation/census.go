package propagation

import (
	"encoding/base64"
	"strings"

	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// OpenCensus' binary trace context, as gRPC carries it in grpc-trace-bin
// (census-instrumentation/opencensus-specs, encodings/BinaryEncoding.md):
// version 0, then fields in order, each its number and its bytes.
//
//	00  00 trace[16]  01 span[8]  02 options[1]
//
// gRPC writes it in base64, with or without padding.
const (
	censusBytes = 1 + 1 + 16 + 1 + 8 + 1 + 1
	// censusWithout is its length without options.
	censusWithout = censusBytes - 2
)

func parseCensus(v string) carried {
	c := carried{present: true}
	v, _, _ = strings.Cut(v, ",") // of several, the first
	v = strings.TrimRight(v, "=")
	// Later versions of the format may have more fields; they come behind.
	const most = 64
	var b [most]byte
	if base64.RawStdEncoding.DecodedLen(len(v)) > most {
		return c
	}
	n, err := decodeBase64(b[:], v)
	if err != nil || n < censusWithout || b[0] != 0 || b[1] != 0 || b[18] != 1 {
		return c
	}
	trace, span := ids.TraceID(b[2:18]), ids.SpanID(b[19:27])
	if trace.IsZero() || span == (ids.SpanID{}) {
		return c
	}
	c.valid, c.trace, c.span = true, trace, span
	if n >= censusBytes && b[27] == 2 {
		c.decided, c.sampled = true, b[28]&1 != 0
	}
	return c
}

// decodeBase64 copies the text to where it cannot escape: Decode takes bytes.
func decodeBase64(dst []byte, s string) (int, error) {
	var in [90]byte
	return base64.RawStdEncoding.Decode(dst, in[:copy(in[:], s)])
}

func appendCensus(dst []byte, x *exchange.Exchange) []byte {
	var b [censusBytes]byte
	copy(b[2:], x.Record.TraceID[:])
	b[18] = 1
	copy(b[19:], x.Record.SpanID[:])
	b[27] = 2
	if x.Record.Sampled {
		b[28] = 1
	}
	return base64.RawStdEncoding.AppendEncode(dst, b[:])
}
