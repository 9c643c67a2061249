package cluster

import (
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// Condition is a set of ways in which an attempt can fail, Envoy's retry_on.
type Condition uint16

// The conditions. Cancelled, DeadlineExceeded, Internal, ResourceExhausted and
// Unavailable are gRPC statuses.
const (
	ConnectFailure Condition = 1 << iota
	RefusedStream
	ResetBeforeRequest // reset before any byte of the request was written
	Reset              // also timeouts and what the upstream said wrong
	GatewayError       // 502, 503, 504
	ServerError        // any 5xx, and all of Reset, ConnectFailure and RefusedStream
	Retriable4xx       // 409
	Cancelled
	DeadlineExceeded
	Internal
	ResourceExhausted
	Unavailable
)

// Retry says what is tried again.
type Retry struct {
	Attempts int // after the first; 0 means none
	On       Condition
	// PerTry is the time an attempt has until the head of its answer; 0 means
	// as long as the request.
	PerTry time.Duration
}

// istioRetry is Istio's default.
var istioRetry = Retry{
	Attempts: 2,
	On:       ConnectFailure | RefusedStream | Unavailable | Cancelled | ResetBeforeRequest,
}

// AllowRetry decides whether what failed is tried again. attempt counts from 1.
// Yes takes a place that only Done of the next Pick gives back, so it must be
// followed by a Pick with Key.Attempt set to attempt; if that Pick returns an
// error the caller calls AbandonRetry.
func (c *Cluster) AllowRetry(o exchange.Outcome, attempt int) bool {
	policy := c.settings.retry()
	if attempt > policy.Attempts || conditions(o)&policy.On == 0 {
		return false
	}
	if !c.retries.Enter() {
		return false
	}
	if !c.budget.retry(c.clock()) {
		c.retries.Leave()
		return false
	}
	return true
}

// AbandonRetry gives back what AllowRetry took when no attempt follows.
func (c *Cluster) AbandonRetry() { c.retries.Leave() }

// Retry lends an endpoint to another attempt after the attempt at e, which k had
// picked, failed with o. It reports false to give up. Done of e is still to be
// called, before or after.
func (e *Endpoint) Retry(o exchange.Outcome, k Key) (*Endpoint, bool) {
	k.Attempt, k.Tried = k.Attempt+1, e
	if !e.cluster.AllowRetry(o, k.Attempt) {
		return nil, false
	}
	next, err := e.cluster.Pick(k)
	if err != nil {
		e.cluster.AbandonRetry()
		return nil, false
	}
	return next, true
}

// conditions are all that hold for an outcome.
func conditions(o exchange.Outcome) Condition {
	var on Condition
	switch o.Failure {
	case exchange.ConnectFailure:
		on = ConnectFailure | ResetBeforeRequest | ServerError
	case exchange.Refused:
		on = RefusedStream | ServerError
	case exchange.Reset, exchange.Timeout, exchange.ProtocolFailure:
		on = Reset | ServerError
		if o.Unsent {
			on |= ResetBeforeRequest
		}
	case exchange.Success:
		on = statusConditions(o.Status) | grpcConditions(o.GRPC)
	}
	return on
}

func statusConditions(status int) Condition {
	switch {
	case status == 409:
		return Retriable4xx
	case status >= 502 && status <= 504:
		return GatewayError | ServerError
	case status >= 500:
		return ServerError
	}
	return 0
}

// grpcConditions takes the gRPC status plus one.
func grpcConditions(status uint32) Condition {
	switch status {
	case 1 + 1:
		return Cancelled
	case 4 + 1:
		return DeadlineExceeded
	case 8 + 1:
		return ResourceExhausted
	case 13 + 1:
		return Internal
	case 14 + 1:
		return Unavailable
	}
	return 0
}

// backoffBase and backoffMost are Envoy's defaults.
const (
	backoffBase = 25 * time.Millisecond
	backoffMost = 10 * backoffBase
)

// Backoff is how long to wait before the retry that follows attempt, counted
// from 1: a random share of base·(2^attempt-1), at most 250 ms.
func (c *Cluster) Backoff(attempt int) time.Duration {
	most := backoffMost
	if attempt < 4 {
		most = min(most, backoffBase*(1<<max(attempt, 1)-1))
	}
	return time.Duration(c.below(int(most)))
}
