package http2

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// conn is one connection, of either side. Its reader goroutine runs run; all
// else may be called by any goroutine.
type conn struct {
	io     *netio.Conn
	server *Server
	client bool // we opened it, to an upstream
	facts  ConnFacts
	shard  uint8           // of its exchanges
	ctx    context.Context // of a downstream connection's Serve, for Begin
	set    *set            // of an upstream connection

	// The reader's.
	in            netio.Buffer
	dec           *hpack.Decoder
	head          fieldList // of the block being decoded
	listSize      int
	tooLarge      bool
	block         []byte // a header block in several frames
	blockHead     frameHead
	continuations int // of the open block; 0 if none is open
	data          dataFrame
	settled       bool // the first SETTINGS came
	guard         guard
	batch         batch
	lookTimer     *time.Timer

	looking  atomic.Bool    // lookTimer is set
	load     atomic.Int32   // streams
	writers  sync.WaitGroup // of the output
	deciders sync.WaitGroup // goroutines in which Begin waits, and bridges

	mu         sync.Mutex // guards the fields below
	room       sync.Cond
	enc        encoder
	wbuf       []byte
	unwritten  int // bytes in a writer's hands
	writing    bool
	paused     bool
	broken     bool // writing failed
	closed     bool // nothing is sent any more
	finished   bool // nothing is written any more
	stopped    bool // the reader shall end the connection
	draining   bool // no new streams
	final      bool // both sides know the last stream: the end comes with it
	warned     bool // the first GOAWAY of a drain was sent
	completed  int  // streams, for the budget of resets
	streams    map[uint32]*half
	first      *half // halves that can send, in turn
	last       *half
	peer       peerSettings
	sendWindow int64
	recvCredit int
	recvWindow int64
	lastPeer   uint32 // highest stream the peer opened
	nextID     uint32 // of the next stream that we open
	resets     [64]uint32
	resetNext  int
	idleSince  int64
	born       int64
	opened     int64            // streams, upstream
	limits     *exchange.Limits // of the upstream's service; may be nil
	idleTimer  *time.Timer
	free       []*stream // ended, for the next ones
}

func newConn(s *Server, io *netio.Conn, client bool) *conn {
	c := &conn{
		io: io, server: s, client: client, guard: newGuard(), streams: map[uint32]*half{},
		peer:       peerSettings{initialWindow: defaultWindow, maxConcurrent: initialConcurrent},
		sendWindow: defaultWindow, recvWindow: connWindow, nextID: 1, idleSince: netio.Now(),
	}
	c.born = c.idleSince
	c.room.L = &c.mu
	c.enc.limit = headerTable
	c.dec = hpack.NewDecoder(headerTable, c.emit)
	if client {
		c.wbuf = append(c.output(), preface...)
	}
	c.wbuf = c.appendSettings(c.output())
	return c
}

// run reads until the connection ends, and returns when nothing of it is left.
func (c *conn) run() error {
	c.batch.add(c)
	c.batch.run()
	c.startIdle()
	err := c.read()
	if c.lookTimer != nil {
		c.lookTimer.Stop()
	}
	c.finish(err)
	return err
}

func (c *conn) read() error {
	if !c.client {
		if err := c.readPreface(); err != nil {
			return err
		}
	}
	var failed error
	use := func() bool {
		if failed = c.use(); c.in.Len() == 0 {
			c.in.Free() // a silent connection holds no memory
		}
		return failed == nil && !c.in.Full()
	}
	for {
		if use(); failed != nil {
			return failed
		}
		each, err := c.io.Each(&c.in, use)
		if failed != nil {
			return failed
		}
		if !each || err == nil {
			err = c.io.Fill(&c.in)
		}
		if err != nil {
			return err
		}
	}
}

// use handles what was read.
func (c *conn) use() error {
	err := c.consume()
	c.batch.run()
	c.lookLater()
	if err == nil {
		c.waitRoom()
	}
	return err
}

func (c *conn) readPreface() error {
	for {
		b := c.in.Bytes()
		n := min(len(b), len(preface))
		if string(b[:n]) != preface[:n] {
			return &connError{errProtocol, "bad_preface"}
		}
		if n == len(preface) {
			c.in.Skip(n)
			return nil
		}
		if err := c.io.Fill(&c.in); err != nil {
			return err
		}
	}
}

// stop has the reader end the connection. Streams that are open are lost.
func (c *conn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopLocked()
}

func (c *conn) stopLocked() {
	if c.stopped {
		return
	}
	c.stopped, c.draining = true, true
	c.room.Broadcast()
	_ = c.io.SetReadDeadline(past)
}

// finish ends the connection for its streams and its peer.
func (c *conn) finish(err error) {
	c.mu.Lock()
	c.closed, c.draining = true, true
	if c.idleTimer != nil {
		c.idleTimer.Stop()
	}
	for id, h := range c.streams {
		c.batch.resets = append(c.batch.resets, resetDue{sentEnd{h.sink, c, id}, errInternal, causeLost})
		h.closed = true
		c.batch.give(h, h.pending())
	}
	if len(c.streams) > 0 {
		clear(c.streams)
		c.unused(&c.batch)
	}
	c.first, c.last = nil, nil
	var fault *connError
	switch {
	case errors.As(err, &fault):
		c.wbuf = appendGoAway(c.output(), c.lastPeer, fault.code)
	case c.stopped:
		c.wbuf = appendGoAway(c.output(), c.lastPeer, errNo)
	}
	stopped := c.stopped
	_ = c.io.SetWriteDeadline(time.Now().Add(closeTimeout)) // of a writer that waits
	c.mu.Unlock()
	if fault != nil {
		c.server.o.ProtocolError(fault.reason)
	}
	if c.set != nil {
		c.set.remove(&c.batch, c)
	}
	c.batch.add(c)
	c.batch.run()
	// A caller that said GOAWAY may yet have more to say, and what we closed has
	// not heard of it: both have input that nobody will read.
	c.linger(fault != nil || stopped && !c.client)
	c.mu.Lock()
	c.finished = true
	c.mu.Unlock()
	_ = c.io.Close() // nothing more is to be said
	c.writers.Wait()
	c.in.Free()
	c.mu.Lock()
	release(c.wbuf)
	c.wbuf = nil
	free := c.free
	c.free = nil
	c.mu.Unlock()
	for _, st := range free {
		st.retire()
	}
}

// linger lets the peer read our last words: closing with unread input would
// reset the connection under them.
func (c *conn) linger(wait bool) {
	c.mu.Lock()
	for c.writing {
		c.room.Wait()
	}
	c.mu.Unlock()
	if !wait {
		return
	}
	_ = c.io.CloseWrite() // the peer may be gone, which is as well
	_ = c.io.SetReadDeadline(time.Now().Add(closeTimeout / 4))
	c.in.Skip(c.in.Len())
	for range 64 {
		if c.io.Fill(&c.in) != nil {
			return
		}
		c.in.Skip(c.in.Len())
	}
}

// idle reports whether a stream has not been opened yet. The lock is held.
func (c *conn) idle(id uint32) bool {
	if id%2 == 1 && c.client {
		return id >= c.nextID
	}
	return c.client || id%2 == 0 || id > c.lastPeer
}

// noteReset remembers that we reset a stream: what the peer sent before it knew
// is not its fault.
func (c *conn) noteReset(id uint32) {
	c.resets[c.resetNext%len(c.resets)] = id
	c.resetNext++
}

func (c *conn) wasReset(id uint32) bool {
	for _, r := range c.resets {
		if r == id {
			return true
		}
	}
	return false
}

// fault resets a stream for what its peer sent. The lock is held.
func (c *conn) fault(h *half, code errCode, reason string) {
	c.batch.resets = append(c.batch.resets, resetDue{sentEnd{h.sink, c, h.id}, code, causeMalformed})
	c.resetLocked(&c.batch, h, code)
	c.server.o.ProtocolError(reason)
}

// busy and unused follow the first and the last stream.
func (c *conn) busy() {
	if c.client {
		c.server.o.Gauges.PoolIdle.Add(-1)
	}
}

func (c *conn) unused(b *batch) {
	c.idleSince = netio.Now()
	if c.client {
		c.server.o.Gauges.PoolIdle.Add(1)
	}
	if c.final {
		c.stopLocked()
	}
}

// startIdle begins to watch for an unused connection. The timer is set anew when
// it fires, not with each stream.
func (c *conn) startIdle() {
	limit := c.server.o.DownstreamIdle
	if c.client {
		limit = c.server.o.UpstreamIdle
		if l := c.limits; l != nil && l.KeepIdle > 0 {
			limit = min(limit, l.KeepIdle)
		}
	}
	if limit <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idleTimer = time.AfterFunc(limit, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		left := limit
		if len(c.streams) == 0 {
			left -= time.Duration(netio.Now() - c.idleSince)
		}
		switch {
		case c.closed:
		case left <= 0:
			c.stopLocked()
		default:
			c.idleTimer.Reset(left)
		}
	})
}
