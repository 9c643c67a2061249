package http1

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/proxy/netio"
)

// body is a request's body: what came with its head, and the way of the rest.
type body struct {
	chunked bool
	left    int64 // of a Content-Length beyond early
	frames  chunks
	early   int // bytes of it that came with the head
	whole   bool
	rest    netio.Buffer // what is read later; keeps what lies behind the body

	passed  atomic.Int64 // bytes sent upstream, or about to be
	started atomic.Bool  // a byte came after the head
	failed  error        // why the sender stopped: to be read after done, or broke
	broke   atomic.Bool  // failed is the downstream's doing
	done    chan struct{}
}

// reset takes in the bytes behind the head. Malformed chunks among them show in
// failed.
func (b *body) reset(m *message, behind []byte) {
	b.chunked, b.left, b.early, b.whole, b.failed, b.done = m.chunked, 0, 0, false, nil, nil
	if b.started.Load() || b.broke.Load() {
		b.started.Store(false)
		b.broke.Store(false)
	}
	switch {
	case m.chunked:
		b.frames = chunks{pending: b.frames.pending[:0]}
		var err error
		if b.early, b.whole, err = b.frames.next(behind); err != nil {
			b.failed = errDownstream{err}
		}
	case m.length > 0:
		b.early = int(min(int64(len(behind)), m.length))
		b.left = m.length - int64(b.early)
		b.whole = b.left == 0
	default:
		b.whole = true
	}
	if b.passed.Load() != int64(b.early) {
		b.passed.Store(int64(b.early))
	}
}

// ended reports whether all of the body was sent, for which the sender may take
// a moment.
func (b *body) ended() bool {
	if b.done != nil {
		select {
		case <-b.done:
		case <-time.After(finishWait):
			return false
		}
	}
	return b.whole
}

// errDownstream marks what the downstream did to its own request.
type errDownstream struct{ error }

func (e errDownstream) Unwrap() error { return e.error }

// run sends the rest of the body beside the goroutine that waits for the answer,
// which learns what the downstream did by the read deadline of up.
func (b *body) run(down *netio.Conn, up *upstream, t *timer, done chan struct{}) {
	defer close(done)
	b.send(down, up, t)
	var downstream errDownstream
	if errors.As(b.failed, &downstream) && !timedOut(b.failed) {
		b.broke.Store(true)
		_ = up.SetReadDeadline(past) // the answer to half a request is of no use
	}
}

// send relays the rest of the body from down to up until its end.
func (b *body) send(down *netio.Conn, up *upstream, t *timer) {
	for !b.whole {
		room := b.rest.Room()
		if !b.chunked && int64(len(room)) > b.left {
			room = room[:b.left] // not into the next request
		}
		n, err := down.Read(room)
		if err != nil {
			b.failed = errDownstream{err}
			if errors.Is(err, io.EOF) {
				b.failed = errDownstream{io.ErrUnexpectedEOF}
			}
			return
		}
		b.started.Store(true)
		t.touch()
		b.rest.End += n
		if err := b.pass(up, n); err != nil {
			b.failed = err
			return
		}
	}
}

// pass sends what belongs to the body of the n bytes that were just read.
func (b *body) pass(up *upstream, n int) (err error) {
	if b.chunked {
		if n, b.whole, err = b.frames.next(b.rest.Bytes()); err != nil {
			return errDownstream{err}
		}
	} else {
		b.left -= int64(n)
		b.whole = b.left == 0
	}
	b.passed.Add(int64(n))
	if _, err = up.Write(b.rest.Bytes()[:n]); err != nil {
		return err
	}
	b.rest.Skip(n)
	return nil
}

// timedOut reports a read that a deadline ended.
func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
