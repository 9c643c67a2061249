package engine

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/http1"
)

// countingBody counts what the downstream sent. The transport may still read
// while the exchange ends.
type countingBody struct {
	io.ReadCloser
	n atomic.Uint64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(uint64(n))
	return n, err
}

// countingWriter shows the handler the answer's head before it is sent and
// counts what is sent.
type countingWriter struct {
	http.ResponseWriter
	x        *exchange.Exchange
	handler  exchange.Handler
	upstream *http.Response // nil until there is one
	// The transport's goroutines write these, possibly after the exchange ended.
	firstByte atomic.Int64
	attempts  atomic.Uint32
	wrote     bool
	left      bool // the downstream took no more
}

// Unwrap lets http.ResponseController reach Flush and Hijack.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// respond shows the handler the answer's head, once.
func (w *countingWriter) respond(h http.Header) {
	if w.x.Response == nil {
		w.x.Response = h
		w.handler.Respond(w.x)
	}
}

func (w *countingWriter) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		w.ResponseWriter.WriteHeader(status) // an interim answer is relayed and not the answer
		return
	}
	if w.wrote {
		return
	}
	w.wrote = true
	w.x.Record.Code = uint32(status)
	w.respond(w.Header())
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	w.x.Record.BytesOut += uint64(n)
	w.left = w.left || err != nil && !errors.Is(err, http.ErrBodyNotAllowed)
	return n, err
}

// reply gives the sidecar's own answer; to a gRPC caller in gRPC's form.
func (w *countingWriter) reply(r *exchange.Reply) {
	h := w.Header()
	for _, f := range r.Headers {
		h.Set(f.Name, f.Value)
	}
	if w.x.Record.Protocol == "grpc" {
		status := http1.GRPCStatus(r.Status)
		w.x.Record.GRPCStatus = uint32(status) + 1
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", strconv.Itoa(status))
		h.Set("Grpc-Message", http1.GRPCMessage(strings.TrimSpace(r.Body)))
		w.WriteHeader(http.StatusOK)
		return
	}
	if r.ContentType != "" {
		h.Set("Content-Type", r.ContentType)
	}
	h.Set("Content-Length", strconv.Itoa(len(r.Body)))
	w.WriteHeader(r.Status)
	_, _ = io.WriteString(w, r.Body) // the caller may be gone; the record says what was sent
}

// finish completes the record.
func (w *countingWriter) finish(r *http.Request, body *countingBody, aborted bool) {
	rec := &w.x.Record
	rec.Duration = time.Since(rec.Start)
	rec.FirstByte = time.Duration(w.firstByte.Load())
	rec.Attempts += w.attempts.Load()
	rec.BytesIn += body.n.Load()
	if w.wrote {
		rec.BytesOut += headBytes(w.Header())
	}
	switch {
	case rec.Flags != "":
	case r.Context().Err() != nil, w.left:
		w.x.Fail(vocab.FlagDownstreamTermination, "downstream_remote_disconnect")
	case aborted:
		w.x.Fail(vocab.FlagUpstreamTermination, "upstream_reset_after_response_started{connection_termination}")
	}
	if rec.Flags == vocab.FlagDownstreamTermination && (!w.wrote || rec.Code == 499) {
		rec.Code = 0 // Envoy's way: no response was sent
	}
	if rec.Protocol == "grpc" && rec.GRPCStatus == 0 {
		rec.GRPCStatus = readGRPCStatus(w.upstream)
	}
	if rec.Detail == "" {
		rec.Detail = "via_upstream"
	}
}

// readGRPCStatus reads the status from the trailers, which are there once the
// body has been read, or from the head of an answer without a body. It is 0 when
// the upstream gave none.
func readGRPCStatus(upstream *http.Response) uint32 {
	if upstream == nil {
		return 0
	}
	for _, h := range []http.Header{upstream.Trailer, upstream.Header} {
		if n, err := strconv.ParseUint(h.Get("Grpc-Status"), 10, 8); err == nil {
			return uint32(n) + 1
		}
	}
	return 0
}

func isGRPC(h http.Header) bool {
	return strings.HasPrefix(h.Get("Content-Type"), "application/grpc")
}

// outcome is how the attempt went, for its endpoint.
func (w *countingWriter) outcome() exchange.Outcome {
	o := exchange.Outcome{Status: int(w.x.Record.Code), Duration: time.Since(w.x.Record.Start), FirstByte: w.x.Record.FirstByte}
	switch w.x.Record.Flags {
	case "":
	case vocab.FlagUpstreamConnect:
		o.Failure = exchange.ConnectFailure
	case vocab.FlagDownstreamTermination:
		o.Failure = exchange.Local
	default:
		o.Failure = exchange.Reset
	}
	return o
}

func headBytes(h http.Header) uint64 {
	n := headOverhead
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + 4
		}
	}
	return uint64(n)
}
