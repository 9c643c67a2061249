package http2

import (
	"context"
	"crypto/tls"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

const (
	// maxConns to one upstream address, when its peers limit the streams of a
	// connection.
	maxConns = 64
	// spreadAbove is how many streams the emptiest connection must have for
	// another one to be opened, one for each core: one connection is read by one
	// goroutine.
	spreadAbove = 64
	// maxWaiting streams for a connection to one address; beyond it they are
	// answered at once (Envoy's flag UO).
	maxWaiting     = 4096
	connectTimeout = 5 * time.Second
)

// pool is the upstream connections by address.
type pool struct {
	server *Server
	ctx    context.Context // of dialing
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu     sync.RWMutex // guards the fields below
	sets   map[setKey]*set
	closed bool
}

type setKey struct {
	address string
	tls     *tls.Config
}

// set is the connections to one address.
type set struct {
	pool   *pool
	key    setKey
	queued atomic.Int32 // len(waiting), to look at without the lock

	mu      sync.Mutex // guards the fields below
	conns   []*conn
	dialing int
	waiting []waiter
	dead    bool // no longer in the pool
}

// waiter is a stream that waits for a connection; turn tells whether it still
// does.
type waiter struct {
	client opener
	turn   uint64
	limits *exchange.Limits // where it holds a place; may be nil
}

// leave gives the place back.
func (w *waiter) leave() {
	if w.limits != nil {
		w.limits.Pending.Leave()
	}
}

// opener is who opens streams upstream.
type opener interface {
	// admitted tries again to be placed and reports false if it must go on
	// waiting. It is called with no lock held.
	admitted(b *batch, turn uint64) bool
	// unreachable says that there is no connection.
	unreachable(b *batch, turn uint64, err error)
}

func newPool(s *Server) *pool {
	p := &pool{server: s, sets: map[setKey]*set{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// set returns the address's set, a new one if need be; nil once closed.
func (p *pool) set(k setKey) *set {
	p.mu.RLock()
	s := p.sets[k]
	closed := p.closed
	p.mu.RUnlock()
	if s != nil || closed {
		return s
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s = p.sets[k]; s == nil && !p.closed {
		s = &set{pool: p, key: k}
		p.sets[k] = s
	}
	return s
}

// placement is what became of a try to open a stream.
type placement uint8

const (
	placed   placement = iota
	waits              // the opener will be told
	overflow           // too many wait
)

// open opens a stream for half h on one of the target's connections, or has the
// opener wait for one.
func (p *pool) open(b *batch, t exchange.Target, h *half, head []hpack.HeaderField, end bool, w waiter) placement {
	for {
		s := p.set(setKey{t.Address, t.TLS})
		if s == nil {
			return overflow
		}
		if result, ok := s.open(b, t, h, head, end, w); ok {
			return result
		}
	}
}

// open is the pool's for one set; false means that the set has left the pool.
func (s *set) open(b *batch, t exchange.Target, h *half, head []hpack.HeaderField, end bool, w waiter) (placement, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return overflow, false
	}
	best := s.emptiest()
	if best != nil && best.load.Load() >= spreadAbove && len(s.conns)+s.dialing < runtime.GOMAXPROCS(0) {
		s.dial(t)
	}
	if best != nil && best.open(b, h, head, end) {
		return placed, true
	}
	for _, c := range s.conns {
		if c != best && c.open(b, h, head, end) {
			return placed, true
		}
	}
	if len(s.waiting) >= maxWaiting || t.Limits != nil && !t.Limits.Pending.Enter() {
		return overflow, true
	}
	w.limits = t.Limits
	s.waiting = append(s.waiting, w)
	s.queued.Store(int32(len(s.waiting)))
	if len(s.conns)+s.dialing < maxConns && s.dialing*initialConcurrent < len(s.waiting) {
		s.dial(t)
	}
	return waits, true
}

func (s *set) emptiest() *conn {
	var best *conn
	least := int32(1<<31 - 1)
	for _, c := range s.conns {
		if n := c.load.Load(); n < least {
			best, least = c, n
		}
	}
	return best
}

// dial opens another connection if the service may have one more. An address
// without any gets its first all the same, as Envoy does it: nothing would ever
// come for those that wait. The lock is held.
func (s *set) dial(t exchange.Target) {
	counted := t.Limits != nil && t.Limits.Connections.Enter()
	if t.Limits != nil && !counted && len(s.conns)+s.dialing > 0 {
		return
	}
	s.dialing++
	t.Endpoint = nil // the attempt's, not the connection's
	s.pool.wait.Go(func() {
		if counted {
			defer t.Limits.Connections.Leave()
		}
		limit := t.Timeouts.Connect
		if limit <= 0 {
			limit = connectTimeout
		}
		ctx, cancel := context.WithTimeout(s.pool.ctx, limit)
		raw, err := s.pool.server.o.Dial(ctx, t)
		cancel()
		var b batch
		if err != nil {
			s.failed(&b, err)
			b.run()
			return
		}
		c := newConn(s.pool.server, netio.New(raw, nil), true)
		c.set, c.limits = s, t.Limits
		s.pool.server.o.Gauges.PoolOpen.Add(1)
		s.pool.server.o.Gauges.PoolIdle.Add(1)
		s.mu.Lock()
		s.dialing--
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		stop := context.AfterFunc(s.pool.ctx, c.stop)
		b.freed = append(b.freed, s)
		b.run()
		_ = c.run() // its streams were told
		stop()
		s.pool.server.o.Gauges.PoolIdle.Add(-1)
		s.pool.server.o.Gauges.PoolOpen.Add(-1)
	})
}

// failed tells the waiting streams that no connection could be opened, unless
// there is another hope for them.
func (s *set) failed(b *batch, err error) {
	s.mu.Lock()
	s.dialing--
	var lost []waiter
	if s.dialing == 0 && len(s.conns) == 0 {
		lost, s.waiting = s.waiting, nil
		s.queued.Store(0)
		s.forget()
	}
	s.mu.Unlock()
	for _, w := range lost {
		w.leave()
		w.client.unreachable(b, w.turn, err)
	}
}

// remove takes a connection that ends out of the set.
func (s *set) remove(b *batch, c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = slices.DeleteFunc(s.conns, func(other *conn) bool { return other == c })
	if len(s.waiting) > 0 {
		b.freed = append(b.freed, s)
		return
	}
	s.forget()
}

// forget takes an unused set out of the pool: addresses come and go.
func (s *set) forget() {
	if s.dead || len(s.conns) > 0 || s.dialing > 0 || len(s.waiting) > 0 {
		return
	}
	s.dead = true
	s.pool.mu.Lock()
	delete(s.pool.sets, s.key)
	s.pool.mu.Unlock()
}

// wake lets waiting streams try again.
func (s *set) wake(b *batch) {
	for tries := s.queued.Load(); tries > 0; tries-- {
		s.mu.Lock()
		if len(s.waiting) == 0 {
			s.mu.Unlock()
			return
		}
		w := s.waiting[0]
		s.waiting[0] = waiter{}
		s.waiting = s.waiting[1:]
		s.queued.Store(int32(len(s.waiting)))
		s.mu.Unlock()
		w.leave()
		if !w.client.admitted(b, w.turn) {
			return
		}
	}
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.wait.Wait()
}

// open opens a stream on an upstream connection with h's head; what h has queued
// follows. An END_STREAM that did not come with the head does not go with it
// either: gRPC servers in Go take only that of DATA for the end of the messages.
// It reports false if the connection takes no more streams.
func (c *conn) open(b *batch, h *half, head []hpack.HeaderField, end bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expired() {
		c.retire()
	}
	if c.draining || c.nextID > maxStreamID || len(c.streams) >= c.mostStreams() || len(c.wbuf)+c.unwritten > overloadedAbove {
		return false
	}
	id := c.nextID
	c.nextID += 2
	h.attach(c, id)
	c.encode(id, head, end)
	b.add(c)
	switch {
	case end:
		c.outEnded(b, h)
	case h.pending() > 0:
		c.schedule(h)
		c.pump(b)
	case len(h.trailers) > 0:
		c.finishQueue(b, h)
	case h.end:
		c.writeData(b, h, nil, true)
		c.outEnded(b, h)
	}
	if c.opened++; c.limits != nil && c.limits.PerConnection > 0 && c.opened >= c.limits.PerConnection {
		c.retire()
	}
	return true
}

// mostStreams is what may be open at once on an upstream connection.
func (c *conn) mostStreams() int {
	most := int64(c.peer.maxConcurrent)
	if c.limits != nil && c.limits.Streams > 0 {
		most = min(most, c.limits.Streams)
	}
	return int(most)
}

// expired reports that an upstream connection is older than its service's may be.
func (c *conn) expired() bool {
	return c.limits != nil && c.limits.Lifetime > 0 && !c.draining && netio.Now()-c.born > int64(c.limits.Lifetime)
}

// retire has an upstream connection end with the last of its streams.
func (c *conn) retire() {
	c.draining, c.final = true, true
	if len(c.streams) == 0 {
		c.stopLocked()
	}
}
