// Package tap hands new records to those who watch live. A watcher that is too
// slow loses records, never the hub, and is told how many.
package tap

import (
	"sync"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// buffered records wait for one watcher.
const buffered = 512

// Seen is one record with its edge.
type Seen struct {
	Record record.Record
	Edge   *telemetryv1.Edge
}

// Tap fans records out. Safe for concurrent use; the zero value is ready.
type Tap struct {
	mu       sync.Mutex // guards the field below
	watchers map[*Watcher]struct{}
}

// Watcher gets what its filter lets through.
type Watcher struct {
	C      chan Seen
	match  func(*record.Record, *telemetryv1.Edge) bool
	mu     sync.Mutex // guards the field below
	lagged uint64
}

// Watch begins to watch. Stop must be called with the watcher.
func (t *Tap) Watch(match func(*record.Record, *telemetryv1.Edge) bool) *Watcher {
	w := &Watcher{C: make(chan Seen, buffered), match: match}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watchers == nil {
		t.watchers = make(map[*Watcher]struct{})
	}
	t.watchers[w] = struct{}{}
	return w
}

// Stop ends a watch.
func (t *Tap) Stop(w *Watcher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.watchers, w)
}

// Show offers the records of a batch to everyone. It costs nothing without
// watchers and never blocks.
func (t *Tap) Show(b *telemetryv1.Batch, c *record.Columns) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.watchers) == 0 {
		return
	}
	for row := range c.Rows() {
		s := Seen{Record: c.Record(row), Edge: b.GetEdges()[c.Edge(row)]}
		for w := range t.watchers {
			w.offer(s)
		}
	}
}

func (w *Watcher) offer(s Seen) {
	if !w.match(&s.Record, s.Edge) {
		return
	}
	select {
	case w.C <- s:
	default:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lagged++
	}
}

// Lagged returns how many records were left out since it was last asked.
func (w *Watcher) Lagged() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.lagged
	w.lagged = 0
	return n
}
