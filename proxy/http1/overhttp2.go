package http1

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// overHTTP2 is a connection to an upstream that speaks HTTP/2, for one request:
// what is written is HTTP/1 and goes out as a stream, what is read is the
// stream's answer as HTTP/1. So all that relays HTTP/1 works with such upstreams
// as with others.
//
// The first Write has the whole head of the request. A deadline that passes ends
// the stream.
type overHTTP2 struct {
	net.Conn   // none: the addresses below are all that is asked of it
	begin      func(fields []exchange.Field, end bool) (exchange.Stream, error)
	cancel     context.CancelFunc // of begin
	secure     bool
	opened     chan struct{}   // closed once stream or failed is set
	ended      <-chan struct{} // closed with the connection, or when a deadline passes
	headMethod bool            // the request is a HEAD

	// The writer's.
	begun    bool
	chunked  bool
	left     int64 // of a body with a length
	frames   chunks
	trailers []exchange.Field
	wrote    error // by frames' calls

	answer http2Answer // the reader's

	mu      sync.Mutex // guards the fields below
	stream  exchange.Stream
	failed  error // there will be no stream
	expired bool
	closed  bool
	timers  [2]*time.Timer // of reading and writing
}

// newOverHTTP2 returns a connection whose stream begins with its first Write.
// The end of ctx ends the wait for it.
func newOverHTTP2(ctx context.Context, open exchange.Opener, t exchange.Target) *overHTTP2 {
	ctx, cancel := context.WithCancel(ctx)
	t.Endpoint = nil // the attempt's
	return &overHTTP2{
		begin:  func(fields []exchange.Field, end bool) (exchange.Stream, error) { return open(ctx, t, fields, end) },
		cancel: cancel, secure: t.TLS != nil, opened: make(chan struct{}), ended: ctx.Done(),
	}
}

// Write implements net.Conn.
func (c *overHTTP2) Write(p []byte) (int, error) {
	body := p
	if len(p) == 0 {
		return 0, nil
	}
	if !c.begun {
		c.begun = true
		n, err := c.open(p)
		if err != nil {
			return 0, err
		}
		body = p[n:]
	}
	if err := c.writeBody(body); err != nil {
		return 0, c.reason(err)
	}
	return len(p), nil
}

// open begins the stream with the head in front of p and returns the head's size.
func (c *overHTTP2) open(p []byte) (int, error) {
	var m message
	m.raw = p
	err := m.parseRequest(p)
	var stream exchange.Stream
	if err == nil {
		c.headMethod = string(m.method.of(p)) == "HEAD"
		if c.chunked, c.left = m.chunked, max(m.length, 0); c.chunked {
			c.frames.onData = c.writeData
			c.frames.onTrailer = func(name, value []byte) {
				c.trailers = append(c.trailers, exchange.Field{Name: strings.ToLower(string(name)), Value: string(value)})
			}
		}
		stream, err = c.begin(m.http2Fields(c.secure), !c.chunked && c.left == 0)
	}
	c.mu.Lock()
	if err == nil && (c.closed || c.expired) {
		stream.Close()
		err = net.ErrClosed
	}
	if err != nil {
		c.failed = err
	} else {
		c.stream = stream
	}
	c.mu.Unlock()
	close(c.opened)
	if err != nil {
		return 0, c.reason(err)
	}
	return m.size, nil
}

// http2Fields are the request's head in HTTP/2's words (RFC 9113, section 8.3.1).
func (m *message) http2Fields(secure bool) []exchange.Field {
	scheme := "http"
	if secure {
		scheme = "https"
	}
	out := make([]exchange.Field, 0, len(m.fields)+4)
	out = append(out,
		exchange.Field{Name: ":method", Value: string(m.method.of(m.raw))}, exchange.Field{Name: ":scheme", Value: scheme},
		exchange.Field{Name: ":authority", Value: strings.Clone(m.authority())}, exchange.Field{Name: ":path", Value: strings.Clone(m.path())})
	for i := range m.fields {
		f := &m.fields[i]
		name := f.name.of(m.raw)
		if f.drop || is(name, "host") || is(name, "transfer-encoding") {
			continue
		}
		out = append(out, exchange.Field{Name: strings.ToLower(string(name)), Value: string(f.value.of(m.raw))})
	}
	return out
}

// writeBody sends body bytes as the head has framed them, and the end with the
// last.
func (c *overHTTP2) writeBody(p []byte) error {
	switch {
	case len(p) == 0:
		return nil
	case c.chunked:
		_, done, err := c.frames.next(p)
		if err == nil {
			err = c.wrote
		}
		if err == nil && done {
			err = c.stream.End(c.trailers)
		}
		return err
	}
	p = p[:min(int64(len(p)), c.left)]
	if _, err := c.stream.Write(p); err != nil {
		return err
	}
	if c.left -= int64(len(p)); c.left == 0 && len(p) > 0 {
		return c.stream.End(nil)
	}
	return nil
}

func (c *overHTTP2) writeData(p []byte) {
	if c.wrote == nil {
		_, c.wrote = c.stream.Write(p)
	}
}

// Read implements net.Conn.
func (c *overHTTP2) Read(p []byte) (int, error) {
	select {
	case <-c.opened:
	case <-c.ended:
		return 0, c.reason(net.ErrClosed)
	}
	c.mu.Lock()
	stream, err := c.stream, c.failed
	c.mu.Unlock()
	if err != nil {
		return 0, c.reason(err)
	}
	n, err := c.answer.read(stream, p, c.headMethod)
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.reason(err)
	}
	return n, err
}

// reason is why the stream ended: a deadline if one has passed.
func (c *overHTTP2) reason(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expired {
		return os.ErrDeadlineExceeded
	}
	return err
}

// SetDeadline implements net.Conn.
func (c *overHTTP2) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t) // neither fails
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *overHTTP2) SetReadDeadline(t time.Time) error { return c.setDeadline(0, t) }

// SetWriteDeadline implements net.Conn.
func (c *overHTTP2) SetWriteDeadline(t time.Time) error { return c.setDeadline(1, t) }

func (c *overHTTP2) setDeadline(which int, t time.Time) error {
	c.mu.Lock()
	if timer := c.timers[which]; timer != nil {
		timer.Stop()
		c.timers[which] = nil
	}
	wait := time.Until(t)
	if !t.IsZero() && wait > 0 && !c.closed {
		c.timers[which] = time.AfterFunc(wait, c.expire)
	}
	c.mu.Unlock()
	if !t.IsZero() && wait <= 0 {
		c.expire()
	}
	return nil
}

func (c *overHTTP2) expire() {
	c.mu.Lock()
	c.expired = true
	stream := c.stream
	c.mu.Unlock()
	c.cancel()
	if stream != nil {
		stream.Close()
	}
}

// Close implements net.Conn.
func (c *overHTTP2) Close() error {
	c.mu.Lock()
	c.closed = true
	for _, timer := range c.timers {
		if timer != nil {
			timer.Stop()
		}
	}
	stream := c.stream
	c.mu.Unlock()
	c.cancel()
	if stream != nil {
		stream.Close()
	}
	return nil
}
