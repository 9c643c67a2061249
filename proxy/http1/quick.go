package http1

import (
	"errors"
	"os"
	"sync/atomic"
	"time"
)

const (
	// busyGap is how soon the next request must come for a connection to be a busy
	// one.
	busyGap = 50 * time.Millisecond
	// silence is how long a busy connection keeps its memory without a request, and
	// restAfter how long any keeps its goroutine.
	silence   = 250 * time.Millisecond
	restAfter = time.Second
	// maxBusy bounds the connections that keep memory between their requests.
	maxBusy = 256
)

// quick is the way of the usual request: one that is there whole, on a connection
// that has carried one before. It costs one read, for the next request as well.
//
// A busy connection keeps its memory between two requests. Once it falls silent,
// the sweep wakes it to give the memory back and to rest.
type quick struct {
	step  func() bool // the connection's, made once
	over  bool        // the connection ends
	ended int64       // the last request
	holds atomic.Bool // memory between two requests
	wait  atomic.Int32
	woken bool // by the sweep, in the last wait
}

// What the sweep knows of a quick wait.
const (
	noWait = iota
	unseen // it has not looked at it since the last request
	seen
)

// serveQuick serves usual requests as long as there are such. It is false at the
// connection's end; otherwise the next request, if there is one yet, is left to
// head.
func (c *conn) serveQuick() bool {
	q := &c.quick
	if q.step == nil {
		q.step = c.step
	}
	q.over = false
	defer c.leaveQuick()
	if !c.step() {
		return !q.over
	}
	used, err := c.c.Each(&c.in, q.step)
	switch {
	case !used || err == nil:
		return !q.over
	case errors.Is(err, os.ErrDeadlineExceeded):
		return !c.timer.fired()
	}
	return false // between requests everybody may leave
}

func (c *conn) leaveQuick() {
	c.hold(false)
	c.quick.wait.Store(noWait)
	c.quick.woken = !c.quick.over && c.leaveIdle(nothing)
}

// step serves the requests that were read, and reports whether to wait for more.
func (c *conn) step() bool {
	for c.in.Len() > 0 {
		if !c.usual() {
			return false
		}
		if !c.exchange(c.ctx) {
			c.quick.over = true
			return false
		}
	}
	c.timer.set(idle, c.now)
	if c.quick.wait.Load() != unseen {
		c.quick.wait.Store(unseen)
	}
	if !c.quick.holds.Load() {
		c.dropWork()
		c.in.Free()
	}
	return true
}

// usual reports a whole request after which the connection still speaks HTTP/1.
func (c *conn) usual() bool {
	if c.parse() != nil || c.request.size > c.s.o.MaxHeaderBytes {
		return false
	}
	m := &c.request
	return !m.upgrade && !m.expect && !m.chunked && int64(c.in.Len()-m.size) >= m.length && string(m.method.of(m.raw)) != "CONNECT"
}

// judge finds out whether the connection is busy, as a request begins.
func (c *conn) judge() {
	c.hold(c.begun && c.start-c.quick.ended < int64(busyGap))
}

// hold has the connection keep its memory between requests, or no longer.
func (c *conn) hold(memory bool) {
	if c.quick.holds.Load() == memory {
		return
	}
	if memory && c.s.busy.Add(1) <= maxBusy {
		c.quick.holds.Store(true)
		return
	}
	c.s.busy.Add(-1)
	c.quick.holds.Store(false)
}

// leaveIdle ends the wait for a request with the phase to, and what the sweep
// did to end it, which it reports.
func (c *conn) leaveIdle(to phase) (was bool) {
	if c.timer.begin(to, c.now) != woken {
		return false
	}
	c.s.mu.Lock()   // until the sweep has set its deadline
	c.s.mu.Unlock() //nolint:staticcheck // nothing to do in between
	c.resetRead()
	return true
}
