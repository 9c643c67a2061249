package http2

import (
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"
)

const (
	// pausedAbove stops the reading of a connection whose peer does not take
	// what its own frames cause: answers, acknowledgements, resets.
	pausedAbove = 256 << 10
	// overloadedAbove keeps new streams off a connection.
	overloadedAbove = 1 << 20
	// writeTimeout ends a connection whose socket takes nothing.
	writeTimeout = 30 * time.Second
	// closeTimeout is for the last words of a connection.
	closeTimeout = time.Second
)

// outputSize is a pooled output buffer: an outputLimit and a frame beyond it.
const outputSize = outputLimit + maxFrame + 4<<10

var outputs = sync.Pool{New: func() any { return new([outputSize]byte) }}

// output is what a frame is appended to, with the lock held.
func (c *conn) output() []byte {
	if c.wbuf == nil {
		c.wbuf = outputs.Get().(*[outputSize]byte)[:0]
	}
	return c.wbuf
}

func release(buf []byte) {
	if cap(buf) == outputSize {
		outputs.Put((*[outputSize]byte)(buf[:outputSize]))
	}
}

// encode writes a header block in wire order, for the dynamic table is shared.
// The lock is held.
func (c *conn) encode(id uint32, fields []hpack.HeaderField, end bool) {
	start := len(c.output())
	c.wbuf = appendFrameHead(c.wbuf, 0, 0, 0, 0)
	c.wbuf = c.enc.begin(c.wbuf)
	for i := range fields {
		c.wbuf = c.enc.field(c.wbuf, &fields[i])
	}
	var flags byte
	if end {
		flags = flagEndStream
	}
	length := len(c.wbuf) - start - frameHeaderSize
	if length <= maxFrame {
		appendFrameHead(c.wbuf[:start], length, frameHeaders, flags|flagEndHeaders, id)
		return
	}
	block := append([]byte(nil), c.wbuf[start+frameHeaderSize:]...)
	c.wbuf = c.wbuf[:start]
	for kind := byte(frameHeaders); len(block) > 0; kind, flags = frameContinuation, 0 {
		n := min(len(block), maxFrame)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		c.wbuf = append(appendFrameHead(c.wbuf, n, kind, flags, id), block[:n]...)
		block = block[n:]
	}
}

// flush writes the output out, without waiting: what the socket does not take is
// left to a goroutine that ends when all is written. No lock may be held.
func (c *conn) flush(b *batch) {
	c.mu.Lock()
	if c.writing || c.finished || len(c.wbuf) == 0 {
		c.mu.Unlock()
		return
	}
	c.writing = true
	for {
		buf := c.take()
		c.mu.Unlock()
		n, err := c.io.TryWrite(buf)
		if err == nil && n < len(buf) {
			c.writeLater(buf, n)
			return
		}
		if !c.written(b, buf, err) {
			return
		}
	}
}

// writeLater starts a goroutine for a slow socket, unless nobody would wait for
// it any more.
func (c *conn) writeLater(buf []byte, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finished {
		c.writing = false
		return
	}
	c.writers.Go(func() { c.writeRest(buf, n) })
}

// take empties the output into the caller's hands, with the lock held.
func (c *conn) take() []byte {
	buf := c.wbuf
	c.wbuf, c.unwritten = nil, len(buf)
	return buf
}

// written follows a write. It reports whether there is more, and if so returns
// with the lock held.
func (c *conn) written(b *batch, buf []byte, err error) bool {
	release(buf)
	c.mu.Lock()
	c.unwritten = 0
	if err != nil {
		c.broken = true
		c.wbuf = nil
		_ = c.io.SetReadDeadline(past) // the reader ends the connection
	}
	if !c.broken {
		c.pump(b)
	}
	if len(c.wbuf) > 0 && !c.broken {
		if c.paused && len(c.wbuf) < pausedAbove {
			c.room.Broadcast()
		}
		return true
	}
	c.writing = false
	c.room.Broadcast()
	c.mu.Unlock()
	return false
}

// writeRest writes to a socket that is slow.
func (c *conn) writeRest(buf []byte, n int) {
	var b batch
	for {
		_ = c.io.SetWriteDeadline(time.Now().Add(c.patience()))
		_, err := c.io.Write(buf[n:])
		if err == nil {
			_ = c.io.SetWriteDeadline(time.Time{}) // TryWrite would fail on one that has passed
		}
		if !c.written(&b, buf, err) {
			break
		}
		buf, n = c.take(), 0
		c.mu.Unlock()
		b.run() // while this goroutine is the writer, the batch cannot flush c itself
	}
	b.run()
}

func (c *conn) patience() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return closeTimeout
	}
	return writeTimeout
}

// waitRoom holds the reader back while the peer does not take what we owe it.
func (c *conn) waitRoom() {
	c.mu.Lock()
	for len(c.wbuf)+c.unwritten > pausedAbove && c.writing && !c.broken && !c.stopped {
		c.paused = true
		c.room.Wait()
	}
	c.paused = false
	c.mu.Unlock()
}

// past is a deadline that wakes whoever waits.
var past = time.Unix(1, 0)
