package http2

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"golang.org/x/net/http2/hpack"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// errClosed is what the methods of a closed stream say.
var errClosed = errors.New("stream closed")

// ClientStream is a stream that a bridge opened on a pooled upstream connection.
// It implements exchange.Stream.
type ClientStream struct {
	server *Server

	mu       sync.Mutex // guards the fields below
	changed  sync.Cond
	up       half
	target   exchange.Target
	fields   []hpack.HeaderField
	headOnly bool
	turn     uint64
	waiting  bool
	attached bool
	heads    []fieldList // interim ones too, not yet read
	final    bool        // the last of heads, or one before, is the answer's
	body     []byte      // at most a stream window
	off      int
	trailers []exchange.Field
	end      bool
	err      error
}

var _ exchange.Stream = (*ClientStream)(nil)

// Open opens a stream, as an exchange.Opener does.
func (s *Server) Open(ctx context.Context, t exchange.Target, fields []exchange.Field, end bool) (*ClientStream, error) {
	cs := &ClientStream{server: s, target: t, headOnly: end, turn: 1}
	cs.changed.L = &cs.mu
	cs.up.sink, cs.up.watched = cs, true
	for _, f := range fields {
		cs.fields = append(cs.fields, hpack.HeaderField{Name: f.Name, Value: f.Value})
	}
	stop := context.AfterFunc(ctx, func() { cs.fail(&exchange.StreamError{Failure: exchange.Timeout, Cause: "upstream_response_timeout"}) })
	defer stop()
	var b batch
	cs.mu.Lock()
	cs.place(&b)
	cs.mu.Unlock()
	b.run()

	cs.mu.Lock()
	for cs.waiting && cs.err == nil {
		cs.changed.Wait()
	}
	err := cs.err
	cs.setWaiting(false)
	cs.mu.Unlock()
	if err != nil {
		cs.Close()
		return nil, err
	}
	return cs, nil
}

func (cs *ClientStream) place(b *batch) bool {
	switch cs.server.pool.open(b, cs.target, &cs.up, cs.fields, cs.headOnly, waiter{client: cs, turn: cs.turn}) {
	case placed:
		cs.attached = true
		return true
	case waits:
		cs.setWaiting(true)
	case overflow:
		cs.err = &exchange.StreamError{Failure: exchange.ConnectFailure, Cause: exchange.CauseOverflow}
	}
	return false
}

func (cs *ClientStream) setWaiting(waiting bool) {
	if cs.waiting == waiting {
		return
	}
	cs.waiting = waiting
	if waiting {
		cs.server.o.Gauges.Pending.Add(1)
	} else {
		cs.server.o.Gauges.Pending.Add(-1)
	}
}

// admitted implements opener.
func (cs *ClientStream) admitted(b *batch, turn uint64) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if !cs.waiting || cs.err != nil {
		return true
	}
	cs.setWaiting(false)
	defer cs.changed.Broadcast()
	return cs.place(b)
}

// unreachable implements opener.
func (cs *ClientStream) unreachable(_ *batch, _ uint64, _ error) {
	cs.fail(&exchange.StreamError{Failure: exchange.ConnectFailure, Cause: "connection_failure"})
}

// fail ends what waits, with the first error.
func (cs *ClientStream) fail(err error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.err == nil && !cs.end {
		cs.err = err
	}
	cs.changed.Broadcast()
}

// Write sends a part of the body, waiting while the upstream takes no more. It
// keeps nothing of p.
func (cs *ClientStream) Write(p []byte) (int, error) {
	sent := 0
	for len(p) > 0 {
		n := min(len(p), maxFrame)
		if err := cs.send(p[:n], false); err != nil {
			return sent, err
		}
		sent += n
		p = p[n:]
	}
	return sent, nil
}

// End ends the request, with trailers if there are any.
func (cs *ClientStream) End(trailers []exchange.Field) error {
	if len(trailers) == 0 {
		return cs.send(nil, true)
	}
	var b batch
	cs.mu.Lock()
	err := cs.err
	if err == nil {
		var fields []hpack.HeaderField
		for _, f := range trailers {
			fields = append(fields, hpack.HeaderField{Name: f.Name, Value: f.Value})
		}
		cs.up.c.sendTrailers(&b, &cs.up, fields)
	}
	cs.mu.Unlock()
	b.run()
	return err
}

func (cs *ClientStream) send(p []byte, end bool) error {
	var b batch
	cs.mu.Lock()
	for cs.err == nil && !end && cs.up.c.backlog(&cs.up) > 0 {
		cs.changed.Wait()
	}
	err := cs.err
	if err == nil {
		cs.up.c.sendData(&b, &cs.up, p, end)
	}
	cs.mu.Unlock()
	b.run()
	return err
}

// Head waits for the answer's head, or an interim one (status below 200) that
// comes before it. The fields begin with :status.
func (cs *ClientStream) Head() ([]exchange.Field, int, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for len(cs.heads) == 0 && cs.err == nil {
		cs.changed.Wait()
	}
	if len(cs.heads) == 0 {
		return nil, 0, cs.err
	}
	l := cs.heads[0]
	cs.heads = cs.heads[1:]
	return exported(l.fields), parseStatus(&l), nil
}

// Ended reports, after the answer's head, that nothing of it follows.
func (cs *ClientStream) Ended() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.end && cs.off == len(cs.body) && len(cs.trailers) == 0
}

// Read reads the body; io.EOF follows a whole one.
func (cs *ClientStream) Read(p []byte) (int, error) {
	var b batch
	cs.mu.Lock()
	for cs.off == len(cs.body) && !cs.end && cs.err == nil {
		cs.changed.Wait()
	}
	n := copy(p, cs.body[cs.off:])
	if cs.off += n; cs.off == len(cs.body) {
		cs.body, cs.off = cs.body[:0], 0
	}
	if n > 0 {
		b.credits = append(b.credits, creditDue{cs.up.c, cs.up.id, n})
	}
	err := cs.err
	if err == nil && cs.end {
		err = io.EOF
	}
	cs.mu.Unlock()
	b.run()
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, err
}

// Trailers are the answer's, once Read has returned io.EOF.
func (cs *ClientStream) Trailers() []exchange.Field {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.trailers
}

// Close resets the stream if it has not ended. It may be called twice.
func (cs *ClientStream) Close() {
	var b batch
	cs.mu.Lock()
	cs.setWaiting(false)
	if cs.attached {
		cs.up.c.reset(&b, &cs.up, errCancel)
		if unread := len(cs.body) - cs.off; unread > 0 {
			b.credits = append(b.credits, creditDue{cs.up.c, cs.up.id, unread})
		}
	}
	cs.body, cs.off = nil, 0
	if cs.err == nil {
		cs.err = errClosed
	}
	cs.changed.Broadcast()
	cs.mu.Unlock()
	b.run()
}

// onHeaders implements sink.
func (cs *ClientStream) onHeaders(b *batch, c *conn, id uint32, l *fieldList, end bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	defer cs.changed.Broadcast()
	if cs.final {
		if !end || checkTrailers(l.fields) != "" {
			cs.malformed(b)
			return
		}
		cs.trailers, cs.end = exported(l.fields), true
		return
	}
	head := fieldList{slices.Clone(l.fields)}
	status := parseStatus(&head)
	if status == 0 || status == 101 || status < 200 && (end || len(cs.heads) > 8) {
		cs.malformed(b)
		return
	}
	cs.heads = append(cs.heads, head)
	cs.final, cs.end = status >= 200, end
}

func (cs *ClientStream) malformed(b *batch) {
	cs.up.c.reset(b, &cs.up, errProtocol)
	cs.err = &exchange.StreamError{Failure: exchange.ProtocolFailure, Cause: "protocol_error"}
}

// onData implements sink.
func (cs *ClientStream) onData(b *batch, c *conn, id uint32, p []byte, end bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	defer cs.changed.Broadcast()
	if !cs.final || cs.err != nil {
		b.credits = append(b.credits, creditDue{c, id, len(p)})
		if cs.err == nil {
			cs.malformed(b)
		}
		return
	}
	if cs.off > 0 && cs.off >= len(cs.body)/2 {
		cs.body = cs.body[:copy(cs.body, cs.body[cs.off:])]
		cs.off = 0
	}
	cs.body = append(cs.body, p...)
	cs.end = end
}

// onReset implements sink.
func (cs *ClientStream) onReset(_ *batch, _ *conn, _ uint32, _ errCode, why cause) {
	err := &exchange.StreamError{Failure: exchange.Reset, Cause: "remote_reset"}
	switch why {
	case causeRefused:
		err = &exchange.StreamError{Failure: exchange.Refused, Cause: "remote_refused_stream_reset"}
	case causeLost:
		err = &exchange.StreamError{Failure: exchange.Reset, Cause: exchange.CauseTermination}
	case causeMalformed:
		err = &exchange.StreamError{Failure: exchange.ProtocolFailure, Cause: "protocol_error"}
	}
	cs.fail(err)
}

// onSent implements sink.
func (cs *ClientStream) onSent(*batch, *conn, uint32) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.changed.Broadcast()
}

// backlog is how much of h waits to be sent.
func (c *conn) backlog(h *half) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return h.pending()
}

func exported(fields []hpack.HeaderField) []exchange.Field {
	out := make([]exchange.Field, len(fields))
	for i, f := range fields {
		out[i] = exchange.Field{Name: f.Name, Value: f.Value}
	}
	return out
}
