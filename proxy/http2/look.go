package http2

import (
	"time"

	"github.com/telemesh/telemesh/proxy/netio"
)

// lookAfter is when a connection's end that came together with bytes shows.
const lookAfter = 500 * time.Millisecond

// lookLater has somebody look at the connection after a read. The reader does
// not ask the socket twice for one wake-up, so it can miss that the peer ended
// its direction with what was just read, and then nothing else would come. A
// connection on which nothing comes is not looked at, and costs nothing.
func (c *conn) lookLater() {
	if c.looking.Load() || !c.io.Plain() {
		return
	}
	c.looking.Store(true)
	if c.lookTimer == nil {
		c.lookTimer = time.AfterFunc(lookAfter, c.look)
		return
	}
	c.lookTimer.Reset(lookAfter)
}

// look is the timer's function. What is read after its first line is looked at
// another time.
func (c *conn) look() {
	c.looking.Store(false)
	if state := c.io.Peer(); state == netio.HalfClosed || state == netio.Gone { // reset with its last bytes, too
		_ = c.io.SetReadDeadline(past)
	}
}
