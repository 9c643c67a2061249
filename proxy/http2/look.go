package http2

import (
	"time"

	"github.com/telemesh/telemesh/proxy/netio"
)

// lookEvery is how often an upstream connection with streams is looked at.
const lookEvery = 500 * time.Millisecond

// watchEnd looks now and then whether the upstream has ended its direction: the
// reader, which does not ask the socket twice for one wake-up, can miss an end
// that came together with the last bytes, and then nothing else would come. The
// lock is held.
func (c *conn) watchEnd() {
	if c.looking || c.closed {
		return
	}
	c.looking = true
	if c.lookTimer == nil {
		c.lookTimer = time.AfterFunc(lookEvery, c.look)
		return
	}
	c.lookTimer.Reset(lookEvery)
}

// look is the timer's function. An unused connection costs nothing: the next
// stream sets the timer again.
func (c *conn) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looking = false
	if c.closed || len(c.streams) == 0 {
		return
	}
	if state := c.io.Peer(); state == netio.HalfClosed || state == netio.Gone {
		_ = c.io.SetReadDeadline(past)
		return
	}
	c.watchEnd()
}
