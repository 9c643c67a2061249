package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// maxAnswer bounds the body of another service's answer.
const maxAnswer = 1 << 20

// forwardedHeaders are what a service passes on from the request it serves to
// the calls it makes for it. Tracing works only if applications do this.
//
// Source: istio/istio samples/bookinfo/src/productpage/productpage.py,
// getForwardHeaders, and the B3 set that its tracer adds; uber-trace-id is
// what services with an old Jaeger client send.
func forwardedHeaders() []string {
	return []string{
		"x-request-id", "x-ot-span-context",
		"x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-sampling-priority",
		"traceparent", "tracestate", "x-cloud-trace-context", "grpc-trace-bin", "sw8",
		"b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags",
		"uber-trace-id",
		"end-user", "user-agent", "cookie", "authorization", "jwt",
	}
}

func forwardHeaders(dst, src http.Header) {
	for _, name := range forwardedHeaders() {
		key := http.CanonicalHeaderKey(name)
		if values := src[key]; len(values) > 0 {
			dst[key] = append([]string(nil), values...)
		}
	}
}

// newTransport keeps connections alive; proxy is http.ProxyFromEnvironment in
// production, so that HTTP_PROXY names the sidecar.
func newTransport(proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	return &http.Transport{
		Proxy:               proxy,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:        256,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}
}

// newHTTP2Transport makes every call over HTTP/2 without TLS to one proxy, which
// finds the service by the request's authority.
func newHTTP2Transport(proxy string) *http.Transport {
	t := newTransport(nil)
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) { return dial(ctx, network, proxy) }
	t.Protocols = new(http.Protocols)
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// caller makes and counts the calls to other services. Safe for concurrent use.
type caller struct {
	client  *http.Client
	details *grpc.ClientConn // nil: details is called over HTTP
	counts  *counts
}

// answer is what another service said.
type answer struct {
	status int
	body   []byte
}

// get asks service, one of Config.calls, for path at host on behalf of in. Any
// whole answer is returned without error, whatever its status. It counts the
// call before it returns.
//
// A call is counted once, though net/http sends a GET again when a kept-alive
// connection turns out to have been closed before it carried anything.
func (c *caller) get(in *http.Request, service, host, path string) (answer, error) {
	var wrote atomic.Bool
	trace := &httptrace.ClientTrace{
		WroteHeaders: func() { wrote.Store(true) },
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err != nil {
				wrote.Store(false)
			}
		},
	}
	ans, answered, err := c.roundTrip(httptrace.WithClientTrace(in.Context(), trace), in, "http://"+host+path)
	n := c.counts.sent[service]
	if !answered && !wrote.Load() {
		n.unsent.Add(1)
		return answer{}, fmt.Errorf("call %s: %w", service, err)
	}
	n.requests.Add(1)
	if err != nil {
		n.failed.Add(1)
		return answer{}, fmt.Errorf("call %s: %w", service, err)
	}
	if ans.status >= http.StatusInternalServerError {
		n.failed.Add(1)
	}
	return ans, nil
}

// roundTrip reports answered once a response head has come, even if its body
// fails.
func (c *caller) roundTrip(ctx context.Context, in *http.Request, target string) (ans answer, answered bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return answer{}, false, err
	}
	forwardHeaders(req.Header, in.Header)
	resp, err := c.client.Do(req)
	if err != nil {
		return answer{}, false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, true, fmt.Errorf("read answer: %w", err)
	}
	return answer{status: resp.StatusCode, body: body}, true, nil
}

// into decodes a 200 answer.
func (a answer) into(v any) error {
	if a.status != http.StatusOK {
		return fmt.Errorf("status %d", a.status)
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeBody(w, status, "application/json", append(body, '\n'))
}

func writeError(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, map[string]string{"error": text})
}

// writeBody ignores write errors: the only cause is a caller that has left.
func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// healthHandler answers what Bookinfo's services answer on /health.
func healthHandler(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": text})
	}
}
