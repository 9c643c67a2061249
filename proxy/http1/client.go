package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// ClientStream is a request that a bridge makes on a pooled connection. It
// implements exchange.Stream.
type ClientStream struct {
	s     *Server
	anew  func() (*upstream, error) // opens another connection
	ask   []byte                    // the whole request, as long as it may be sent again
	empty bool                      // the answer has no body, as one to HEAD

	// The writer's.
	chunked bool // the request's body
	out     []byte

	// The reader's.
	m        message
	interim  int
	how      framing
	left     int64
	frames   chunks
	read     int    // bytes that frames gave to the Read under way
	into     []byte // of it
	trailers []exchange.Field

	mu     sync.Mutex // guards the fields below
	up     *upstream  // nil once given back
	using  int        // calls under way
	closed bool
	sent   bool // the whole request
	done   bool // the whole answer came
	keep   bool // the connection can carry another request
}

var _ exchange.Stream = (*ClientStream)(nil)

// Open opens a stream at an upstream that speaks HTTP/1, as an exchange.Opener
// does.
func (s *Server) Open(ctx context.Context, t exchange.Target, fields []exchange.Field, end bool) (*ClientStream, error) {
	cs := &ClientStream{s: s, sent: end}
	get := func(anew bool) (*upstream, error) {
		up, err := s.pool.get(ctx, &t, anew, !end, netio.Now())
		switch {
		case errors.Is(err, errOverflow):
			return nil, &exchange.StreamError{Failure: exchange.ConnectFailure, Cause: exchange.CauseOverflow}
		case err != nil:
			return nil, &exchange.StreamError{Failure: exchange.ConnectFailure, Cause: "connection_failure"}
		}
		return up, nil
	}
	cs.anew = func() (*upstream, error) { return get(true) }
	t.Protocol = exchange.HTTP1
	up, err := get(false)
	s.keepSweeping()
	if err != nil {
		return nil, err
	}
	cs.up = up
	head := cs.appendHead(make([]byte, 0, 1<<10), fields, end)
	if end && up.used {
		cs.ask = head
	}
	stop := context.AfterFunc(ctx, func() { _ = up.SetDeadline(past) })
	_, _ = up.Write(head) // what is wrong shows when the answer is read
	if !stop() {
		cs.Close()
		return nil, &exchange.StreamError{Failure: exchange.Timeout, Cause: "upstream_response_timeout"}
	}
	return cs, nil
}

// appendHead writes the head in HTTP/1's words, and decides on the body's
// framing.
func (cs *ClientStream) appendHead(out []byte, fields []exchange.Field, end bool) []byte {
	var method, authority, path, cookies string
	length := false
	for _, f := range fields {
		switch f.Name {
		case ":method":
			method = f.Value
		case ":authority":
			authority = f.Value
		case ":path":
			path = f.Value
		case "host":
			if authority == "" {
				authority = f.Value
			}
		case "content-length":
			length = true
		}
	}
	out = append(append(append(append(out, method...), ' '), path...), " HTTP/1.1\r\n"...)
	out = appendField(out, "host", authority)
	for _, f := range fields {
		switch {
		case f.Name == "" || f.Name[0] == ':' || f.Name == "host":
		case f.Name == "cookie": // one field in HTTP/1, RFC 9113, section 8.2.3
			if cookies != "" {
				cookies += "; "
			}
			cookies += f.Value
		default:
			out = appendField(out, f.Name, f.Value)
		}
	}
	if cookies != "" {
		out = appendField(out, "cookie", cookies)
	}
	cs.empty = method == "HEAD"
	switch {
	case length:
	case !end:
		cs.chunked = true
		out = append(out, "transfer-encoding: chunked\r\n"...)
	case method != "GET" && method != "HEAD" && method != "OPTIONS" && method != "DELETE":
		out = append(out, "content-length: 0\r\n"...) // RFC 9110, section 8.6
	}
	return append(out, "\r\n"...)
}

// enter begins a call and leave ends it: what Close finds in use, the last call
// gives back.
func (cs *ClientStream) enter() (*upstream, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return nil, errStreamClosed
	}
	cs.using++
	return cs.up, nil
}

func (cs *ClientStream) leave() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.using--; cs.using == 0 && cs.closed {
		cs.release()
	}
}

var errStreamClosed = errors.New("stream closed")

// release gives the connection back. The lock is held and nobody uses it.
func (cs *ClientStream) release() {
	up := cs.up
	if cs.up = nil; up == nil {
		return
	}
	if cs.sent && cs.done && cs.keep && up.SetDeadline(time.Time{}) == nil {
		cs.s.pool.put(up, netio.Now())
		return
	}
	cs.s.pool.discard(up)
}

// Close implements exchange.Stream.
func (cs *ClientStream) Close() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return
	}
	cs.closed = true
	switch {
	case cs.using == 0:
		cs.release()
	case cs.done: // and its sender may be on its last bytes
		_ = cs.up.SetDeadline(time.Now().Add(finishWait))
	default:
		_ = cs.up.SetDeadline(past)
	}
}

// Write implements exchange.Stream.
func (cs *ClientStream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	up, err := cs.enter()
	if err != nil {
		return 0, err
	}
	defer cs.leave()
	if !cs.chunked {
		n, err := up.Write(p)
		return n, failedAs(err)
	}
	// The chunk's end must not wait for the next one: its data would at some
	// receivers.
	cs.out = append(strconv.AppendInt(cs.out[:0], int64(len(p)), 16), "\r\n"...)
	cs.out = append(append(cs.out, p...), "\r\n"...)
	if _, err := up.Write(cs.out); err != nil {
		return 0, failedAs(err)
	}
	return len(p), nil
}

// End implements exchange.Stream. Trailers need a chunked body.
func (cs *ClientStream) End(trailers []exchange.Field) error {
	up, err := cs.enter()
	if err != nil {
		return err
	}
	defer cs.leave()
	if cs.chunked {
		cs.out = append(cs.out[:0], "0\r\n"...)
		for _, f := range trailers {
			cs.out = appendField(cs.out, f.Name, f.Value)
		}
		if _, err = up.Write(append(cs.out, "\r\n"...)); err != nil {
			return failedAs(err)
		}
	}
	cs.mu.Lock()
	cs.sent = true
	cs.mu.Unlock()
	return nil
}

// failedAs says what an error of the connection means.
func failedAs(err error) error {
	var m *malformed
	switch {
	case err == nil:
		return nil
	case errors.As(err, &m):
		return &exchange.StreamError{Failure: exchange.ProtocolFailure, Cause: "protocol_error"}
	}
	return &exchange.StreamError{Failure: exchange.Reset, Cause: exchange.CauseTermination}
}

// Head implements exchange.Stream.
func (cs *ClientStream) Head() ([]exchange.Field, int, error) {
	up, err := cs.enter()
	if err != nil {
		return nil, 0, err
	}
	defer cs.leave()
	limit := cs.s.o.MaxHeaderBytes
	err = parseAnswer(up.Conn, &up.in, &cs.m, limit)
	if err != nil && !IsMalformed(err) && cs.ask != nil && up.in.Len() == 0 && cs.interim == 0 {
		// A kept connection that its upstream closed meanwhile.
		if up, err = cs.renew(); err != nil {
			return nil, 0, err
		}
		err = parseAnswer(up.Conn, &up.in, &cs.m, limit)
	}
	if err == nil && (cs.m.status == 101 || cs.m.status < 200 && cs.interim == maxInterim) {
		err = errStatusLine // nobody asked for it
	}
	if err != nil {
		return nil, 0, failedAs(err)
	}
	status := cs.m.status
	if cs.interim++; status >= 200 {
		cs.frame(up)
	}
	fields := cs.m.answerFields()
	up.in.Skip(cs.m.size)
	cs.ask = nil
	return fields, status, nil
}

// renew sends the request again on a connection of its own.
func (cs *ClientStream) renew() (*upstream, error) {
	ask := cs.ask
	cs.ask = nil
	up, err := cs.anew()
	if err != nil {
		return nil, err
	}
	cs.mu.Lock()
	up, cs.up = cs.up, up
	closed := cs.closed
	cs.mu.Unlock()
	cs.s.pool.discard(up)
	if closed { // the last call gives the new one back
		return nil, errStreamClosed
	}
	up = cs.up
	_, _ = up.Write(ask) // what is wrong shows when the answer is read
	return up, nil
}

// frame finds out how the answer ends.
func (cs *ClientStream) frame(up *upstream) {
	m := &cs.m
	cs.left = m.length
	switch {
	case cs.empty, m.status == 204, m.status == 304:
		cs.how = noBody
	case m.chunked:
		cs.how = byChunks
		cs.frames = chunks{onData: cs.onData, onTrailer: cs.onTrailer}
	case m.length == 0:
		cs.how = noBody
	case m.length > 0:
		cs.how = byLength
	default:
		cs.how = byClose
	}
	if m.status == 204 || m.status == 304 && m.chunked {
		m.Del("content-length")
	}
	if cs.how == noBody {
		cs.finish(up.in.Len() == m.size)
	}
}

// finish notes the answer's end. clean: nothing came behind it.
func (cs *ClientStream) finish(clean bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.done, cs.keep = true, clean && cs.how != byClose && cs.m.persistent()
}

// answerFields are the answer's head in HTTP/2's words, copied.
func (m *message) answerFields() []exchange.Field {
	out := make([]exchange.Field, 1, len(m.fields)+1)
	out[0] = exchange.Field{Name: ":status", Value: strconv.Itoa(m.status)}
	for i := range m.fields {
		f := &m.fields[i]
		name := f.name.of(m.raw)
		if f.drop || is(name, "transfer-encoding") {
			continue
		}
		out = append(out, exchange.Field{Name: strings.ToLower(string(name)), Value: string(f.value.of(m.raw))})
	}
	return out
}

// Ended implements exchange.Stream.
func (cs *ClientStream) Ended() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.done && cs.how == noBody
}

// Read implements exchange.Stream.
func (cs *ClientStream) Read(p []byte) (int, error) {
	up, err := cs.enter()
	if err != nil {
		return 0, err
	}
	defer cs.leave()
	for len(p) > 0 {
		if n, err := cs.take(up, p); n > 0 || err != nil {
			return n, err
		}
		if up.in.Len() > 0 {
			continue // that was a chunk's framing
		}
		err := up.Fill(&up.in)
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) && cs.how == byClose:
			cs.finish(false)
			return 0, io.EOF
		default:
			return 0, failedAs(err)
		}
	}
	return 0, nil
}

// take moves what was read of the body to p. Both results are zero when there is
// nothing yet.
func (cs *ClientStream) take(up *upstream, p []byte) (int, error) {
	cs.mu.Lock()
	done := cs.done
	cs.mu.Unlock()
	if done {
		return 0, io.EOF
	}
	b := up.in.Bytes()
	b = b[:min(len(b), len(p))]
	switch cs.how {
	case byChunks:
		cs.into, cs.read = p, 0
		n, done, err := cs.frames.next(b)
		up.in.Skip(n)
		cs.into = nil
		if err != nil {
			return 0, failedAs(err)
		}
		if done {
			cs.finish(up.in.Len() == 0)
		}
		if done && cs.read == 0 {
			return 0, io.EOF
		}
		return cs.read, nil
	case byLength:
		b = b[:min(int64(len(b)), cs.left)]
		if cs.left -= int64(len(b)); cs.left == 0 {
			defer func() { cs.finish(up.in.Len() == 0) }()
		}
	}
	n := copy(p, b)
	up.in.Skip(n)
	return n, nil
}

func (cs *ClientStream) onData(p []byte) { cs.read += copy(cs.into[cs.read:], p) }

// onTrailer keeps what may be in a trailer section.
func (cs *ClientStream) onTrailer(name, value []byte) {
	f := exchange.Field{Name: string(bytes.ToLower(name)), Value: string(value)}
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "content-length", "te", "trailer", "host":
		return
	}
	cs.trailers = append(cs.trailers, f)
}

// Trailers implements exchange.Stream.
func (cs *ClientStream) Trailers() []exchange.Field { return cs.trailers }
