package http1

import (
	"testing"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// parked waits until n connections wait without a goroutine.
func (r *rig) parked(n int) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); r.server.lot.Len() != n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%d connections rest, want %d", r.server.lot.Len(), n)
		}
	}
}

// rested is a rig that answers itself, and a connection that has had one answer.
func rested(t *testing.T) (*rig, *client) {
	r := newRig(t, "127.0.0.1:1", nil)
	r.handler.reply = &exchange.Reply{Status: 204}
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
	c.status("GET")
	r.parked(1)
	return r, c
}

func TestASilentConnectionRestsAndServesOn(t *testing.T) {
	t.Parallel()
	r, c := rested(t)
	for range 2 {
		// First a part of a request, which ends the rest, then all of it.
		c.send("GET / HT")
		r.parked(0)
		c.send("TP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n")
		for range 2 {
			if got := c.status("GET"); got != 204 {
				t.Errorf("status %d, want 204", got)
			}
		}
		r.parked(1)
	}
}

func TestARestingConnectionEndsWithItsDownstream(t *testing.T) {
	t.Parallel()
	r, c := rested(t)
	c.Close()
	r.server.Wait() // hangs if it does not
}

func TestDrainEndsARestingConnection(t *testing.T) {
	t.Parallel()
	r, c := rested(t)
	r.server.Drain(0)
	c.closed()
	r.server.Wait()
}

func TestTheContextEndsARestingConnection(t *testing.T) {
	t.Parallel()
	r, c := rested(t)
	r.cancel()
	c.closed()
	r.server.Wait()
}

func TestTheIdleLimitEndsARestingConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t, "127.0.0.1:1", func(o *Options) { o.DownstreamIdle = 2 * time.Second })
	r.handler.reply = &exchange.Reply{Status: 204}
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
	c.status("GET")
	r.parked(1)
	c.closed()
	r.server.Wait()
}
