package engine

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/report"
)

// Texts of a record are bounded: they come from whoever calls.
const (
	maxPath      = 2048
	maxText      = 256
	headOverhead = 32 // rough size of a request or status line
)

// serve carries one request. Its order is the sidecar's order: read the head,
// let the handler decide, forward or answer, observe.
func (e *Engine) serve(w http.ResponseWriter, r *http.Request) {
	e.serving.Add(1)
	defer e.serving.Done()
	e.gauges.InFlight.Add(1)
	defer e.gauges.InFlight.Add(-1)

	x := e.newExchange(r)
	body := &countingBody{ReadCloser: r.Body}
	r.Body = body
	cw := &countingWriter{ResponseWriter: w, x: x, handler: e.o.Handler}
	defer func() {
		// ReverseProxy aborts a half-sent answer by panicking, which closes the
		// connection; the exchange is observed first.
		aborted := recover()
		cw.finish(r, body, aborted != nil)
		e.o.Handler.End(x)
		if aborted != nil {
			panic(aborted)
		}
	}()

	target, reply := e.o.Handler.Begin(r.Context(), x)
	if target.Endpoint != nil {
		defer func() { target.Endpoint.Done(cw.outcome()) }()
	}
	switch {
	case reply != nil:
		cw.reply(reply)
	case r.Method == http.MethodConnect:
		x.Fail(vocab.FlagDownstreamProtocol, "connect_not_supported")
		cw.reply(&exchange.Reply{Status: http.StatusNotImplemented, ContentType: "text/plain", Body: "CONNECT works over HTTP/1.1 only; open the tunnel with that.\n"})
	default:
		e.forward(cw, r, target)
	}
}

func (e *Engine) newExchange(r *http.Request) *exchange.Exchange {
	x := &exchange.Exchange{
		Direction: e.o.Direction, Request: r.Header, Scheme: "http", Downstream: r.RemoteAddr, Security: "none",
	}
	rec := &x.Record
	rec.Start = time.Now()
	rec.Protocol, rec.HTTPVersion = "http", r.Proto
	if isGRPC(r.Header) {
		rec.Protocol = "grpc"
	}
	rec.Method = report.BytesLimit(r.Method, maxText)
	rec.Host = report.BytesLimit(r.Host, maxText)
	rec.Path = report.BytesLimit(r.URL.RequestURI(), maxPath)
	if r.Method == http.MethodConnect {
		rec.Path, rec.Protocol = "", "tcp"
	}
	rec.UserAgent = report.BytesLimit(r.UserAgent(), maxText)
	rec.BytesIn = headBytes(r.Header) + uint64(len(r.RequestURI))
	rec.Verdict = vocab.VerdictOK
	return x
}

// forward relays the request to target and the answer to w.
func (e *Engine) forward(w *countingWriter, r *http.Request, target exchange.Target) {
	e.gauges.PoolActive.Add(1)
	defer e.gauges.PoolActive.Add(-1)
	rec := &w.x.Record
	rec.Upstream = target.Address
	transport := e.h2c
	trace := &httptrace.ClientTrace{
		// net/http tries again by itself when a kept connection turns out dead
		// before any byte of an answer.
		GotConn:              func(httptrace.GotConnInfo) { w.attempts.Add(1) },
		GotFirstResponseByte: func() { w.firstByte.Store(int64(time.Since(rec.Start))) },
	}
	relay := httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // a stream's pieces go on as they come
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", target.Address
			p.Out.URL.RawQuery = p.In.URL.RawQuery
			p.Out.URL.Opaque = rawPath(p.In)
			p.Out.Host = p.In.Host
			p.Out.Trailer = p.In.Trailer // filled in once the body has been read, so not the copy
			keepForwarded(p.In.Header, p.Out.Header)
		},
		ModifyResponse: func(resp *http.Response) error {
			rec.Code = uint32(resp.StatusCode)
			w.upstream = resp
			if resp.StatusCode == http.StatusSwitchingProtocols { // the relay writes this head past the writer
				w.respond(resp.Header)
			}
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { w.reply(upstreamFailure(w.x, r, err)) },
		ErrorLog:     e.server2.ErrorLog,
	}
	relay.ServeHTTP(w, r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}

// rawPath is the path as the caller wrote it. net/url would write it anew, and
// not always with the same bytes. Empty when the target is not in origin form, or
// begins like an authority; then net/url's form has to do.
func rawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		return ""
	}
	return path
}

// keepForwarded restores what ReverseProxy takes away because a public proxy
// should: inside the mesh these headers belong to the application.
func keepForwarded(in, out http.Header) {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := in[name]; ok {
			out[name] = v
		}
	}
}

// upstreamFailure names the failure with Envoy's flag and gives the answer.
func upstreamFailure(x *exchange.Exchange, r *http.Request, err error) *exchange.Reply {
	var dial *dialError
	var timeout net.Error
	status := http.StatusServiceUnavailable
	switch {
	case r.Context().Err() != nil && !errors.Is(err, context.DeadlineExceeded):
		x.Fail(vocab.FlagDownstreamTermination, "downstream_remote_disconnect")
		return &exchange.Reply{Status: 499}
	case errors.As(err, &dial):
		x.Fail(vocab.FlagUpstreamConnect, "upstream_reset_before_response_started{connection_failure}")
	case errors.As(err, &timeout) && timeout.Timeout():
		x.Fail(vocab.FlagUpstreamTimeout, "upstream_response_timeout")
		status = http.StatusGatewayTimeout
	case strings.Contains(err.Error(), "malformed"):
		x.Fail(vocab.FlagUpstreamProtocol, "upstream_reset_before_response_started{protocol_error}")
		status = http.StatusBadGateway
	default:
		x.Fail(vocab.FlagUpstreamTermination, "upstream_reset_before_response_started{connection_termination}")
	}
	return &exchange.Reply{Status: status, ContentType: "text/plain", Body: "upstream connect error or disconnect/reset before headers: " + x.Record.Detail + "\n"}
}
