package http1

import (
	"errors"
	"io"
	"strconv"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// http2Answer turns a stream's answer into HTTP/1.
type http2Answer struct {
	pending []byte // to be read before anything else
	how     framing
	final   bool // the answer's head was read
	done    bool
	left    int64
}

// chunkRoom is what a chunk's size and line ends need beside its data.
const chunkRoom = len("ffffffff\r\n\r\n")

func (a *http2Answer) read(s exchange.Stream, p []byte, head bool) (int, error) {
	for len(a.pending) == 0 {
		switch {
		case !a.final:
			if err := a.readHead(s, head); err != nil {
				return 0, err
			}
		case a.done || a.how == noBody:
			return 0, io.EOF
		case a.how == byChunks && len(p) <= chunkRoom:
			p := make([]byte, 512)
			n, err := a.readBody(s, p)
			if a.pending = append(a.pending, p[:n]...); err != nil {
				return 0, err
			}
		default:
			if n, err := a.readBody(s, p); n > 0 || err != nil {
				return n, err
			}
		}
	}
	n := copy(p, a.pending)
	if a.pending = a.pending[n:]; len(a.pending) == 0 {
		a.pending = nil
	}
	return n, nil
}

// readHead makes HTTP/1's head of the stream's next.
func (a *http2Answer) readHead(s exchange.Stream, head bool) error {
	fields, status, err := s.Head()
	if err != nil {
		return err
	}
	out := make([]byte, 0, 1<<10)
	out = append(strconv.AppendInt(append(out, "HTTP/1.1 "...), int64(status), 10), ' ')
	out = append(append(out, reasonPhrase(status)...), "\r\n"...)
	a.left = -1
	bodiless := head || status == 204 || status == 304
	trailers := !bodiless && announcesTrailers(fields)
	for _, f := range fields {
		switch {
		case f.Name == "" || f.Name[0] == ':', f.Name == "content-length" && trailers:
			continue
		case f.Name == "content-length":
			n, err := strconv.ParseInt(f.Value, 10, 64)
			if err != nil || n < 0 || a.left >= 0 && n != a.left {
				return errAnswerLength
			}
			if a.left >= 0 {
				continue
			}
			a.left = n
		}
		out = appendField(out, f.Name, f.Value)
	}
	if status >= 200 {
		out = a.frame(out, s, bodiless)
	}
	out = append(out, "\r\n"...)
	a.pending = out
	return nil
}

// announcesTrailers reports that an answer is to be chunked even if it has a
// length: HTTP/1 has trailers behind chunks only.
func announcesTrailers(fields []exchange.Field) bool {
	for _, f := range fields {
		if f.Name == "trailer" || f.Name == "content-type" && isGRPC(f.Value) {
			return true
		}
	}
	return false
}

// frame decides how the body's end will be found.
func (a *http2Answer) frame(out []byte, s exchange.Stream, empty bool) []byte {
	a.final = true
	switch {
	case empty:
		a.how = noBody
		if !s.Ended() {
			_ = awaitEnd(s) // what is wrong with it changes nothing
		}
	case a.left >= 0:
		a.how = byLength
	case s.Ended():
		a.how = noBody
		out = append(out, "content-length: 0\r\n"...)
	default:
		a.how = byChunks
		out = append(out, "transfer-encoding: chunked\r\n"...)
	}
	return out
}

// errAnswerLength: the answer's body and its Content-Length do not agree.
var errAnswerLength = &exchange.StreamError{Failure: exchange.ProtocolFailure, Cause: "protocol_error"}

// awaitEnd waits for the end of a stream whose body is complete: to close it
// before would look to the upstream as if the caller had left. An upstream that
// ends it in another way has sent the whole answer all the same.
func awaitEnd(s exchange.Stream) error {
	var more [1]byte
	if n, _ := s.Read(more[:]); n > 0 {
		return errAnswerLength
	}
	return nil
}

func (a *http2Answer) readBody(s exchange.Stream, p []byte) (int, error) {
	if a.how == byLength {
		n, err := s.Read(p)
		if a.left -= int64(n); a.left < 0 || errors.Is(err, io.EOF) && a.left > 0 {
			return 0, errAnswerLength
		}
		if a.done = a.left == 0; a.done && err == nil {
			err = awaitEnd(s)
		}
		return n, err
	}
	// The data is read behind the longest size line and moved to where its own
	// ends.
	const front = chunkRoom - len("\r\n")
	n, err := s.Read(p[front : len(p)-len("\r\n")])
	if n > 0 {
		size := strconv.AppendInt(make([]byte, 0, front), int64(n), 16)
		size = append(size, "\r\n"...)
		copy(p[len(size):], p[front:front+n])
		n += copy(p, size)
		return n + copy(p[n:], "\r\n"), nil
	}
	if errors.Is(err, io.EOF) {
		a.done, err = true, nil
		a.pending = append(a.pending, "0\r\n"...)
		for _, f := range s.Trailers() {
			a.pending = appendField(a.pending, f.Name, f.Value)
		}
		a.pending = append(a.pending, "\r\n"...)
	}
	return 0, err
}
