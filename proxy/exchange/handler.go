package exchange

import (
	"context"
	"crypto/tls"
	"sync/atomic"
	"time"
)

// Handler decides on requests and observes them. Each exchange sees Begin, then
// Retry for each attempt that failed before anything of an answer reached the
// downstream, then Respond when there is an answer, then End exactly once. The
// calls for one exchange never overlap; those for different exchanges do.
type Handler interface {
	// Begin decides: either a target to forward to or a reply to give.
	Begin(ctx context.Context, x *Exchange) (Target, *Reply)
	// Waits reports whether Begin may wait for the hub. An engine that serves
	// many streams from one goroutine must then not call it from there.
	Waits() bool
	// Retry returns the target of another attempt, or false to give up. The
	// engine asks only if it can send the whole request again.
	Retry(x *Exchange, failed Outcome) (Target, bool)
	// Respond sees the answer's head (the upstream's or the sidecar's own)
	// before it goes downstream.
	Respond(x *Exchange)
	// End sees the finished exchange. Views into buffers end with it: whoever
	// keeps a text of the exchange longer copies it.
	End(x *Exchange)
}

// Target is where a request goes next.
type Target struct {
	Address string // host:port
	// Endpoint is told how the attempt went, exactly once; nil outside the mesh.
	Endpoint Endpoint
	// TLS originates TLS to the upstream; nil for plain text.
	TLS *tls.Config
	// Protocol to speak with the upstream, if not the downstream's.
	Protocol Protocol
	// Timeouts of the attempt.
	Timeouts Timeouts
	// Backoff is how long to wait before the attempt, if Retry chose it. The
	// request's own time goes on meanwhile.
	Backoff time.Duration
	// Limits of the service, shared by all its endpoints; nil means none.
	Limits *Limits
}

// Endpoint is one upstream host among several.
type Endpoint interface {
	Done(o Outcome)
}

// Protocol of a connection.
type Protocol uint8

// The protocols that an engine speaks. Same means the downstream's.
const (
	Same Protocol = iota
	HTTP1
	HTTP2
	TCP
)

// Timeouts of one request; zero means none.
type Timeouts struct {
	Connect time.Duration
	// Request is from Begin to the end of the answer, over all attempts.
	Request time.Duration
	// PerTry is from the beginning of an attempt to the head of its answer.
	PerTry time.Duration
	// Idle is between two bytes in either direction.
	Idle time.Duration
}

// Failure says how an attempt ended without an answer's end.
type Failure uint8

// How an attempt can fail.
const (
	Success        Failure = iota // the answer came to its end
	ConnectFailure                // no connection, so nothing was sent
	Refused                       // HTTP/2 REFUSED_STREAM or a GOAWAY that left the stream out: nothing was processed
	Reset                         // closed or reset before or in the answer
	Timeout
	ProtocolFailure // the upstream's bytes were not of its protocol
	Local           // the downstream left or the sidecar ended it: says nothing of the upstream
)

// Outcome is how an attempt went.
type Outcome struct {
	Failure Failure
	// Unsent: the attempt ended before any byte of the request was written.
	Unsent bool
	// Status of the answer, 0 without one. GRPC is the gRPC status plus one,
	// 0 if there was none.
	Status int
	GRPC   uint32
	// FirstByte is the time from the attempt's beginning to the answer's first
	// byte, 0 without one.
	FirstByte time.Duration
	// Duration is from the attempt's beginning to its end.
	Duration time.Duration
}

// Gauges are how full an engine is. Its protocols share one; exchanges and idle
// connections of HTTP/1 are not in it: its server counts them when it is asked.
type Gauges struct {
	InFlight atomic.Int64 // exchanges
	PoolOpen atomic.Int64 // upstream connections
	PoolIdle atomic.Int64 // those of them that are kept for later
	Pending  atomic.Int64 // exchanges that wait for an upstream connection
}
