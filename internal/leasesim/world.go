// Package leasesim drives the hub and the sidecars of credit leases on a virtual
// clock: the code of package lease, and in place of gRPC messages that take
// time, are lost with their stream, or come twice. The same seed gives the same
// run.
package leasesim

import (
	"container/heap"
	"fmt"
	"io"
	"log/slog"
	"time"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/lease"
)

// Options are a world's constants and what it tells. Sidecars, Policies and
// Delay are required.
type Options struct {
	Policies []*policy.TrafficPolicy
	Sidecars int
	// Horizon and Flush are as in lease.ClientOptions.
	Horizon, Flush time.Duration
	// Delay is how long one message takes one way. Messages of one stream keep
	// their order.
	Delay func() time.Duration
	// Twice tells whether the hub gets a pull a second time, and how much later.
	// It may be nil.
	Twice func() (after time.Duration, twice bool)
	// Decided is called for every request once it is decided.
	Decided func(Decision)
	// Granted is called for every grant when the hub makes it. It may be nil.
	Granted func(at time.Duration, sidecar int, g *policyv1.Grant)
	// Received is called for every grant when it has reached its sidecar. It may
	// be nil.
	Received func(at time.Duration, sidecar int, g *policyv1.Grant)
}

// Decision is what became of one request.
type Decision struct {
	// At is when it was decided, ArrivedAt when it came: later than that if it
	// was held.
	At, ArrivedAt time.Duration
	Sidecar       int
	Limit, Key    string
	Taken         lease.Taken
}

// World is a hub and sidecars. It is used by one goroutine.
type World struct {
	opts     Options
	now      time.Duration
	events   events
	order    uint64
	hub      *lease.Server
	sidecars []*sidecar
	pulls    int
	requests int
	held     int
}

// sidecar is one client and its stream.
type sidecar struct {
	index    int
	client   *lease.Client
	link     *lease.Link
	stream   int // counts the streams: a message of an older one is lost
	open     bool
	flushing bool
	up, down time.Duration // when the last message of the stream arrives, each way
	waiting  []*waiting
}

// waiting is a request that is held.
type waiting struct {
	*lease.Held
	arrived    time.Duration
	limit, key string
	done       bool
}

// origin is the clock's zero. It is no more than a date.
func origin() time.Time { return time.Unix(1_700_000_000, 0) }

// New makes a world in which every sidecar has a stream.
func New(o Options) *World {
	w := &World{opts: o}
	w.hub = w.newHub()
	for i := range o.Sidecars {
		s := &sidecar{index: i}
		w.sidecars = append(w.sidecars, s)
		w.start(s)
	}
	return w
}

func (w *World) clock() time.Time { return origin().Add(w.now) }

func (w *World) newHub() *lease.Server {
	h := lease.NewServer(lease.ServerOptions{Clock: w.clock, Horizon: w.opts.Horizon, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	h.SetPolicies(w.opts.Policies)
	return h
}

func (w *World) start(s *sidecar) {
	s.client = lease.NewClient(lease.ClientOptions{
		Sidecar: fmt.Sprint("sidecar-", s.index), Epoch: uint64(w.clock().UnixNano()),
		Clock: w.clock, AfterFunc: func(d time.Duration, f func()) { w.At(w.now+d, f) }, Horizon: w.opts.Horizon, FlushInterval: w.opts.Flush,
	})
	var buckets []policy.Bucket
	for _, p := range w.opts.Policies {
		buckets = append(buckets, p.AllBuckets()...)
	}
	s.client.Configure(buckets)
	s.client.SetSidecars(w.opts.Sidecars)
	s.link = s.client.NewLink()
	w.connect(s)
}

// Now is the time since the world began.
func (w *World) Now() time.Duration { return w.now }

// Hub is the hub of now.
func (w *World) Hub() *lease.Server { return w.hub }

// Pulls is how many messages the hub has answered.
func (w *World) Pulls() int { return w.pulls }

// Held is how many requests had to wait, of how many.
func (w *World) Held() (held, requests int) { return w.held, w.requests }

// At calls f at a time. Calls for the same time are made in the order of At.
func (w *World) At(t time.Duration, f func()) {
	w.order++
	heap.Push(&w.events, event{at: max(t, w.now), order: w.order, do: f})
}

// Run moves the clock to a time.
func (w *World) Run(until time.Duration) {
	for len(w.events) > 0 && w.events[0].at <= until {
		e, _ := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	w.now = until
}

// Request has a request arrive at a sidecar now.
func (w *World) Request(index int, limit, key string) {
	s := w.sidecars[index]
	w.requests++
	t, held := s.client.Ask(limit, key)
	if held == nil {
		w.decided(s, &waiting{arrived: w.now, limit: limit, key: key}, t)
	} else {
		w.held++
		r := &waiting{Held: held, arrived: w.now, limit: limit, key: key}
		s.waiting = append(s.waiting, r)
		w.At(held.Deadline().Sub(origin()), func() {
			if !r.done {
				w.decided(s, r, r.GiveUp())
			}
		})
	}
	w.send(s)
}

func (w *World) decided(s *sidecar, r *waiting, t lease.Taken) {
	r.done = true
	w.opts.Decided(Decision{At: w.now, ArrivedAt: r.arrived, Sidecar: s.index, Limit: r.limit, Key: r.key, Taken: t})
}

// retry asks again for the requests whose pull was answered or lost, in the
// order of arrival.
func (w *World) retry(s *sidecar) {
	waiting := s.waiting[:0]
	for _, r := range s.waiting {
		if r.done {
			continue
		}
		select {
		case <-r.Answered():
			if t, decided := r.Retry(); decided {
				w.decided(s, r, t)
				continue
			}
		default:
		}
		waiting = append(waiting, r)
	}
	clear(s.waiting[len(waiting):])
	s.waiting = waiting
}

// send does what lease.Client.Run does with a stream.
func (w *World) send(s *sidecar) {
	if !s.open {
		return
	}
	now, soon := s.link.Wanted()
	if now {
		w.flush(s)
	} else if soon && !s.flushing {
		s.flushing = true
		stream := s.stream
		w.At(w.now+w.opts.Flush, func() {
			if s.stream == stream && s.flushing {
				w.flush(s)
			}
		})
	}
}

func (w *World) flush(s *sidecar) {
	s.flushing = false
	for req := s.link.Next(); req != nil; req = s.link.Next() {
		w.carry(s, req)
	}
}

// carry brings a pull to the hub and its answer back.
func (w *World) carry(s *sidecar, req *policyv1.PullRequest) {
	stream, hub := s.stream, w.hub
	s.up = max(s.up, w.now+w.opts.Delay())
	arrive := func() {
		if w.hub == hub {
			w.answer(s, stream, req)
		}
	}
	w.At(s.up, arrive)
	if w.opts.Twice != nil {
		if after, twice := w.opts.Twice(); twice {
			w.At(s.up+after, arrive)
		}
	}
}

// answer has the hub answer. A pull of a stream that was lost may still arrive;
// its answer does not.
func (w *World) answer(s *sidecar, stream int, req *policyv1.PullRequest) {
	w.pulls++
	resp, err := w.hub.Answer(req)
	if err != nil {
		return // as over gRPC: a sidecar that was replaced hears nothing
	}
	if w.opts.Granted != nil {
		for _, g := range resp.GetGrants() {
			w.opts.Granted(w.now, s.index, g)
		}
	}
	if s.stream != stream {
		return
	}
	s.down = max(s.down, w.now+w.opts.Delay())
	w.At(s.down, func() {
		if s.stream == stream {
			s.link.Answer(resp)
			if w.opts.Received != nil {
				for _, g := range resp.GetGrants() {
					w.opts.Received(w.now, s.index, g)
				}
			}
			w.retry(s)
			w.send(s)
		}
	})
}

// connect opens a stream.
func (w *World) connect(s *sidecar) {
	s.open = true
	s.up, s.down = w.now, w.now
	for _, req := range s.link.Open() {
		w.carry(s, req)
	}
	w.send(s)
}

// Break loses a sidecar's stream with the answers that are under way, and opens
// another after a while.
func (w *World) Break(index int, away time.Duration) {
	s := w.sidecars[index]
	s.stream++
	s.open, s.flushing = false, false
	s.link.Close()
	w.retry(s)
	stream := s.stream
	w.At(w.now+away, func() {
		if s.stream == stream {
			w.connect(s)
		}
	})
}

// RestartSidecar replaces a sidecar by a new process. What waited is gone.
func (w *World) RestartSidecar(index int) {
	s := w.sidecars[index]
	for _, r := range s.waiting {
		r.done = true
	}
	s.waiting = nil
	s.stream++
	s.flushing = false
	w.start(s)
}

// RestartHub replaces the hub by one that knows nothing. Every stream is lost.
func (w *World) RestartHub(away time.Duration) {
	w.hub = w.newHub()
	for i := range w.sidecars {
		w.Break(i, away)
	}
}

// event is something to do at a time.
type event struct {
	at    time.Duration
	order uint64
	do    func()
}

// events is a heap, the earliest first.
type events []event

// Len implements heap.Interface.
func (e events) Len() int { return len(e) }

// Less implements heap.Interface.
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}

// Swap implements heap.Interface.
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push implements heap.Interface.
func (e *events) Push(x any) { v, _ := x.(event); *e = append(*e, v) }

// Pop implements heap.Interface.
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return x
}
