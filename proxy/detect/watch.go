package detect

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/telemesh/telemesh/proxy/netio"
)

// speech is what the upstream did before the caller had said enough.
type speech uint8

const (
	silent      speech = iota // nothing yet, or an HTTP/2 server's first frame
	greeted                   // it spoke: a protocol in which the server does so
	answered                  // it spoke, but as an HTTP/1 server that gives up waiting
	hungUp                    // it ended the connection
	unreachable               // it did not take one
)

// watch connects to the upstream after the caller's head start and listens to
// it. A nil watch does nothing.
type watch struct {
	alarm  *alarm // of the downstream
	open   func(ctx context.Context) (net.Conn, error)
	timer  *time.Timer
	cancel context.CancelFunc
	done   chan struct{} // closed when run has ended

	mu       sync.Mutex // guards the field below
	listened *alarm     // of the upstream; nil before there is one

	// Written by run, read after done.
	spoke    speech
	upstream *netio.Conn
}

// startWatch begins the head start; hurry reports that the caller's first bytes
// are there already.
func startWatch(ctx context.Context, a *alarm, o *Options, known lesson, callerSpoke bool) *watch {
	w := &watch{alarm: a, open: o.Upstream, done: make(chan struct{})}
	ctx, w.cancel = context.WithCancel(ctx)
	head := headStart
	if known == clientFirst || callerSpoke {
		head = headStartLearned
	}
	w.timer = time.AfterFunc(head, func() { w.run(ctx) })
	return w
}

func (w *watch) run(ctx context.Context) {
	defer close(w.done)
	c, err := w.open(ctx)
	if err != nil {
		w.spoke = unreachable
		select {
		case <-time.After(afterFailure):
			w.alarm.ring()
		case <-ctx.Done():
		}
		return
	}
	w.upstream = netio.New(c, nil)
	listened := &alarm{c: w.upstream}
	w.mu.Lock()
	w.listened = listened
	w.mu.Unlock()
	if ctx.Err() != nil {
		return // end may have missed the alarm
	}
	w.spoke = w.listen()
	listened.off()
	if w.spoke != silent {
		w.alarm.ring()
	}
}

// listen reads until it is clear what the upstream does. What it read is given
// back.
func (w *watch) listen() speech {
	b := make([]byte, 0, 16)
	defer func() { w.upstream.Unread(b) }()
	for {
		n, err := w.upstream.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded): // end's
			return silent
		case err != nil: // whoever uses the connection meets it again
			return hungUp
		}
		answer := []byte("HTTP/1.")
		if http := b[:min(len(b), len(answer))]; bytes.HasPrefix(answer, http) {
			if len(http) == len(answer) {
				return answered
			}
			continue
		}
		switch http2, more := greetsAsHTTP2(b); {
		case http2:
			return silent
		case !more:
			return greeted
		}
	}
}

// end stops the watch and waits for it. The connection is the caller's.
func (w *watch) end() (speech, *netio.Conn) {
	if w == nil {
		return silent, nil
	}
	defer w.cancel()
	if w.timer.Stop() {
		return silent, nil
	}
	w.cancel()
	w.mu.Lock()
	listened := w.listened
	w.mu.Unlock()
	if listened != nil {
		listened.ring()
	}
	<-w.done
	if w.upstream != nil {
		// By now nobody rings any more.
		_ = w.upstream.SetReadDeadline(time.Time{})
	}
	return w.spoke, w.upstream
}

// alarm ends reads on a connection, whether they wait now or come later.
type alarm struct {
	c *netio.Conn

	mu   sync.Mutex // guards the field below and the deadline
	rung bool
}

// set gives reads a time-out, unless the alarm has rung.
func (a *alarm) set(timeout time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.rung {
		_ = a.c.SetReadDeadline(time.Now().Add(timeout)) // of a closed one, on which reads fail
	}
}

func (a *alarm) ring() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.rung {
		a.rung = true
		_ = a.c.SetReadDeadline(time.Unix(1, 0))
	}
}

// off takes the deadline off; the alarm does not ring any more.
func (a *alarm) off() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rung = true
	_ = a.c.SetReadDeadline(time.Time{})
}
