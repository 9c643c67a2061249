// Package detail is tier 2 of what a sidecar remembers: of each of its newest
// requests the heads, the attempts and what policy said, in a ring of bounded
// memory. Nothing of it leaves the sidecar unless something asks for it: a
// trigger (an error, a flag, a denial, a retry, a slow request) or an order of
// the hub. What is secret is taken out before.
//
//	ring    where every request's entry goes, and is found
//	entry   one request in the ring's memory
//	budget  how much may leave, fairly by edge
//	redact  heads read, and secrets taken out
package detail

import (
	"sync"
	"sync/atomic"
	"time"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

const (
	// MinBytes is the smallest ring: a block for each shard, and as much again.
	MinBytes = 2 * shards * blockBytes
	// What one batch takes. The hub refuses more.
	batchDetails = 64
	batchBytes   = 384 << 10
	batchAnswers = 64
	// What waits for a batch: while the hub is away, or slow.
	maxQueued  = 1 << 20
	maxAnswers = 1024
	// maxOrders of one acknowledgement are looked at.
	maxOrders = 64
	// maxFound bounds what one order brings: a caller may give one trace ID to
	// everything.
	maxFound = 64
)

// Options of Details.
type Options struct {
	// Bytes bounds the ring's memory, which grows as requests come; 0 keeps none.
	Bytes int
	// Redact names header fields whose values stay here, beside AlwaysRedacted.
	Redact []string
	// Now is the wall clock; nil is the system's.
	Now func() time.Time
}

// Details keeps, and gives out what is asked for. It is safe for concurrent use.
type Details struct {
	ring    ring
	secrets secrets
	budget  budget
	now     func() time.Time
	since   time.Time

	sent, left counters

	mu      sync.Mutex // guards the fields below
	queue   []queued   // oldest first
	bytes   int        // of queue
	answers []*telemetryv1.OrderAnswer
}

// queued is an entry that waits for a batch.
type queued struct {
	entry   entry
	trigger string
}

// counters count by a fixed set of names.
type counters map[string]*atomic.Uint64

func newCounters(names ...string) counters {
	c := make(counters, len(names))
	for _, n := range names {
		c[n] = new(atomic.Uint64)
	}
	return c
}

func (c counters) read() map[string]uint64 {
	out := make(map[string]uint64, len(c))
	for name, n := range c {
		out[name] = n.Load()
	}
	return out
}

// New returns an empty one.
func New(o Options) *Details {
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Details{secrets: newSecrets(o.Redact), now: o.Now, since: o.Now()}
	d.ring.blocks = o.Bytes / blockBytes
	d.budget.began = time.Now()
	d.sent = newCounters(vocab.TriggerError, vocab.TriggerFlag, vocab.TriggerDenied, vocab.TriggerRetry, vocab.TriggerSlow, vocab.TriggerOrder)
	d.left = newCounters(vocab.NoDetailEdgeBudget, vocab.NoDetailAllBudget, vocab.NoDetailBudget, vocab.NoDetailQueueFull)
	return d
}

// Keep puts a finished exchange into the ring. With a trigger it is sent as well,
// if the edge's share allows it. It allocates nothing without a trigger.
func (d *Details) Keep(x *exchange.Exchange, trigger string, share *Share) {
	if d.ring.blocks == 0 {
		return
	}
	e := d.ring.push(x, trigger != "")
	if trigger == "" {
		return
	}
	if reason := d.budget.admit(share, trigger, int64(len(e))); reason != "" {
		d.left[reason].Add(1)
		return
	}
	d.enqueue(queued{e, trigger})
}

func (d *Details) enqueue(q queued) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bytes+len(q.entry) > maxQueued {
		d.left[vocab.NoDetailQueueFull].Add(1)
		return false
	}
	d.queue = append(d.queue, q)
	d.bytes += len(q.entry)
	return true
}

// Order answers orders of the hub: what the ring has of them waits for the next
// batch, with an answer for each.
func (d *Details) Order(orders []*telemetryv1.Order) {
	orders = orders[:min(len(orders), maxOrders)]
	wants := make([]want, len(orders))
	for i, o := range orders {
		if len(o.GetTraceId()) == len(wants[i].trace) {
			wants[i].trace, wants[i].span = [16]byte(o.GetTraceId()), o.GetSpanId()
		}
	}
	d.ring.search(wants)
	horizon := int64(d.Horizon())
	for i, o := range orders {
		d.answer(d.fulfil(o, wants[i].found, horizon))
	}
}

// fulfil queues what was found for an order, as far as the budget goes.
func (d *Details) fulfil(o *telemetryv1.Order, found []entry, horizon int64) *telemetryv1.OrderAnswer {
	a := &telemetryv1.OrderAnswer{Order: o.GetId(), HorizonNanos: horizon, KeptOneOf: d.ring.keptOneOf()}
	switch {
	case d.ring.blocks == 0:
		a.Reason = vocab.NoDetailRingOff
	case len(found) == 0:
		a.Reason = vocab.NoDetailNotInRing
	}
	for _, e := range found {
		if !d.budget.admitOrder(int64(len(e))) {
			d.left[vocab.NoDetailBudget].Add(1)
			a.Reason = vocab.NoDetailBudget
			continue
		}
		if !d.enqueue(queued{e, vocab.TriggerOrder}) {
			a.Reason = vocab.NoDetailQueueFull
			continue
		}
		a.Found++
	}
	return a
}

func (d *Details) answer(a *telemetryv1.OrderAnswer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.answers) < maxAnswers { // else the hub asks more than it takes in
		d.answers = append(d.answers, a)
	}
}

// Take takes what one batch can hold, and reports whether there is more.
func (d *Details) Take() (details []*telemetryv1.Detail, answers []*telemetryv1.OrderAnswer, more bool) {
	d.mu.Lock()
	n, size := 0, 0
	for n < min(len(d.queue), batchDetails) && size < batchBytes {
		size += len(d.queue[n].entry)
		n++
	}
	taken := d.queue[:n:n]
	d.queue = d.queue[n:]
	d.bytes -= size
	a := min(len(d.answers), batchAnswers)
	answers, d.answers = d.answers[:a:a], d.answers[a:]
	more = len(d.queue) > 0 || len(d.answers) > 0
	if !more {
		d.queue, d.answers = nil, nil // of what they hold no more
	}
	d.mu.Unlock()
	for _, q := range taken {
		details = append(details, q.entry.detail(q.trigger, &d.secrets))
		d.sent[q.trigger].Add(1)
	}
	return details, answers, more
}

// Horizon is how far back the ring reaches, 0 if there is none.
func (d *Details) Horizon() time.Duration {
	if d.ring.blocks == 0 {
		return 0
	}
	return d.ring.horizon(d.now(), d.since)
}

// KeptOneOf is how many traces there are for one that the ring keeps: 1 unless so
// many requests come that it would reach back for less than shortest.
func (d *Details) KeptOneOf() uint32 { return d.ring.keptOneOf() }

// Sent counts the details that went into batches, by trigger.
func (d *Details) Sent() map[string]uint64 { return d.sent.read() }

// Left counts what was asked for and stayed in the ring, by reason.
func (d *Details) Left() map[string]uint64 { return d.left.read() }
