package http2

import "golang.org/x/net/http2/hpack"

// outputLimit is how full a connection's output may be for DATA to be added. The
// rest waits in the streams' queues, which the windows that we grant bound.
const outputLimit = 64 << 10

// sendHeaders writes a header block. Nothing of the stream waits before it: an
// answer's head precedes its body. It reports whether END_STREAM went out.
func (c *conn) sendHeaders(b *batch, h *half, fields []hpack.HeaderField, end bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.closed || c.closed {
		return false
	}
	h.begun = true
	c.encode(h.id, fields, end)
	b.add(c)
	return end && c.outEnded(b, h)
}

// sendTrailers ends the half with trailers, after what is queued.
func (c *conn) sendTrailers(b *batch, h *half, fields []hpack.HeaderField) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.closed || c.closed {
		return false
	}
	h.end = true
	if h.pending() > 0 {
		h.trailers = append(h.trailers[:0], fields...)
		return false
	}
	c.encode(h.id, fields, true)
	b.add(c)
	return c.outEnded(b, h)
}

// sendData writes p, or queues what has no window or no room. It reports
// whether END_STREAM went out; if it is queued, the sink's onSent will tell.
func (c *conn) sendData(b *batch, h *half, p []byte, end bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.closed || c.closed {
		b.give(h, len(p))
		return false
	}
	b.add(c)
	free := h.pending() == 0 && (len(p) == 0 || c.first == nil && len(c.wbuf) < outputLimit)
	if free && len(p) <= maxFrame && int64(len(p)) <= min(h.sendWindow, c.sendWindow) || free && len(p) == 0 {
		if len(p) > 0 || end {
			c.writeData(b, h, p, end)
		}
		return end && c.outEnded(b, h)
	}
	h.hold(p)
	h.end = h.end || end
	c.schedule(h)
	c.pump(b)
	return false
}

// writeData writes one DATA frame and credits the bytes to their sender. The
// lock is held and the windows suffice.
func (c *conn) writeData(b *batch, h *half, p []byte, end bool) {
	var flags byte
	if end {
		flags = flagEndStream
	}
	c.wbuf = append(appendFrameHead(c.output(), len(p), frameData, flags, h.id), p...)
	h.sendWindow -= int64(len(p))
	c.sendWindow -= int64(len(p))
	b.give(h, len(p))
}

// outEnded notes that END_STREAM has gone out.
func (c *conn) outEnded(b *batch, h *half) bool {
	h.sentEnd = true
	switch {
	case h.recvEnd:
		c.drop(b, h)
	case h.quiet:
		c.wbuf = appendRSTStream(c.output(), h.id, errNo)
		c.noteReset(h.id)
		c.drop(b, h)
	}
	return true
}

// schedule lists a half that has something to send and a window for it.
func (c *conn) schedule(h *half) {
	if h.listed || h.pending() == 0 || h.sendWindow <= 0 {
		return
	}
	h.listed = true
	if h.prev = c.last; h.prev != nil {
		h.prev.next = h
	} else {
		c.first = h
	}
	c.last = h
}

func (c *conn) unlist(h *half) {
	if !h.listed {
		return
	}
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		c.first = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	} else {
		c.last = h.prev
	}
	h.next, h.prev, h.listed = nil, nil, false
}

// pump moves queued bytes into the output, a frame of each stream in turn, while
// there is room and window. The lock is held.
func (c *conn) pump(b *batch) {
	for c.first != nil && len(c.wbuf) < outputLimit && c.sendWindow > 0 {
		h := c.first
		c.unlist(h)
		if h.sendWindow <= 0 {
			continue // SETTINGS took it away
		}
		n := int(min(int64(h.pending()), maxFrame, h.sendWindow, c.sendWindow))
		last := n == h.pending()
		c.writeData(b, h, h.queue[h.off:h.off+n], last && h.end && len(h.trailers) == 0)
		h.off += n
		b.add(c)
		if !last {
			c.schedule(h)
			continue
		}
		h.queue, h.off = h.queue[:0], 0
		if cap(h.queue) > streamWindow/2 {
			h.queue = nil
		}
		if h.end {
			c.finishQueue(b, h)
		} else if h.watched {
			b.sent = append(b.sent, sentEnd{h.sink, c, h.id})
		}
	}
}

func (c *conn) finishQueue(b *batch, h *half) {
	if len(h.trailers) > 0 {
		c.encode(h.id, h.trailers, true)
	}
	b.sent = append(b.sent, sentEnd{h.sink, c, h.id})
	c.outEnded(b, h)
}

// reset ends the half with RST_STREAM. What was queued is dropped.
func (c *conn) reset(b *batch, h *half, code errCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.closed || c.closed {
		return
	}
	c.resetLocked(b, h, code)
}

func (c *conn) resetLocked(b *batch, h *half, code errCode) {
	c.wbuf = appendRSTStream(c.output(), h.id, code)
	b.add(c)
	c.noteReset(h.id)
	c.drop(b, h)
}

// drop takes a half off the connection. The lock is held.
func (c *conn) drop(b *batch, h *half) {
	if h.closed {
		return
	}
	h.closed = true
	c.unlist(h)
	b.give(h, h.pending())
	h.queue, h.off = h.queue[:0], 0
	delete(c.streams, h.id)
	c.load.Add(-1)
	if h.recvEnd && h.sentEnd {
		c.completed++
	}
	if len(c.streams) == 0 {
		c.unused(b)
	}
	if c.set != nil {
		b.freed = append(b.freed, c.set)
	}
}

// grant credits n forwarded bytes of a stream to the peer, in few and large
// WINDOW_UPDATEs.
func (c *conn) grant(b *batch, id uint32, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	if c.recvCredit += n; c.recvCredit >= connWindow/8 {
		c.wbuf = appendWindowUpdate(c.output(), 0, c.recvCredit)
		c.recvWindow += int64(c.recvCredit)
		c.recvCredit = 0
		b.add(c)
	}
	h := c.streams[id]
	if h == nil || h.recvEnd {
		return
	}
	if h.credit += n; h.credit >= streamWindow/4 {
		c.wbuf = appendWindowUpdate(c.output(), id, h.credit)
		h.recvWindow += int64(h.credit)
		h.credit = 0
		b.add(c)
	}
}

// onWindowUpdate opens a window of ours.
func (c *conn) onWindowUpdate(f frameHead, n uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.stream == 0 {
		if c.sendWindow += int64(n); n == 0 {
			return &connError{errProtocol, "window_update_zero"}
		} else if c.sendWindow > maxWindow {
			return &connError{errFlowControl, "window_overflow"}
		}
		c.pump(&c.batch)
		return nil
	}
	h := c.streams[f.stream]
	if h == nil {
		if c.idle(f.stream) {
			return &connError{errProtocol, "frame_on_idle_stream"}
		}
		return c.guard.control()
	}
	h.sendWindow += int64(n)
	switch {
	case n == 0:
		c.fault(h, errProtocol, "window_update_zero")
	case h.sendWindow > maxWindow:
		c.fault(h, errFlowControl, "window_overflow")
	default:
		c.schedule(h)
		c.pump(&c.batch)
	}
	return nil
}

// batch is what one burst of frames leaves to do once no lock is held.
type batch struct {
	conns   []*conn // to flush
	credits []creditDue
	sent    []sentEnd
	resets  []resetDue
	freed   []*set // with a stream less
}

type creditDue struct {
	c  *conn
	id uint32
	n  int
}

type sentEnd struct {
	sink sink
	c    *conn
	id   uint32
}

type resetDue struct {
	sentEnd
	code errCode
	why  cause
}

func (b *batch) add(c *conn) {
	for _, other := range b.conns {
		if other == c {
			return
		}
	}
	b.conns = append(b.conns, c)
}

// give credits n bytes that left h to whom they came from.
func (b *batch) give(h *half, n int) {
	if n == 0 || h.src == nil {
		return
	}
	if last := len(b.credits) - 1; last >= 0 && b.credits[last].c == h.src && b.credits[last].id == h.srcID {
		b.credits[last].n += n
		return
	}
	b.credits = append(b.credits, creditDue{h.src, h.srcID, n})
}

// run does what is due, until nothing is. No lock may be held.
func (b *batch) run() {
	for {
		switch {
		case len(b.resets) > 0:
			r := b.resets[0]
			b.resets = append(b.resets[:0], b.resets[1:]...)
			r.sink.onReset(b, r.c, r.id, r.code, r.why)
		case len(b.sent) > 0:
			s := b.sent[len(b.sent)-1]
			b.sent = b.sent[:len(b.sent)-1]
			s.sink.onSent(b, s.c, s.id)
		case len(b.credits) > 0:
			d := b.credits[len(b.credits)-1]
			b.credits = b.credits[:len(b.credits)-1]
			d.c.grant(b, d.id, d.n)
		case len(b.freed) > 0:
			s := b.freed[len(b.freed)-1]
			b.freed = b.freed[:len(b.freed)-1]
			s.wake(b)
		case len(b.conns) > 0:
			c := b.conns[len(b.conns)-1]
			b.conns = b.conns[:len(b.conns)-1]
			c.flush(b)
		default:
			return
		}
	}
}
