package details

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/telemetry-hub/ingest"
)

const (
	// followEvery and followTraces bound the traces that are followed: 48 a second,
	// each an order for each of its sidecars.
	followEvery  = 250 * time.Millisecond
	followTraces = 12
	// maxFollow is how many wait for their turn.
	maxFollow = 512
	// A trace is looked at twice: once the sidecars' next batches are here, and
	// again for hops that took longer. Both are well within a ring's reach.
	firstLook, secondLook = time.Second, 5 * time.Second
	// maxKnown bounds how many traces are remembered as followed.
	maxKnown = 4096
)

// follow is the queue of traces that failed or were slow at one hop and whose
// other hops are to be ordered.
type follow struct {
	mu    sync.Mutex // guards the fields below
	due   []due      // by time, because all wait equally long
	again []due
	known map[Trace]bool
	order []Trace // of known, oldest first
}

type due struct {
	trace Trace
	at    time.Time
}

func (f *follow) init() { f.known = make(map[Trace]bool) }

// add has a trace followed once, and is false if too many wait.
func (f *follow) add(t Trace, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known[t] {
		return true
	}
	if len(f.due) >= maxFollow {
		return false
	}
	f.known[t] = true
	if f.order = append(f.order, t); len(f.order) > maxKnown {
		delete(f.known, f.order[0])
		f.order = f.order[1:]
	}
	f.due = append(f.due, due{t, now.Add(firstLook)})
	return true
}

// next takes what is due, the new ones first.
func (f *follow) next(now time.Time) (list []Trace) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.due) > 0 && len(list) < followTraces && !f.due[0].at.After(now) {
		list = append(list, f.due[0].trace)
		if len(f.again) < maxFollow {
			f.again = append(f.again, due{f.due[0].trace, now.Add(secondLook - firstLook)})
		}
		f.due = f.due[1:]
	}
	for len(f.again) > 0 && len(list) < followTraces && !f.again[0].at.After(now) {
		list = append(list, f.again[0].trace)
		f.again = f.again[1:]
	}
	return list
}

// Accept takes in what is new: details, answers to orders, and which requests
// went wrong, whose other hops are ordered. It does not block on other processes
// and keeps nothing of the columns.
func (c *Collector) Accept(a ingest.Accepted) {
	if len(a.Details)+len(a.Answers) > 0 {
		bytes := 0
		for _, d := range a.Details {
			bytes += proto.Size(d)
			if d.GetTrigger() != vocab.TriggerOrder && len(d.GetTraceId()) == len(Trace{}) {
				c.wrong(Trace(d.GetTraceId()))
			}
		}
		c.take(a.Batch, a.Details, a.Answers, bytes)
	}
	c.recent.add(a.Batch.GetSender(), a.Columns)
	c.acceptRecords(a.Columns)
}

// acceptRecords finds 5xx and response flags. A block most often has one code and
// no flags, which it says once.
func (c *Collector) acceptRecords(columns *record.Columns) {
	codes := columns.Ints(vocab.ColCode)
	dict, flags := columns.Texts(vocab.ColFlags)
	flagged := make([]bool, len(dict))
	any := false
	for i, text := range dict {
		flagged[i] = text != "" && text != vocab.NoFlags
		any = any || flagged[i]
	}
	for row, code := range codes {
		if code >= 500 {
			c.wrong(columns.TraceID(row))
		}
	}
	if !any {
		return
	}
	for row, i := range flags {
		if flagged[i] {
			c.wrong(columns.TraceID(row))
		}
	}
}

func (c *Collector) wrong(t Trace) {
	if t != (Trace{}) && !c.follow.add(t, time.Now()) {
		c.m.orders.WithLabelValues("shed").Inc()
	}
}

func (c *Collector) runFollow(ctx context.Context) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for _, t := range c.follow.next(now) {
				c.followOne(t)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// followOne orders what is missing of a trace from everybody who told of it. The
// orders bound themselves: one for each sidecar.
func (c *Collector) followOne(t Trace) {
	told := c.recent.told(t)
	if len(told) == 0 {
		return
	}
	for _, kept := range c.o.Store.Find(t) {
		told[kept.Sender]--
	}
	for sender, missing := range told {
		if missing > 0 {
			c.askFor(Hop{Key: Key{Trace: t}, Instance: sender})
		}
	}
}
