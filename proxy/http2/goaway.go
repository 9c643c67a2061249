package http2

// onGoAway lets the streams that the peer took on finish and tells the others
// that they were not: nothing of them was processed (RFC 9113, section 6.8).
func (c *conn) onGoAway(last uint32) {
	if c.set != nil {
		c.set.remove(&c.batch, c)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining, c.final = true, true
	if c.client {
		for id, h := range c.streams {
			if id > last {
				c.batch.resets = append(c.batch.resets, resetDue{sentEnd{h.sink, c, id}, errRefusedStream, causeRefused})
				c.drop(&c.batch, h)
			}
		}
	}
	if len(c.streams) == 0 {
		c.stopLocked()
	}
}

// drainPing marks the PING whose acknowledgement says that the peer has read
// the first GOAWAY of a drain.
const drainPing = "drained?"

// drain asks the peer, in two steps, to open no more streams: streams that it
// opened before it read the first GOAWAY are served.
func (c *conn) drain(b *batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warned || c.closed {
		return
	}
	c.warned = true
	c.wbuf = appendGoAway(c.output(), maxStreamID, errNo)
	c.wbuf = appendPing(c.wbuf, 0, []byte(drainPing))
	b.add(c)
}

// drained takes the acknowledgement of a PING, and the drain's second step.
func (c *conn) drained(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.warned || c.final || string(p) != drainPing {
		return
	}
	c.draining, c.final = true, true
	c.wbuf = appendGoAway(c.output(), c.lastPeer, errNo)
	c.batch.add(c)
	if len(c.streams) == 0 {
		c.stopLocked()
	}
}
