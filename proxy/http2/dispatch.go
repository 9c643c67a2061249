package http2

import (
	"encoding/binary"

	"golang.org/x/net/http2/hpack"

	"github.com/telemesh/telemesh/proxy/netio"
)

// dataFrame is a DATA frame whose payload is still coming in. It is relayed in
// the pieces in which it comes, so that no whole frame is held.
type dataFrame struct {
	stream    uint32
	sink      sink // nil if the stream is gone
	left, pad int
	end       bool
}

// consume handles what is complete in the buffer.
func (c *conn) consume() error {
	for {
		if c.data.left > 0 || c.data.pad > 0 {
			if c.in.Len() == 0 {
				return nil
			}
			c.moreData()
			continue
		}
		if c.in.Len() < frameHeaderSize {
			return nil
		}
		f := parseFrameHead(c.in.Bytes())
		if f.length > maxFrame {
			return &connError{errFrameSize, "frame_size"}
		}
		if !c.settled && (f.kind != frameSettings || f.has(flagACK)) {
			return &connError{errProtocol, "no_settings"}
		}
		if f.kind == frameData {
			if wait, err := c.beginData(f); wait || err != nil {
				return err
			}
			continue
		}
		total := frameHeaderSize + f.length
		if c.in.Len() < total {
			if total > netio.BufferSize {
				c.in.Grow(2 * netio.BufferSize)
			}
			return nil
		}
		c.settled = true
		if err := c.onFrame(f, c.in.Bytes()[frameHeaderSize:total]); err != nil {
			return err
		}
		c.in.Skip(total)
	}
}

// onFrame handles a whole frame other than DATA.
func (c *conn) onFrame(f frameHead, p []byte) error {
	if c.continuations > 0 && f.kind != frameContinuation {
		return &connError{errProtocol, "header_block_interrupted"}
	}
	switch f.kind {
	case frameHeaders:
		return c.onHeaders(f, p)
	case frameContinuation:
		return c.onContinuation(f, p)
	case framePriority:
		return c.onPriority(f, p)
	case frameRSTStream:
		return c.onRSTStream(f, p)
	case frameSettings:
		return c.onSettings(f, p)
	case framePushPromise:
		return &connError{errProtocol, "push_promise"}
	case framePing:
		return c.onPing(f, p)
	case frameGoAway:
		if f.stream != 0 {
			return &connError{errProtocol, "goaway_on_stream"}
		}
		if len(p) < 8 {
			return &connError{errFrameSize, "goaway_size"}
		}
		c.onGoAway(binary.BigEndian.Uint32(p) & maxStreamID)
		return nil
	case frameWindowUpdate:
		if len(p) != 4 {
			return &connError{errFrameSize, "window_update_size"}
		}
		return c.onWindowUpdate(f, binary.BigEndian.Uint32(p)&maxWindow)
	}
	return c.guard.control() // RFC 9113, section 5.5: unknown frames are ignored
}

// beginData takes a DATA frame's head; wait says that it is not complete.
func (c *conn) beginData(f frameHead) (wait bool, err error) {
	if c.continuations > 0 {
		return false, &connError{errProtocol, "header_block_interrupted"}
	}
	d := dataFrame{stream: f.stream, left: f.length, end: f.has(flagEndStream)}
	skip := frameHeaderSize
	if f.has(flagPadded) {
		if f.length == 0 {
			return false, &connError{errFrameSize, "padding"}
		}
		if c.in.Len() <= skip {
			return true, nil
		}
		d.pad = int(c.in.Bytes()[skip])
		skip++
		if d.left -= 1 + d.pad; d.left < 0 {
			return false, &connError{errProtocol, "padding"}
		}
	}
	if d.left == 0 && !d.end {
		if err := c.guard.control(); err != nil {
			return false, err
		}
	}
	if err := c.admitData(f, &d); err != nil {
		return false, err
	}
	c.in.Skip(skip)
	c.data = d
	c.moreData()
	return false, nil
}

// admitData checks a DATA frame against its stream and the windows.
func (c *conn) admitData(f frameHead, d *dataFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.stream == 0 {
		return &connError{errProtocol, "data_on_connection"}
	}
	if c.recvWindow -= int64(f.length); c.recvWindow < 0 {
		return &connError{errFlowControl, "connection_window"}
	}
	h := c.streams[f.stream]
	overhead := f.length - d.left
	switch {
	case h == nil && c.idle(f.stream):
		return &connError{errProtocol, "frame_on_idle_stream"}
	case h == nil && !c.wasReset(f.stream):
		c.wbuf = appendRSTStream(c.output(), f.stream, errStreamClosed)
		c.noteReset(f.stream)
		c.batch.add(c)
		c.batch.credits = append(c.batch.credits, creditDue{c, f.stream, f.length})
		return c.guard.control()
	case h == nil:
		c.batch.credits = append(c.batch.credits, creditDue{c, f.stream, f.length})
		return nil
	case h.recvEnd:
		c.fault(h, errStreamClosed, "data_after_end")
		overhead = f.length
	default:
		d.sink = h.sink
		if h.recvWindow -= int64(f.length); h.recvWindow < 0 {
			c.fault(h, errFlowControl, "stream_window")
			d.sink, overhead = nil, f.length
		}
	}
	if overhead > 0 {
		c.batch.credits = append(c.batch.credits, creditDue{c, f.stream, overhead})
	}
	return nil
}

// moreData relays what has come of a DATA frame.
func (c *conn) moreData() {
	d := &c.data
	n := min(d.left, c.in.Len())
	sink, last := d.sink, n == d.left
	if last && sink != nil && d.end {
		c.mu.Lock()
		if h := c.streams[d.stream]; h != nil {
			c.recvEnded(h)
		} else {
			sink = nil // reset meanwhile
			c.batch.credits = append(c.batch.credits, creditDue{c, d.stream, n})
		}
		c.mu.Unlock()
	}
	if sink != nil && (n > 0 || last && d.end) {
		sink.onData(&c.batch, c, d.stream, c.in.Bytes()[:n], last && d.end)
	}
	c.in.Skip(n)
	d.left -= n
	if last {
		d.sink, d.end = nil, false
		n = min(d.pad, c.in.Len())
		c.in.Skip(n)
		d.pad -= n
	}
}

// recvEnded notes the peer's END_STREAM. The lock is held.
func (c *conn) recvEnded(h *half) {
	h.recvEnd = true
	if h.sentEnd {
		c.drop(&c.batch, h)
	}
}

func (c *conn) onHeaders(f frameHead, p []byte) error {
	if f.stream == 0 || !c.client && f.stream%2 == 0 {
		return &connError{errProtocol, "headers_stream_id"}
	}
	p, ok := unpad(f, p)
	if !ok {
		return &connError{errProtocol, "padding"}
	}
	if f.has(flagPriority) {
		if len(p) < 5 {
			return &connError{errFrameSize, "priority_size"}
		}
		if binary.BigEndian.Uint32(p)&maxStreamID == f.stream {
			return &connError{errProtocol, "priority_on_itself"}
		}
		p = p[5:]
	}
	if f.has(flagEndHeaders) {
		return c.onBlock(f, p)
	}
	c.block = append(c.block[:0], p...)
	c.blockHead, c.continuations = f, 1
	return nil
}

func (c *conn) onContinuation(f frameHead, p []byte) error {
	if c.continuations == 0 || f.stream != c.blockHead.stream {
		return &connError{errProtocol, "continuation_unexpected"}
	}
	c.continuations++
	// The block must be decoded to its end whatever becomes of it, for the
	// dynamic table's sake, so its bytes are bounded well above the list's.
	if c.continuations > maxContinuations || len(c.block)+len(p) > 2*c.server.o.MaxHeaderBytes+maxFrame {
		return &connError{errEnhanceYourCalm, "continuation_flood"}
	}
	c.block = append(c.block, p...)
	if !f.has(flagEndHeaders) {
		return nil
	}
	c.continuations = 0
	err := c.onBlock(c.blockHead, c.block)
	if cap(c.block) > 4*maxKept {
		c.block = nil
	}
	return err
}

// emit takes one decoded field.
func (c *conn) emit(f hpack.HeaderField) {
	if c.listSize += int(f.Size()); c.listSize > c.server.o.MaxHeaderBytes {
		c.tooLarge = true
		c.dec.SetEmitEnabled(false)
		return
	}
	c.head.fields = append(c.head.fields, f)
}

// onBlock handles a whole header block.
func (c *conn) onBlock(f frameHead, block []byte) error {
	c.head.fields, c.listSize, c.tooLarge = c.head.fields[:0], 0, false
	c.dec.SetEmitEnabled(true)
	if _, err := c.dec.Write(block); err != nil || c.dec.Close() != nil {
		return &connError{errCompression, "hpack"}
	}
	c.guard.controls.earn()
	end := f.has(flagEndStream)
	c.mu.Lock()
	h := c.streams[f.stream]
	if h == nil && !c.client && f.stream > c.lastPeer {
		c.lastPeer = f.stream
		c.mu.Unlock()
		c.server.accept(c, f.stream, end)
		return nil
	}
	defer func() { clear(c.head.fields[:cap(c.head.fields)]) }()
	switch {
	case h == nil:
		defer c.mu.Unlock()
		switch {
		case c.wasReset(f.stream):
			return c.guard.control()
		case c.idle(f.stream):
			return &connError{errProtocol, "frame_on_idle_stream"}
		}
		return &connError{errStreamClosed, "headers_after_end"}
	case h.recvEnd:
		c.fault(h, errStreamClosed, "headers_after_end")
	case !c.client && !end:
		c.fault(h, errProtocol, "trailers_without_end")
	case c.tooLarge:
		c.fault(h, errEnhanceYourCalm, "header_list_size")
	default:
		if end {
			c.recvEnded(h)
		}
		sink := h.sink
		c.mu.Unlock()
		sink.onHeaders(&c.batch, c, f.stream, &c.head, end)
		return nil
	}
	c.mu.Unlock()
	return nil
}

func (c *conn) onPriority(f frameHead, p []byte) error {
	if f.stream == 0 {
		return &connError{errProtocol, "priority_on_connection"}
	}
	if len(p) != 5 {
		return &connError{errFrameSize, "priority_size"}
	}
	if binary.BigEndian.Uint32(p)&maxStreamID == f.stream {
		return &connError{errProtocol, "priority_on_itself"}
	}
	return c.guard.control()
}

func (c *conn) onRSTStream(f frameHead, p []byte) error {
	if f.stream == 0 {
		return &connError{errProtocol, "rst_on_connection"}
	}
	if len(p) != 4 {
		return &connError{errFrameSize, "rst_size"}
	}
	code := errCode(binary.BigEndian.Uint32(p))
	c.mu.Lock()
	h := c.streams[f.stream]
	if h == nil {
		defer c.mu.Unlock()
		if c.idle(f.stream) {
			return &connError{errProtocol, "frame_on_idle_stream"}
		}
		return c.guard.control()
	}
	why := causeReset
	if code == errRefusedStream && c.client {
		why = causeRefused
	}
	sink, early := h.sink, !c.client && !h.begun
	c.guard.resets.left = min(c.guard.resets.left+c.completed, resetBudget)
	c.completed = 0
	c.drop(&c.batch, h)
	c.mu.Unlock()
	sink.onReset(&c.batch, c, f.stream, code, why)
	if early {
		return c.guard.reset()
	}
	return c.guard.control()
}

func (c *conn) onPing(f frameHead, p []byte) error {
	if f.stream != 0 {
		return &connError{errProtocol, "ping_on_stream"}
	}
	if len(p) != 8 {
		return &connError{errFrameSize, "ping_size"}
	}
	if f.has(flagACK) {
		c.drained(p)
		return nil
	}
	c.mu.Lock()
	c.wbuf = appendPing(c.output(), flagACK, p)
	c.mu.Unlock()
	c.batch.add(c)
	return c.guard.control()
}
