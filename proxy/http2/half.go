package http2

import "golang.org/x/net/http2/hpack"

// half is a stream on one connection: what has been received on it and what
// waits to be sent. Its connection's lock guards it once it is attached; before
// that, and for c and id always, its owner's does too.
type half struct {
	c    *conn
	id   uint32
	sink sink

	// src is where the bytes that go out here came from: who gets the credit.
	src   *conn
	srcID uint32

	sendWindow int64
	recvWindow int64
	credit     int // bytes forwarded and not yet credited to the peer

	queue    []byte // waits for a window or for room in the output
	off      int    // of queue, what has gone out
	trailers []hpack.HeaderField
	end      bool // END_STREAM follows the queue, on the trailers if there are any
	// quiet: once END_STREAM has gone out, the peer need not finish its own side.
	quiet bool
	// watched: onSent also tells when the queue has gone out.
	watched bool

	recvEnd, sentEnd bool
	begun            bool // a header block went out
	closed           bool // no longer on the connection

	next, prev *half // in the connection's list of halves that can send
	listed     bool
}

// sink is told what comes in for a stream. The calls for one connection come
// from its reader, except for onSent. None is made with a connection's lock held.
// A sink drops calls for a half that it has given up: c and id never recur.
type sink interface {
	// onHeaders may take the list's fields by swapping them out.
	onHeaders(b *batch, c *conn, id uint32, l *fieldList, end bool)
	// onData must not keep p.
	onData(b *batch, c *conn, id uint32, p []byte, end bool)
	// onReset says that the half is gone from its connection.
	onReset(b *batch, c *conn, id uint32, code errCode, why cause)
	// onSent says that a queued END_STREAM has gone out.
	onSent(b *batch, c *conn, id uint32)
}

// cause is why a half ended before its time.
type cause uint8

const (
	causeReset     cause = iota // the peer sent RST_STREAM
	causeRefused                // REFUSED_STREAM or a GOAWAY that left the stream out
	causeLost                   // the connection ended
	causeMalformed              // we reset it for what the peer sent
)

func (h *half) pending() int { return len(h.queue) - h.off }

// attach makes the half part of c, with c's lock held. What was queued stays.
func (h *half) attach(c *conn, id uint32) {
	h.c, h.id = c, id
	h.sendWindow, h.recvWindow, h.credit = c.peer.initialWindow, streamWindow, 0
	h.recvEnd, h.sentEnd, h.begun, h.closed = false, false, false, false
	c.streams[id] = h
	c.load.Add(1)
	if len(c.streams) == 1 {
		c.busy()
	}
}

// hold queues what cannot go out yet.
func (h *half) hold(p []byte) {
	if h.off > 0 && h.off >= len(h.queue)/2 {
		h.queue = h.queue[:copy(h.queue, h.queue[h.off:])]
		h.off = 0
	}
	h.queue = append(h.queue, p...)
}

// maxKept is the largest buffer that an ended stream keeps for its next use.
const maxKept = 4 << 10

// clean makes an ended half ready for another stream.
func (h *half) clean() {
	queue, trailers := h.queue[:0], h.trailers[:0]
	if cap(queue) > maxKept {
		queue = nil
	}
	clear(h.trailers)
	*h = half{queue: queue, trailers: trailers}
}
