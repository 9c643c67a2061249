package http1

import (
	"time"

	"github.com/telemesh/telemesh/internal/process"
	"github.com/telemesh/telemesh/proxy/netio"
)

const (
	sweepEvery = 250 * time.Millisecond
	// calmEvery is the pace while every connection rests: only their limits, of
	// a minute, are left to be looked at.
	calmEvery = 2 * time.Second
	poolEvery = time.Second
	// lookAfter is how long an answer takes until the sweep looks whether the
	// downstream is still there.
	lookAfter = 500 * time.Millisecond
)

// runSweep enforces the time limits until stop is closed.
func (s *Server) runSweep(stop chan struct{}) {
	defer s.swept.Done()
	next := time.NewTimer(sweepEvery)
	defer next.Stop()
	pooled := netio.Now()
	for {
		select {
		case <-stop:
			return
		case <-s.stirred:
			next.Reset(sweepEvery)
			continue
		case <-next.C:
		}
		now := netio.Now()
		calm := s.sweepConns(now)
		s.calm.Store(calm)
		pace := sweepEvery
		if calm {
			pace = process.UntilBeat(calmEvery)
		}
		next.Reset(pace)
		if now-pooled >= int64(poolEvery) {
			s.pool.closeIdle(now)
			pooled = now
		}
		if s.rest(stop) {
			return
		}
	}
}

// rest ends the sweep when there is nothing to sweep, so that a sidecar without
// traffic costs nothing; the next connection begins another.
func (s *Server) rest(stop chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sweep != stop || len(s.conns) > 0 || !s.pool.empty() {
		return false
	}
	s.sweep = nil
	return true
}

// stir has the sweep look often again. Whoever serves a request asks first
// whether it is calm, which costs nothing.
func (s *Server) stir() {
	if !s.calm.CompareAndSwap(true, false) {
		return
	}
	select {
	case s.stirred <- struct{}{}:
	default: // it knows
	}
}

// sweepConns reports whether every connection rests.
func (s *Server) sweepConns(now int64) (calm bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	draining := s.draining.Load()
	drainSilence := s.silence.Load()
	calm = !draining
	for c := range s.conns {
		t := &c.timer
		p, since := t.load()
		age := now - since
		calm = calm && p == idle && c.quick.wait.Load() == noWait
		switch {
		case age > int64(s.o.limit(p)):
			t.fire(c, p)
		case p == idle && draining && age > drainSilence && c.c.Peer() != netio.Sent:
			// A busy one is told with its next answer instead: closing it could
			// meet a request on its way.
			t.fire(c, idle)
		case p == idle && age > int64(restAfter) && c.quick.wait.CompareAndSwap(seen, noWait):
			c.wake()
		case p == idle && age > int64(silence) && c.quick.wait.CompareAndSwap(unseen, seen):
			if c.quick.holds.Load() || c.c.Peer() != netio.Open {
				c.wake()
			}
		case p == streaming && age > int64(lookAfter):
			s.look(c, now)
			t.lookUp()
		}
	}
	return calm
}

// wake ends a quick wait: for the connection to give its memory back and to rest,
// or because something came that the wait has missed, such as an end that arrived
// together with the last request.
func (c *conn) wake() {
	if c.timer.wake() {
		_ = c.c.SetReadDeadline(past)
	}
}

// lookUp wakes a request whose upstream answered or ended its direction just before
// it was asked: netio's Ask can miss that, and nothing else would come.
func (t *timer) lookUp() {
	up := t.up.Load()
	if up == nil {
		return
	}
	if up.Peer() != netio.Open && t.up.CompareAndSwap(up, nil) {
		_ = up.SetReadDeadline(past)
	}
}

// look ends a request whose downstream is gone. One that has only ended its own
// direction may wait for the answer, but not for ever.
func (s *Server) look(c *conn, now int64) {
	t := &c.timer
	switch c.c.Peer() {
	case netio.Open:
		t.half.Store(0)
	case netio.Gone:
		t.fire(c, left)
	case netio.HalfClosed:
		t.half.CompareAndSwap(0, now)
		if now-t.half.Load() > int64(s.o.HalfClose) {
			t.fire(c, left)
		}
	}
}
