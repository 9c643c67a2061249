package tcp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 20 * time.Second

// decider sends every connection to the targets in turn, and keeps what it saw.
type decider struct {
	targets []exchange.Target
	reply   *exchange.Reply
	seen    func(*exchange.Exchange)
	stands  chan struct{} // one for each connection that its caller has: a reset must not meet the connect

	responses atomic.Int64

	mu    sync.Mutex // guards the field below
	tried int
	ended chan record.Record
}

func (d *decider) Begin(_ context.Context, x *exchange.Exchange) (exchange.Target, *exchange.Reply) {
	<-d.stands
	if d.seen != nil {
		d.seen(x)
	}
	x.Request.Set("x", "y")
	if d.reply != nil {
		return exchange.Target{}, d.reply
	}
	return d.targets[0], nil
}

func (d *decider) Waits() bool { return false }

func (d *decider) Retry(*exchange.Exchange, exchange.Outcome) (exchange.Target, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tried++
	if d.tried >= len(d.targets) {
		return exchange.Target{}, false
	}
	return d.targets[d.tried], true
}

func (d *decider) Respond(*exchange.Exchange) { d.responses.Add(1) }

func (d *decider) End(x *exchange.Exchange) { d.ended <- x.Record }

// endpoint keeps the outcomes that it was told.
type endpoint chan exchange.Outcome

func (e endpoint) Done(o exchange.Outcome) { e <- o }

// opaque hides that a connection is a socket, as TLS does.
type opaque struct {
	net.Conn
	half interface{ CloseWrite() error }
}

func (o opaque) CloseWrite() error { return o.half.CloseWrite() }

func (o opaque) SetLinger(s int) error { return o.Conn.(*net.TCPConn).SetLinger(s) }

func hide(c net.Conn) net.Conn { return opaque{c, c.(*net.TCPConn)} }

// rig is a server on loopback.
type rig struct {
	t       *testing.T
	handler *decider
	address string
	gauges  exchange.Gauges
	stop    context.CancelFunc
	wait    sync.WaitGroup
}

// newRig starts a server whose connections go to the targets. Options and facts
// may be changed by the edits.
func newRig(t *testing.T, wrap func(net.Conn) net.Conn, o Options, f Facts, targets ...exchange.Target) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{t: t, address: l.Addr().String(), stop: cancel, handler: &decider{targets: targets, stands: make(chan struct{}, 16), ended: make(chan record.Record, 16)}}
	o.Handler, o.Gauges = r.handler, &r.gauges
	server := New(o)
	r.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.wait.Go(func() {
				facts := f
				facts.Downstream = c.RemoteAddr().String()
				server.Serve(ctx, netio.New(wrap(c), nil), facts)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		r.wait.Wait()
		if n := r.gauges.InFlight.Load() + r.gauges.PoolOpen.Load() + r.gauges.Pending.Load(); n != 0 {
			t.Errorf("gauges end at %d, want 0", n)
		}
	})
	return r
}

func plain(c net.Conn) net.Conn { return c }

func (r *rig) dial() *net.TCPConn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	r.handler.stands <- struct{}{}
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func (r *rig) record() record.Record {
	r.t.Helper()
	select {
	case rec := <-r.handler.ended:
		return rec
	case <-time.After(patience):
		r.t.Fatal("the exchange does not end")
		panic("unreachable")
	}
}

// upstream serves each connection with f and closes it.
func upstream(t *testing.T, f func(c *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				f(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { l.Close(); wait.Wait() })
	return l.Addr().String()
}

// refused is an address at which nothing listens.
func refused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func wantReset(t *testing.T, c net.Conn, who string) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s sees %v, want a reset", who, err)
	}
}

var somewhere = netip.MustParseAddrPort("10.1.2.3:5432")
