package tcp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/proxy/netio"
)

// Side says who ended a joined pair of connections.
type Side uint8

// What can end a pair.
const (
	// Neither broke it: both directions came to their end in order.
	Neither Side = iota
	Downstream
	Upstream
	// Idle: no byte went either way for the idle time.
	Idle
	// Stopped: the context ended.
	Stopped
)

func (s Side) String() string {
	return [...]string{"neither", "downstream", "upstream", "idle", "stopped"}[s]
}

// Join carries bytes both ways until both directions have ended, one side
// breaks, no byte goes either way for idle (0: no limit), or ctx ends. The end
// of one direction is passed on and leaves the other alone (half-close). in is
// what the upstream took from the downstream, out the reverse.
//
// Join closes neither connection, but does not leave them usable: when one side
// was reset, closing the other resets it as well, so that each end learns what
// happened to the other. A pair of plain sockets holds no memory of its own while
// no bytes are there; an end that is TLS holds one buffer.
func Join(ctx context.Context, downstream, upstream *netio.Conn, idle time.Duration) (in, out int64, err Side) {
	p := newPair(downstream, upstream)
	ended := p.run(ctx, idle)
	return p.in.moved.Load(), p.out.moved.Load(), ended
}

// pair is two connections while they are joined.
type pair struct {
	in, out direction // from downstream to upstream, and back
	greeted func()    // may be nil: the upstream spoke first

	ended  atomic.Uint32 // Side plus one of the first cause to stop; 0 while none
	active atomic.Int64  // netio.Now of the last byte
}

// direction is one way through the pair, served by one goroutine.
type direction struct {
	pair         *pair
	from, to     *netio.Conn
	source, sink Side
	moved        atomic.Int64
	firstByte    atomic.Int64 // netio.Now, 0 before it
	spoke        atomic.Bool  // the source sent something
	buffer       netio.Buffer
	spliced      *splice // nil unless both ends are plain sockets
}

func newPair(downstream, upstream *netio.Conn) *pair {
	p := &pair{}
	p.in = direction{pair: p, from: downstream, to: upstream, source: Downstream, sink: Upstream}
	p.out = direction{pair: p, from: upstream, to: downstream, source: Upstream, sink: Downstream}
	return p
}

func (p *pair) run(ctx context.Context, idle time.Duration) Side {
	p.active.Store(netio.Now())
	for _, c := range []*netio.Conn{p.in.from, p.in.to} {
		_ = c.SetDeadline(time.Time{}) // what an earlier stage set; a closed one shows below
	}
	defer context.AfterFunc(ctx, func() { p.stop(Stopped) })()
	if idle > 0 {
		w := &watch{pair: p, idle: idle}
		w.start()
		defer w.stop()
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		p.out.carry()
	}()
	p.in.carry()
	<-back
	if ended := p.ended.Load(); ended != 0 {
		return Side(ended - 1)
	}
	return Neither
}

// stop ends both directions; the first cause counts.
func (p *pair) stop(why Side) {
	if !p.ended.CompareAndSwap(0, uint32(why)+1) {
		return
	}
	switch why {
	case Downstream:
		ResetOnClose(p.in.to)
	case Upstream:
		ResetOnClose(p.in.from)
	}
	past := time.Unix(1, 0)
	_ = p.in.from.SetDeadline(past) // fails only for what is closed, whose goroutines end too
	_ = p.in.to.SetDeadline(past)
}

// ResetOnClose makes the coming Close a reset (RST): the peer is to see that the
// connection was broken off, not ended. Bytes that were not sent yet are lost.
func ResetOnClose(c net.Conn) {
	for {
		switch inner := c.(type) {
		case *netio.Conn:
			c = inner.Conn
		case *tls.Conn:
			c = inner.NetConn()
		case interface{ SetLinger(int) error }:
			_ = inner.SetLinger(0) // a closed socket has nothing left to reset
			return
		default:
			return
		}
	}
}

// carry moves bytes until the source ends or something breaks.
func (d *direction) carry() {
	defer d.buffer.Free()
	if !d.sendEarly() {
		return
	}
	d.spliced = newSplice(d.from, d.to, d.took)
	for {
		n, blame, err := d.once()
		if n > 0 {
			d.note(n)
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF) && blame == d.source:
			// The peer may be gone already, which is what it is told.
			_ = d.to.CloseWrite()
		case errors.Is(err, os.ErrDeadlineExceeded) && d.pair.ended.Load() != 0:
		case errors.Is(err, net.ErrClosed): // by the owner
			d.pair.stop(Stopped)
		default:
			d.pair.stop(blame)
		}
		return
	}
}

// once moves what is there. blame is the side of an error.
func (d *direction) once() (n int64, blame Side, err error) {
	if d.spliced != nil {
		n, blame, err = d.spliced.move(d.source, d.sink)
		if !errors.Is(err, errCannotSplice) {
			return n, blame, err
		}
		d.spliced = nil // nothing was taken from the source
	}
	if err := d.from.Fill(&d.buffer); err != nil {
		if d.from.Plain() {
			d.buffer.Free()
		}
		return 0, d.source, err
	}
	d.took()
	sent, err := d.to.Write(d.buffer.Bytes())
	d.buffer.Skip(d.buffer.Len())
	if d.from.Plain() {
		d.buffer.Free()
	}
	return int64(sent), d.sink, err
}

// sendEarly sends what detection or an HTTP head's buffer had read already.
func (d *direction) sendEarly() bool {
	early := d.from.TakeEarly()
	if len(early) == 0 {
		return true
	}
	d.took()
	n, err := d.to.Write(early)
	d.note(int64(n))
	if err != nil {
		d.pair.stop(d.sink)
	}
	return err == nil
}

// took notes that the source has spoken, before what it said goes on: what the
// other end says now cannot be an answer to it.
func (d *direction) took() {
	if d.spoke.Load() {
		return
	}
	d.spoke.Store(true)
	if d.source == Upstream && d.pair.greeted != nil && !d.pair.in.spoke.Load() {
		d.pair.greeted()
	}
}

func (d *direction) note(n int64) {
	now := netio.Now()
	d.moved.Add(n)
	d.firstByte.CompareAndSwap(0, now)
	d.pair.active.Store(now)
}
