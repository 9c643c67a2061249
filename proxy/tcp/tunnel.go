package tcp

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// TunnelTimeout is how long another sidecar may take to decide and to connect to
// its application. Its policy may ask the hub, so it is longer than a connection
// takes.
const TunnelTimeout = 10 * time.Second

// ErrNotATunnel is wrapped by an error of Options.Tunnel that says that the other
// end does not speak the mesh's protocol.
var ErrNotATunnel = errors.New("no sidecar's answer")

// tunnels reports whether the target is a sidecar of the mesh.
func (l *leg) tunnels(t exchange.Target) bool {
	return l.server.o.Tunnel != nil && t.Endpoint != nil
}

// tunnel asks the other sidecar for a way to its application. Where it does not
// stand, again reports whether the handler may name another endpoint: no
// application has seen a byte. A 503 of the other sidecar is an answer, as it is
// for a request: the service's retry policy says whether it is tried again.
func (l *leg) tunnel(ctx context.Context, upstream *netio.Conn) (o exchange.Outcome, again, stands bool) {
	asked := netio.Now()
	limited, cancel := context.WithTimeout(ctx, TunnelTimeout)
	defer cancel()
	status, err := l.server.o.Tunnel(limited, upstream, l.x)
	if err != nil {
		o = l.noAnswer(ctx, err)
		return o, o.Failure != exchange.Local, false
	}
	l.x.Record.Code = uint32(status)
	o = exchange.Outcome{Status: status, FirstByte: time.Duration(netio.Now() - asked)}
	switch {
	case status >= 200 && status < 300:
		l.respond()
		return o, false, true
	case Refused(status, l.x.Response):
		l.x.Record.Detail = detailRefused
		l.respond()
		ResetOnClose(l.downstream)
		return o, false, false
	}
	// It has no application, or one that does not take connections.
	l.x.Fail(vocab.FlagUpstreamConnect, detailNoApplication)
	o.Unsent = true
	return o, true, false
}

// Refused reports whether it was another sidecar's policy that answered a request
// for a tunnel. A policy chooses its status itself, so what counts is the verdict; a
// shadow's comes with any status.
func Refused(status int, answer exchange.Header) bool {
	verdict, _, _ := strings.Cut(answer.Get(vocab.HeaderVerdict), ";")
	return verdict == vocab.VerdictDenied || verdict == vocab.VerdictThrottled ||
		status == statusForbidden || status == statusThrottled
}

// Statuses of a policy's refusal that came without its verdict.
const (
	statusForbidden = 403
	statusThrottled = 429
)

// noAnswer names why the other sidecar said nothing of use.
func (l *leg) noAnswer(ctx context.Context, err error) exchange.Outcome {
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		l.x.Fail("", detailStopped)
		return exchange.Outcome{Failure: exchange.Local}
	case errors.Is(err, ErrNotATunnel):
		l.x.Fail(vocab.FlagUpstreamProtocol, detailNotATunnel)
		return exchange.Outcome{Failure: exchange.ProtocolFailure, Unsent: true}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		l.x.Fail(vocab.FlagUpstreamConnect, detailNoAnswer)
		return exchange.Outcome{Failure: exchange.Timeout, Unsent: true}
	}
	l.x.Fail(vocab.FlagUpstreamTermination, detailBrokenOff)
	return exchange.Outcome{Failure: exchange.Reset, Unsent: true}
}

// Details of tunnels that did not come about.
const (
	detailRefused       = "via_upstream" // as for a request that another sidecar refused
	detailNoApplication = "upstream_reset_before_response_started{connection_failure}"
	detailNoAnswer      = "upstream_reset_before_response_started{connection_timeout}"
	detailBrokenOff     = "upstream_reset_before_response_started{connection_termination}"
	detailNotATunnel    = "upstream_reset_before_response_started{protocol_error}"
)

// respond shows the handler what another sidecar answered, if one did.
func (l *leg) respond() {
	if l.x.Response != nil {
		l.server.o.Handler.Respond(l.x)
	}
}
