package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// fresh is how long an idle connection is taken without a look at its socket.
// Upstreams close connections at their own idle limit, of seconds; the look is a
// system call.
const fresh = 100 * time.Millisecond

// upstream is one connection to an upstream host. It is owned by one exchange or
// by the pool.
type upstream struct {
	*netio.Conn
	in     netio.Buffer
	host   *host     // nil for what is not of the pool
	next   *upstream // below it on the idle stack
	since  int64     // when it became idle
	used   bool      // it has carried a request before
	served int64     // requests
	// doubtful: the last answer had no body, and an upstream that sends one all
	// the same (to HEAD, say) may still be about to.
	doubtful bool
	born     int64
	limits   *exchange.Limits // of its service, where it holds a place; may be nil
}

// pool keeps idle upstream connections, the latest used on top: those below it
// grow old and go.
type pool struct {
	o *Options
	// latest saves looking for the host that the request before went to, as all do
	// that go to the application.
	latest atomic.Pointer[host]

	mu    sync.RWMutex // guards the field below
	hosts map[hostKey]*host
}

type hostKey struct {
	address string
	tls     *tls.Config
}

type host struct {
	key hostKey

	mu   sync.Mutex // guards the fields below
	idle *upstream
	kept int  // on the stack
	out  int  // with exchanges
	gone bool // taken off the pool
}

func (p *pool) init(o *Options) { p.o, p.hosts = o, make(map[hostKey]*host) }

func (p *pool) host(t *exchange.Target) *host {
	k := hostKey{t.Address, t.TLS}
	h := p.latest.Load()
	if h != nil && h.key == k {
		return h
	}
	p.mu.RLock()
	if h = p.hosts[k]; h != nil {
		p.latest.Store(h) // under the lock, or it could come after h was forgotten
	}
	p.mu.RUnlock()
	if h != nil {
		return h
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if h = p.hosts[k]; h == nil {
		h = &host{key: k}
		p.hosts[k] = h
	}
	return h
}

// get takes an idle connection or opens one. With anew it only opens.
func (p *pool) get(ctx context.Context, t *exchange.Target, anew, careful bool, now int64) (*upstream, error) {
	if u := p.kept(t, anew, careful, now); u != nil {
		return u, nil
	}
	return p.open(ctx, t)
}

// overHTTP2 reports a target whose connections are another pool's.
func (p *pool) overHTTP2(t *exchange.Target) bool {
	return t.Protocol == exchange.HTTP2 && p.o.OpenHTTP2 != nil
}

// kept takes an idle connection, nil if there is none. With anew there is none.
func (p *pool) kept(t *exchange.Target, anew, careful bool, now int64) *upstream {
	if anew || p.overHTTP2(t) {
		return nil
	}
	return p.take(p.host(t), careful, now)
}

// open opens a connection. What it returns for an upstream that speaks HTTP/2 is
// for one request and not counted: the connections below it are another pool's.
func (p *pool) open(ctx context.Context, t *exchange.Target) (*upstream, error) {
	if p.overHTTP2(t) {
		return &upstream{Conn: netio.New(newOverHTTP2(ctx, p.o.OpenHTTP2, *t), nil)}, nil
	}
	h := p.host(t)
	p.o.Gauges.Pending.Add(1)
	defer p.o.Gauges.Pending.Add(-1)
	if t.Limits != nil && !t.Limits.Connections.Enter() {
		u, err := p.wait(ctx, h, t)
		if u != nil || err != nil {
			return u, err
		}
	}
	c, err := p.o.Dial(ctx, *t)
	if err != nil {
		if t.Limits != nil {
			t.Limits.Connections.Leave()
		}
		return nil, err
	}
	p.o.Gauges.PoolOpen.Add(1)
	h.mu.Lock()
	h.out++
	h.mu.Unlock()
	return &upstream{Conn: netio.New(c, nil), host: h, limits: t.Limits, born: netio.Now()}, nil
}

// errOverflow: the service has as many connections and waiting requests as it
// may have.
var errOverflow = errors.New("upstream overflow")

const (
	// lookAgain is how often a request that waits looks for a connection. It is
	// the exception, and a place may come free at any of the service's hosts.
	lookAgain   = 2 * time.Millisecond
	defaultWait = 10 * time.Second
)

// wait waits for another request's connection, or for a place for a new one; then
// both results are nil.
func (p *pool) wait(ctx context.Context, h *host, t *exchange.Target) (*upstream, error) {
	if !t.Limits.Pending.Enter() {
		return nil, errOverflow
	}
	defer t.Limits.Pending.Leave()
	most := t.Timeouts.Connect
	if most == 0 {
		most = defaultWait
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		if u := p.take(h, false, netio.Now()); u != nil {
			return u, nil
		}
		if t.Limits.Connections.Enter() {
			return nil, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errOverflow
		}
	}
}

// close ends a connection for good.
func (u *upstream) close() {
	_ = u.Conn.Close() // nothing is under way on it that could still succeed
	u.in.Free()
	if u.limits != nil {
		u.limits.Connections.Leave()
	}
}

// spent reports that a connection may carry no further request.
func (u *upstream) spent(now int64) bool {
	l := u.limits
	return l != nil && (l.PerConnection > 0 && u.served >= l.PerConnection || l.Lifetime > 0 && now-u.born > int64(l.Lifetime))
}

// stale reports that a connection was idle for too long.
func (u *upstream) stale(o *Options, now int64) bool {
	keep := o.UpstreamIdle
	if u.limits != nil && u.limits.KeepIdle > 0 {
		keep = min(keep, u.limits.KeepIdle)
	}
	return now-u.since > int64(keep)
}

// keptBuffers bounds the idle connections of a host that keep their buffer for
// the next request.
const keptBuffers = 64

// take pops the latest idle connection that is still of use. Careful looks at
// each, for a request that could not be sent twice.
func (p *pool) take(h *host, careful bool, now int64) *upstream {
	for {
		h.mu.Lock()
		u := h.idle
		if u == nil {
			h.mu.Unlock()
			return nil
		}
		h.idle, u.next = u.next, nil
		h.kept--
		h.out++
		h.mu.Unlock()
		if careful || u.doubtful || now-u.since > int64(fresh) {
			// Idle too long, or closed, or it spoke without being asked.
			if u.stale(p.o, now) || u.Peer() != netio.Open {
				p.o.Gauges.PoolOpen.Add(-1)
				u.close()
				h.leave()
				continue
			}
		}
		return u
	}
}

// put keeps a connection for the next request.
func (p *pool) put(u *upstream, now int64) {
	if u.host == nil {
		u.close()
		return
	}
	u.used, u.since = true, now
	if u.served++; u.spent(u.since) {
		p.discard(u)
		return
	}
	h := u.host
	h.mu.Lock()
	h.out--
	if h.kept >= keptBuffers {
		u.in.Free()
	}
	if h.gone {
		h.mu.Unlock()
		p.o.Gauges.PoolOpen.Add(-1)
		u.close()
		return
	}
	u.next, h.idle = h.idle, u
	h.kept++
	h.mu.Unlock()
}

// discard closes a connection that an exchange owned.
func (p *pool) discard(u *upstream) {
	if u.host == nil {
		u.close()
		return
	}
	p.o.Gauges.PoolOpen.Add(-1)
	u.close()
	u.host.leave()
}

func (h *host) leave() {
	h.mu.Lock()
	h.out--
	h.mu.Unlock()
}

// closeIdle closes what has been idle for too long at the time now, or was
// closed by its upstream, and forgets hosts without connections.
func (p *pool) closeIdle(now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, h := range p.hosts {
		if h.closeIdle(p.o, now) == 0 {
			delete(p.hosts, k)
			p.latest.CompareAndSwap(h, nil)
		}
	}
}

func (h *host) closeIdle(o *Options, now int64) (left int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at := &h.idle; *at != nil; {
		u := *at
		if now-u.since > int64(silence) {
			u.in.Free()
		}
		if !u.stale(o, now) && u.Peer() == netio.Open {
			at = &u.next
			continue
		}
		*at = u.next
		h.kept--
		o.Gauges.PoolOpen.Add(-1)
		u.close()
	}
	h.gone = h.kept+h.out == 0
	return h.kept + h.out
}

// idle counts the connections that are kept for later.
func (p *pool) idle() (n int64) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, h := range p.hosts {
		h.mu.Lock()
		n += int64(h.kept)
		h.mu.Unlock()
	}
	return n
}

func (p *pool) empty() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.hosts) == 0
}
