package http1

import (
	"errors"
	"net"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// attempt is one try to have a request answered.
type attempt struct {
	target exchange.Target
	course
}

// course is how an attempt goes: what begins anew with each.
type course struct {
	up     *upstream
	reused bool
	began  int64
	// connect is how long it waited for its connection, in nanoseconds.
	connect int64
	ask     []byte // the whole request, if it is short, until it is sent
	// sent: bytes of a body that cannot be sent again have left.
	sent bool

	outcome  exchange.Outcome
	overflow bool // there was no place for it
	looked   bool // the sweep looked at the upstream, and ended the wait to do so
	heard    bool // a byte of an answer came
	final    bool // the answer's head went downstream
	again    bool // the downstream connection can carry another request
	keep     bool // the upstream connection can
	detail   string
	next     *exchange.Target // where an answer that was given up is asked for again
	remote   bool             // an HTTP/2 upstream reset the stream, not the connection
}

// begin forgets the attempt before, but for its target.
func (a *attempt) begin(now int64) {
	a.course = course{} // and then the field: a literal would be copied
	a.began = now
}

func (a *attempt) connectFailed(err error) {
	a.outcome.Unsent = true
	if errors.Is(err, errOverflow) {
		a.outcome.Failure, a.overflow = exchange.Local, true
		return
	}
	a.outcome.Failure = exchange.ConnectFailure
	a.detail = "upstream_reset_before_response_started{connection_failure}"
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		a.detail = "upstream_reset_before_response_started{connection_timeout}"
	}
}

// streamFailed says why there is no answer from an upstream that speaks HTTP/2.
func (a *attempt) streamFailed(err *exchange.StreamError, stage string) {
	a.outcome.Failure, a.detail = err.Failure, stage+"{"+err.Cause+"}"
	switch err.Failure {
	case exchange.ConnectFailure:
		a.outcome.Unsent = true
		if err.Cause == exchange.CauseOverflow {
			a.outcome.Failure, a.overflow = exchange.Local, true
		}
	case exchange.Timeout:
		a.detail = err.Cause
	case exchange.Refused, exchange.Reset:
		a.remote = err.Cause != exchange.CauseTermination
	}
}
