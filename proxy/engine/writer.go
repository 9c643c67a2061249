package engine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
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
	handler  Handler
	upstream *http.Response // nil until there is one
	// The transport's goroutines write these, possibly after the exchange ended.
	firstByte           atomic.Int64
	attempts            atomic.Uint32
	tunnelIn, tunnelOut atomic.Uint64 // through an upgraded connection
	wrote               bool
	hijacked            bool
	left                bool // the downstream took no more
}

// Unwrap lets http.ResponseController reach Flush and Hijack.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack hands an upgraded connection out that counts its bytes.
func (w *countingWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.wrote, w.hijacked = true, true
	counted := &hijackedConn{Conn: c, early: rw.Reader, w: w}
	return counted, bufio.NewReadWriter(rw.Reader, bufio.NewWriter(counted)), nil
}

// hijackedConn counts on behalf of its writer, and begins with what the server
// had read already: a downstream need not wait for the answer to its upgrade.
type hijackedConn struct {
	net.Conn
	early *bufio.Reader
	w     *countingWriter
}

func (c *hijackedConn) Read(p []byte) (int, error) {
	var source io.Reader = c.Conn
	if n := c.early.Buffered(); n > 0 {
		source = io.LimitReader(c.early, int64(n))
	}
	n, err := source.Read(p)
	c.w.tunnelIn.Add(uint64(n))
	return n, err
}

func (c *hijackedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.w.tunnelOut.Add(uint64(n))
	return n, err
}

// CloseWrite passes a half-close on.
func (c *hijackedConn) CloseWrite() error {
	closeWrite(c.Conn)
	return nil
}

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
		status := grpcStatus(r.Status)
		w.x.Record.GRPCStatus = uint32(status) + 1
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", strconv.Itoa(status))
		h.Set("Grpc-Message", grpcMessage(strings.TrimSpace(r.Body)))
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
	rec.BytesIn += body.n.Load() + w.tunnelIn.Load()
	rec.BytesOut += w.tunnelOut.Load()
	if w.wrote && !w.hijacked {
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

// grpcStatus maps an HTTP status of the sidecar's own as gRPC's
// http-grpc-status-mapping does, but for 429, which callers of a limited
// service read as RESOURCE_EXHAUSTED.
func grpcStatus(http int) int {
	switch http {
	case 400:
		return 13
	case 401:
		return 16
	case 403:
		return 7
	case 404:
		return 12
	case 429:
		return 8
	case 502, 503, 504:
		return 14
	}
	return 2
}

// grpcMessage percent-encodes what a gRPC status message may not hold as it is
// (gRPC over HTTP/2, "Status-Message").
func grpcMessage(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
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
