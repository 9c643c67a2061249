package exchange

import "context"

// Stream is one request to an upstream and its answer, in the same words
// whatever the upstream speaks: what an engine uses that speaks something else
// with its downstream. One goroutine may write while another reads. A failure of
// the upstream is a *StreamError.
type Stream interface {
	// Write sends a part of the body, waiting while the upstream takes no more.
	// It keeps nothing of p.
	Write(p []byte) (int, error)
	// End ends the request, with trailers if the upstream's protocol and the
	// request's framing have room for them.
	End(trailers []Field) error
	// Head waits for the answer's head, or an interim one (status below 200)
	// that comes before it. The fields begin with :status; names are in lower
	// case and none is of the hop only.
	Head() ([]Field, int, error)
	// Ended reports, after the answer's head, that nothing of it follows.
	Ended() bool
	// Read reads the body; io.EOF follows a whole one.
	Read(p []byte) (int, error)
	// Trailers are the answer's, once Read has returned io.EOF.
	Trailers() []Field
	// Close ends the stream and every wait on it, and lets the upstream know
	// unless both request and answer are complete. It may come from any
	// goroutine, and twice.
	Close()
}

// Opener opens a stream for a request whose head is fields, pseudo-headers first
// and names in lower case; with end it has no body. It waits for a connection
// until ctx ends. The caller closes the stream.
type Opener func(ctx context.Context, t Target, fields []Field, end bool) (Stream, error)

// StreamError is why a stream ended before its answer did. Failure is as in
// Outcome.
type StreamError struct {
	Failure Failure
	Cause   string // Envoy's name for it, as in a record's detail
}

func (e *StreamError) Error() string { return e.Cause }

// Causes that more than one package tells apart.
const (
	CauseOverflow    = "overflow"
	CauseTermination = "connection_termination"
)
