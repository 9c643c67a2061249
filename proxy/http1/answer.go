package http1

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// framing is how an answer's end is found (RFC 9112, section 6.3).
type framing uint8

const (
	noBody framing = iota
	byLength
	byChunks
	byClose
)

func (c *conn) framing() framing {
	m := &c.response
	switch {
	case c.x.Record.Method == "HEAD", m.status == 204, m.status == 304:
		return noBody
	case m.chunked:
		return byChunks
	case m.length == 0:
		return noBody
	case m.length > 0:
		return byLength
	}
	return byClose
}

// relayInterim passes a 1xx answer on; HTTP/1.0 knows none.
func (c *conn) relayInterim() error {
	if c.request.minor == 0 {
		return nil
	}
	c.response.Del("content-length")
	c.response.Del("transfer-encoding")
	c.out = c.response.appendStatus(c.out[:0])
	c.out = append(c.response.appendFields(c.out), "\r\n"...)
	_, err := c.c.Write(c.out)
	return err
}

// relay sends the answer down.
func (c *conn) relay(a *attempt) {
	m, in := &c.response, &a.up.in
	how := c.framing()
	c.x.Record.Code = uint32(m.status)
	a.outcome.Status = m.status
	// What follows overwrites the head in its buffer; the handler may read it
	// until the exchange ends.
	c.keepHead(m)
	c.headInTime(a)
	c.prepare(how)
	dechunk := how == byChunks && c.request.minor == 0
	a.again = c.persists(how)
	c.out = c.answerBegin(how, a.again)

	left := m.length
	if how == byChunks {
		c.answer = chunks{pending: c.answer.pending[:0]}
		if c.x.Record.Protocol == "grpc" {
			c.answer.onTrailer = c.trailer
		}
		if dechunk {
			c.answer.onData = func(p []byte) { c.out = append(c.out, p...) }
		}
	}
	n, done, err := c.next(how, in.Bytes()[m.size:], &left)
	a.final, c.wrote = true, true
	first := in.Bytes()[m.size : m.size+n]
	if dechunk {
		first = nil
	} else if len(first) <= copyBelow {
		c.out, first = append(c.out, first...), nil
	}
	if !c.write(a, first) {
		return
	}
	in.Skip(m.size + n)
	for !done && err == nil {
		if done, err = c.relayMore(a, how, &left, dechunk); c.x.Record.Flags == vocab.FlagDownstreamTermination {
			return
		}
	}
	if err != nil {
		a.again = false
		c.broken(a, err)
		return
	}
	a.keep = how != byClose && in.Len() == 0 && m.persistent()
	a.up.doubtful = how == noBody
}

// keepHead gives an answer's head memory of its own.
func (c *conn) keepHead(m *message) {
	c.kept = append(c.kept[:0], m.raw[:m.size]...)
	m.raw = c.kept
}

// relayMore passes on what comes next.
func (c *conn) relayMore(a *attempt, how framing, left *int64, dechunk bool) (done bool, err error) {
	in := &a.up.in
	if err := c.fill(a); err != nil {
		if how == byClose && errors.Is(err, io.EOF) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return false, err
	}
	c.out = c.out[:0]
	n, done, err := c.next(how, in.Bytes(), left)
	body := in.Bytes()[:n]
	if dechunk {
		body = nil
	}
	c.timer.touch()
	if !c.write(a, body) {
		return false, nil
	}
	in.Skip(n)
	return done, err
}

// next returns how much of b belongs to the answer's body.
func (c *conn) next(how framing, b []byte, left *int64) (n int, done bool, err error) {
	switch how {
	case noBody:
		return 0, true, nil
	case byLength:
		n = int(min(int64(len(b)), *left))
		*left -= int64(n)
		return n, *left == 0, nil
	case byChunks:
		return c.answer.next(b)
	}
	return len(b), false, nil
}

// write sends what is in c.out, then more.
func (c *conn) write(a *attempt, more []byte) bool {
	n, err := c.c.Write2(c.out, more)
	c.x.Record.BytesOut += uint64(n)
	if err != nil {
		if c.timer.firedAs(streaming) {
			a.outcome.Failure, a.again = exchange.Local, false
			c.x.Fail(vocab.FlagStreamIdle, "stream_idle_timeout")
			return false
		}
		c.left(a)
		return false
	}
	return true
}

// prepare shows the handler the head and takes off what has no place in it.
func (c *conn) prepare(how framing) {
	m := &c.response
	if m.status == 204 || m.chunked && (m.status == 304 || c.request.minor == 0) {
		m.Del("transfer-encoding")
	}
	if m.status == 204 {
		m.Del("content-length")
	}
	if how == byChunks && c.request.minor == 0 {
		m.Del("trailer")
	}
	if c.x.Record.Protocol == "grpc" {
		c.readGRPC(m.Get("grpc-status"))
	}
	c.x.Response = m
	c.s.o.Handler.Respond(&c.x)
}

func (c *conn) trailer(name, value []byte) {
	if is(name, "grpc-status") {
		c.readGRPC(view(value))
	}
}

func (c *conn) readGRPC(status string) {
	if n, err := strconv.ParseUint(status, 10, 8); err == nil {
		c.x.Record.GRPCStatus = uint32(n) + 1
	}
}

// persists reports whether the downstream can find the answer's end without the
// connection's, and wants to go on.
func (c *conn) persists(how framing) bool {
	if how == byClose || how == byChunks && c.request.minor == 0 || !c.request.persistent() || c.s.draining.Load() {
		return false
	}
	if c.body.done == nil {
		return c.body.whole
	}
	// A body that was to wait for 100 and never began: nobody can say whether
	// what comes next is it or a request. Whether one that began is whole shows
	// when the sender ends.
	return !c.request.expect || c.body.started.Load()
}

// answerBegin writes the answer's head.
func (c *conn) answerBegin(how framing, again bool) []byte {
	out := c.response.appendStatus(c.out[:0])
	out = c.response.appendFields(out)
	switch {
	case !again:
		out = append(out, "connection: close\r\n"...)
	case c.request.minor == 0:
		out = append(out, "connection: keep-alive\r\n"...)
	}
	return append(out, "\r\n"...)
}

// reply gives the sidecar's own answer, to a gRPC caller in gRPC's form. It
// reports whether the connection can go on.
func (c *conn) reply(r *exchange.Reply) (again bool) {
	m := &c.response
	m.clear()
	c.x.Response = m
	for _, f := range r.Headers {
		m.Set(f.Name, f.Value)
	}
	status, body := r.Status, r.Body
	if c.x.Record.Protocol == "grpc" {
		code := exchange.GRPCStatus(c.x.Record.Flags, r.Status)
		c.x.Record.GRPCStatus = uint32(code) + 1
		m.Set("content-type", "application/grpc")
		m.Set("grpc-status", strconv.Itoa(code))
		m.Set("grpc-message", exchange.GRPCMessage(strings.TrimSpace(r.Body)))
		status, body = 200, ""
	} else if r.ContentType != "" {
		m.Set("content-type", r.ContentType)
	}
	c.x.Record.Code = uint32(status)
	c.s.o.Handler.Respond(&c.x)
	c.timer.set(streaming, netio.Now()) // the downstream may not read
	defer c.timer.clear()
	again = c.request.persistent() && c.body.whole && !c.s.draining.Load()
	out := appendStatusLine(c.out[:0], status)
	out = m.appendFields(out)
	switch {
	case !again:
		out = append(out, "connection: close\r\n"...)
	case c.request.minor == 0:
		out = append(out, "connection: keep-alive\r\n"...)
	}
	if c.x.Record.Method == "HEAD" {
		out = append(out, "content-length: "...)
		out = strconv.AppendInt(out, int64(len(body)), 10)
		out = append(out, "\r\n\r\n"...)
	} else {
		out = appendBody(out, body)
	}
	c.out = out
	n, err := c.c.Write(out)
	c.x.Record.BytesOut += uint64(n)
	c.wrote = err == nil
	if err != nil && c.x.Record.Flags == "" {
		c.x.Fail(vocab.FlagDownstreamTermination, "downstream_remote_disconnect")
	}
	return again && err == nil
}

func appendStatusLine(dst []byte, status int) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, reasonPhrase(status)...)
	dst = append(dst, "\r\ndate: "...)
	dst = time.Now().UTC().AppendFormat(dst, "Mon, 02 Jan 2006 15:04:05 GMT")
	return append(dst, "\r\n"...)
}

// appendBody ends the head with the body's length and adds the body.
func appendBody(dst []byte, body string) []byte {
	dst = append(dst, "content-length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, body...)
}

// reasons of the statuses that a sidecar answers with itself, and of the usual
// ones of HTTP/2 upstreams, which send none.
var reasons = map[int]string{
	100: "Continue", 103: "Early Hints",
	200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content",
	301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified", 307: "Temporary Redirect", 308: "Permanent Redirect",
	400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
	409: "Conflict", 410: "Gone", 412: "Precondition Failed", 413: "Content Too Large", 415: "Unsupported Media Type",
	416: "Range Not Satisfiable", 417: "Expectation Failed", 422: "Unprocessable Content", 429: "Too Many Requests",
	431: "Request Header Fields Too Large",
	500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
	504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}

func reasonPhrase(status int) string {
	if s := reasons[status]; s != "" {
		return s
	}
	return "Status"
}

func isGRPC(contentType string) bool {
	const grpc = "application/grpc"
	return len(contentType) >= len(grpc) && is([]byte(contentType[:len(grpc)]), grpc)
}
