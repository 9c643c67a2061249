// Package record is the thin record of one request and its columnar form on
// the wire and in the log: one block per column, each self-describing, so that
// an older reader skips what it does not know and a newer one fills what is
// missing with zero values.
//
//	block  = version(1) uvarint(rows) column*
//	column = uvarint(number) kind uvarint(length) body
//
// Column numbers are those of internal/vocab. The block is compressed with
// zstd at its fastest level where that pays.
package record

import "time"

// Record is one request as one sidecar saw it.
type Record struct {
	Start    time.Time
	Duration time.Duration
	// FirstByte is the time from Start to the first byte of the upstream's
	// answer, 0 if there was none.
	FirstByte time.Duration

	TraceID [16]byte
	// RequestID is empty when it is the UUID form of TraceID.
	RequestID    string
	SpanID       [8]byte
	ParentSpanID [8]byte // zero for a root

	// Edge is an index into the edges of the batch.
	Edge uint32

	Protocol    string // http, grpc, tcp
	HTTPVersion string
	Method      string
	Path        string
	Host        string
	Route       string
	Code        uint32 // 0 if no response was sent
	// GRPCStatus is the status plus one, 0 when the request was not gRPC.
	GRPCStatus uint32
	Flags      string // Envoy's response flags, comma-separated; empty if none
	Detail     string // Envoy's response code details
	BytesIn    uint64
	BytesOut   uint64
	Attempts   uint32
	Upstream   string // host:port
	Verdict    string // vocab.Verdict...
	Rule       string // namespace/policy/rule of a verdict other than ok
	UserAgent  string
	Sampled    bool
	Attributes map[string]string
}
