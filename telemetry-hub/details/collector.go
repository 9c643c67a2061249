package details

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/policy-check/gcra"
	"github.com/telemesh/telemesh/telemetry-hub/store"
)

const (
	// askRate and askBurst bound the orders a second that people cause.
	askRate, askBurst = 200, 400
	// keepRate and keepBurst bound the bytes a second that are kept, of all
	// sidecars together.
	keepRate, keepBurst = 4 << 20, 16 << 20
	// patience is how long an order may take: a sidecar that says nothing is of a
	// version that knows none.
	patience = 2 * time.Second
	// remembered is for how long an answer holds: what a ring has forgotten does
	// not come back.
	remembered = time.Minute
	// maxPending bounds the orders that are remembered, the newest.
	maxPending = 8192
)

// Key names one request at one sidecar.
type Key struct {
	Trace    Trace
	Span     [8]byte
	Reporter telemetryv1.Reporter
}

// KeyOf is a detail's key, false if it has none.
func KeyOf(d *telemetryv1.Detail) (Key, bool) {
	if len(d.GetTraceId()) != 16 || len(d.GetSpanId()) != 8 {
		return Key{}, false
	}
	return Key{Trace(d.GetTraceId()), [8]byte(d.GetSpanId()), d.GetReporter()}, true
}

// Hop is one record: whose detail is wanted, and which sidecar may have it.
type Hop struct {
	Key
	Instance string
	End      time.Time // of the request, by the sidecar's clock
}

// HopOf is a record's.
func HopOf(f *store.Found) Hop {
	h := Hop{Key: Key{f.Record.TraceID, f.Record.SpanID, f.Edge.GetReporter()}, Instance: f.Edge.GetSource().GetInstance(), End: f.Record.Start.Add(f.Record.Duration)}
	if h.Reporter == telemetryv1.Reporter_REPORTER_DESTINATION {
		h.Instance = f.Edge.GetDestination().GetInstance()
	}
	return h
}

// Answer is a detail, or why there is none.
type Answer struct {
	Detail  *telemetryv1.Detail
	Missing string
	// Pending: the detail may still come.
	Pending bool
}

// Options of a Collector.
type Options struct {
	Store *Store
	// Order sends an order to a sidecar, and is false if that is not connected.
	Order  func(sender string, o *telemetryv1.Order) bool
	Logger *slog.Logger
}

// Collector takes details in and asks for more. It is safe for concurrent use.
type Collector struct {
	o      Options
	began  time.Time
	follow follow
	recent recent
	m      meters

	lastWarning atomic.Int64 // Unix nanoseconds

	mu      sync.Mutex // guards the fields below
	asks    gcra.Bucket
	keeps   gcra.Bucket
	next    uint64 // order ID
	pending map[uint64]place
	asked   map[place]*state
	order   []ordered // of pending and asked, oldest first
	changed chan struct{}
}

// place is where an order went.
type place struct {
	trace    Trace
	instance string
}

// ordered is an order that was sent, or tried.
type ordered struct {
	id uint64
	place
}

// state is what became of an order.
type state struct {
	id        uint64
	at        time.Time
	sent      bool
	answered  bool
	found     uint32
	reason    string
	horizon   time.Duration
	keptOneOf uint32
}

type meters struct {
	details *prometheus.CounterVec
	orders  *prometheus.CounterVec
}

// NewCollector returns a collector that registers its metrics on reg.
func NewCollector(o Options, reg prometheus.Registerer) *Collector {
	c := &Collector{
		// An answer to an order of the process before must not pass for one of this.
		next: uint64(time.Now().UnixNano()),
		o:    o, began: time.Now(), pending: make(map[uint64]place), asked: make(map[place]*state), changed: make(chan struct{}),
		m: meters{
			details: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: vocab.MetricHubDetails, Help: "Details of requests by what became of them.",
			}, []string{vocab.LabelResult}),
			orders: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: vocab.MetricHubDetailOrders, Help: "Orders for details by what became of them.",
			}, []string{vocab.LabelResult}),
		},
	}
	for _, r := range []string{"kept", "shed", "unwritten"} {
		c.m.details.WithLabelValues(r)
	}
	for _, r := range []string{"sent", "unreachable", "shed"} {
		c.m.orders.WithLabelValues(r)
	}
	reg.MustRegister(c.m.details, c.m.orders, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: vocab.MetricHubDetailBytes, Help: "Bytes of the details that are kept.",
	}, func() float64 { return float64(o.Store.Bytes()) }))
	c.follow.init()
	c.recent.init()
	return c
}

// Run does what nobody waits for, until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return c.o.Store.Run(ctx) })
	running.Go(func() error { return c.runFollow(ctx) })
	return running.Wait()
}

func (c *Collector) clock() float64 { return float64(time.Since(c.began)) }

// take keeps a batch's details and notes its answers.
func (c *Collector) take(b *telemetryv1.Batch, details []*telemetryv1.Detail, answers []*telemetryv1.OrderAnswer, bytes int) {
	if len(details) > 0 {
		c.keep(b, details, bytes)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range answers {
		at, ok := c.pending[a.GetOrder()]
		if !ok || at.instance != b.GetSender() {
			continue // too late, or not the sender's to answer
		}
		if s := c.asked[at]; s != nil && s.id == a.GetOrder() {
			s.answered, s.found, s.reason, s.horizon = true, a.GetFound(), a.GetReason(), time.Duration(a.GetHorizonNanos())
			s.keptOneOf = a.GetKeptOneOf()
		}
		delete(c.pending, a.GetOrder())
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Collector) keep(b *telemetryv1.Batch, details []*telemetryv1.Detail, bytes int) {
	c.mu.Lock()
	rate, now := gcra.Rate{Interval: 1e9 / keepRate, Burst: keepBurst}, c.clock()
	room := c.keeps.Tokens(rate, now) >= float64(bytes)
	if room {
		c.keeps.Spend(rate, now, int64(bytes))
	}
	c.mu.Unlock()
	if !room {
		c.m.details.WithLabelValues("shed").Add(float64(len(details)))
		return
	}
	if err := c.o.Store.Append(b.GetSender(), b.GetTimeUnixNano(), details); err != nil {
		c.m.details.WithLabelValues("unwritten").Add(float64(len(details)))
		if now := time.Now().UnixNano(); now-c.lastWarning.Swap(now) > int64(10*time.Second) {
			c.o.Logger.Warn("details are not kept: make room on the disk of the data directory", "details", len(details), "error", err)
		}
		return
	}
	c.m.details.WithLabelValues("kept").Add(float64(len(details)))
}

// Ask returns the details of hops. What is not there is ordered from the sidecar
// that the record names; Ask waits for it up to wait, or until ctx ends. The
// answers are by key; each says why there is no detail, if there is none.
func (c *Collector) Ask(ctx context.Context, hops []Hop, wait time.Duration) map[Key]Answer {
	limit := time.NewTimer(wait)
	defer limit.Stop()
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		answers, pending := c.look(hops)
		if !pending || wait <= 0 {
			return answers
		}
		select {
		case <-changed:
		case <-limit.C:
			wait = 0
		case <-ctx.Done():
			return answers
		}
	}
}

// Kept returns the details of hops that are here, and orders none.
func (c *Collector) Kept(hops []Hop) map[Key]Answer {
	answers := make(map[Key]Answer, len(hops))
	for _, h := range hops {
		answers[h.Key] = Answer{Missing: "the hub has not collected it"}
	}
	c.find(answers, hops)
	return answers
}

// find adds what is here of the hops' traces.
func (c *Collector) find(answers map[Key]Answer, hops []Hop) {
	traces := make(map[Trace]bool)
	for _, h := range hops {
		if traces[h.Trace] {
			continue
		}
		traces[h.Trace] = true
		for _, kept := range c.o.Store.Find(h.Trace) {
			k, _ := KeyOf(kept.Detail)
			answers[k] = Answer{Detail: kept.Detail}
		}
	}
}

// look is one look at what is there, and orders what is not.
func (c *Collector) look(hops []Hop) (answers map[Key]Answer, pending bool) {
	answers = make(map[Key]Answer, len(hops))
	c.find(answers, hops)
	for _, h := range hops {
		if answers[h.Key].Detail != nil {
			continue
		}
		missing, waits := c.why(c.askFor(h), h)
		answers[h.Key] = Answer{Missing: missing, Pending: waits}
		pending = pending || waits
	}
	return answers, pending
}

// askFor returns what became of the order for a hop's trace at its sidecar, and
// sends one if there is none that holds.
func (c *Collector) askFor(h Hop) state {
	at := place{h.Trace, h.Instance}
	if h.Instance == "" {
		return state{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if s := c.asked[at]; s != nil && s.holds(now) {
		return *s
	}
	rate := gcra.Rate{Interval: 1e9 / askRate, Burst: askBurst}
	if c.asks.Take(rate, c.clock(), 1) == 0 {
		c.m.orders.WithLabelValues("shed").Inc()
		return state{reason: reasonBusy}
	}
	return *c.send(at, now)
}

// holds reports that asking again would bring nothing new.
func (s *state) holds(now time.Time) bool {
	age := now.Sub(s.at)
	switch {
	case !s.sent:
		return false // it may be back
	case !s.answered:
		return age < remembered
	case s.reason == vocab.NoDetailNotInRing:
		return age < remembered
	}
	return age < patience
}

// send orders a trace. The caller holds mu.
func (c *Collector) send(at place, now time.Time) *state {
	c.next++
	s := &state{id: c.next, at: now}
	s.sent = c.o.Order(at.instance, &telemetryv1.Order{Id: s.id, TraceId: at.trace[:]})
	if s.sent {
		c.m.orders.WithLabelValues("sent").Inc()
	} else {
		c.m.orders.WithLabelValues("unreachable").Inc()
	}
	c.pending[s.id], c.asked[at] = at, s
	c.order = append(c.order, ordered{s.id, at})
	for len(c.order) > maxPending {
		old := c.order[0]
		c.order = c.order[1:]
		delete(c.pending, old.id)
		if s := c.asked[old.place]; s != nil && s.id == old.id {
			delete(c.asked, old.place)
		}
	}
	return s
}
