package lease

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	policy "github.com/telemesh/telemesh/policy-check"
)

// Origin says who made a decision, in the words of the telemetry contract.
type Origin string

// Origins of a decision.
const (
	OriginLocal    Origin = "local"    // a bucket of this sidecar alone
	OriginLease    Origin = "lease"    // credits of the hub, or its refusal
	OriginFallback Origin = "fallback" // the failure policy: the hub did not answer
)

// Taken is the answer to one Take.
type Taken struct {
	OK     bool
	Origin Origin
	// Remaining is a hint of what the bucket still holds.
	Remaining int64
	// Reset is the time until the bucket is full.
	Reset time.Duration
	// RetryAfter is when a refused caller may succeed.
	RetryAfter time.Duration
}

// ClientOptions are what code passes. Sidecar is required.
type ClientOptions struct {
	// Sidecar names this instance to the hub. It must be unique in the mesh.
	Sidecar string
	// Epoch tells runs of the sidecar apart and must rise: by default the start
	// of the client in Unix nanoseconds.
	Epoch   uint64
	Horizon time.Duration
	// FlushInterval is how long a pull that no request waits for may wait for
	// company.
	FlushInterval time.Duration
	// MaxKeys bounds the pockets per limit, whatever the policy allows.
	MaxKeys int
	Clock   func() time.Time
	// AfterFunc calls f once, after a time of Clock, on a goroutine of its own or
	// between two calls of the client: by default time.AfterFunc.
	AfterFunc func(d time.Duration, f func())
	Logger    *slog.Logger
}

// Client is the sidecar's end: pockets of credits, refilled over one stream. It
// is safe for concurrent use. No lock is held while a request waits or bytes
// move.
type Client struct {
	opts  ClientOptions
	start time.Time

	limits    atomic.Pointer[map[string]*pockets]
	connected atomic.Bool
	sidecars  atomic.Int64

	configureMu sync.Mutex

	urgent chan struct{} // capacity 1: a request waits for a pull
	lazy   chan struct{} // capacity 1: a pull can wait for FlushInterval

	mu    sync.Mutex // guards the field below
	dirty []*pocket  // pockets that want a pull
}

// NewClient makes a client with no limits and no hub: until Run has a stream,
// the failure policies decide.
func NewClient(o ClientOptions) *Client {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.AfterFunc == nil {
		o.AfterFunc = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
	}
	if o.Horizon == 0 {
		o.Horizon = DefaultHorizon
	}
	if o.FlushInterval == 0 {
		o.FlushInterval = 5 * time.Millisecond
	}
	if o.MaxKeys == 0 {
		o.MaxKeys = 20_000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	start := o.Clock()
	if o.Epoch == 0 {
		o.Epoch = uint64(start.UnixNano())
	}
	c := &Client{opts: o, start: start, urgent: make(chan struct{}, 1), lazy: make(chan struct{}, 1)}
	c.limits.Store(&map[string]*pockets{})
	c.sidecars.Store(1)
	return c
}

// SetSidecars says how many sidecars share the limits. Without a hub each takes
// at least an equal part.
func (c *Client) SetSidecars(n int) { c.sidecars.Store(int64(max(n, 1))) }

// Configure replaces the limits. One that did not change keeps its pockets.
func (c *Client) Configure(buckets []policy.Bucket) {
	c.configureMu.Lock()
	defer c.configureMu.Unlock()
	old := *c.limits.Load()
	limits := make(map[string]*pockets, len(buckets))
	for _, b := range buckets {
		if l, ok := old[b.Name]; ok && l.bucket == b {
			limits[b.Name] = l
			continue
		}
		limits[b.Name] = newPockets(c, b)
	}
	c.limits.Store(&limits)
}

// Take takes one credit of a limit's key. It answers from memory unless the
// pocket is empty and the hub may have more; then it waits for one pull, no
// longer than the policy's holdTimeout and ctx allow. A limit that is not
// configured admits.
func (c *Client) Take(ctx context.Context, limit, key string) Taken {
	return c.Limit(limit).Take(ctx, key)
}

// Ask is Take without the wait: it returns the answer, or the request that has
// to wait for it.
func (c *Client) Ask(limit, key string) (Taken, *Held) { return c.Limit(limit).Ask(key) }

// Limit is one limit of a client, found once so that requests need not look for
// it. The zero value is a limit that is not configured.
type Limit struct{ pockets *pockets }

// Limit finds a limit. It is valid until Configure changes it; after that it
// spends what it has, from pockets that nobody else uses.
func (c *Client) Limit(name string) Limit { return Limit{(*c.limits.Load())[name]} }

// Take is Client.Take.
func (l Limit) Take(ctx context.Context, key string) Taken {
	if l.pockets != nil && key == "" {
		if t, ok := l.pockets.only.takeLent(); ok {
			return t
		}
	}
	return l.take(ctx, key)
}

func (l Limit) take(ctx context.Context, key string) Taken {
	t, held := l.Ask(key)
	if held == nil {
		return t
	}
	return held.Wait(ctx)
}

// Ask is Client.Ask.
func (l Limit) Ask(key string) (Taken, *Held) {
	if l.pockets == nil {
		return Taken{OK: true, Origin: OriginFallback}, nil
	}
	p := l.pockets.pocket(key)
	if p == nil {
		return l.pockets.overflow(), nil
	}
	return p.ask()
}

// Return gives back what Take took for a request that was refused elsewhere.
func (c *Client) Return(limit, key string, t Taken) {
	l := (*c.limits.Load())[limit]
	if l == nil || !t.OK {
		return
	}
	if p := l.pocket(key); p != nil {
		p.giveBack(t.Origin)
	}
}

// Connected tells whether there is a stream to the hub.
func (c *Client) Connected() bool { return c.connected.Load() }

// now is nanoseconds since the client began, on a clock that never goes back.
func (c *Client) now() time.Duration { return c.opts.Clock().Sub(c.start) }

// enqueue marks a pocket for the next pull. The caller holds the pocket's lock
// and has marked it as in flight, so that it is queued once.
func (c *Client) enqueue(p *pocket, wake chan struct{}) {
	c.mu.Lock()
	c.dirty = append(c.dirty, p)
	c.mu.Unlock()
	signal(wake)
}

// takeDirty takes up to n pockets that want a pull.
func (c *Client) takeDirty(n int) []*pocket {
	c.mu.Lock()
	defer c.mu.Unlock()
	n = min(n, len(c.dirty))
	d := c.dirty[:n:n]
	c.dirty = c.dirty[n:]
	if len(c.dirty) == 0 {
		c.dirty = nil
	}
	return d
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
