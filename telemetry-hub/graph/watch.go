package graph

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

const (
	// pushEvery is the pace of deltas to browsers.
	pushEvery = time.Second
	// resumable deltas are kept for watchers that come back.
	resumable = 60
	// lingering keeps a feed without watchers alive for those who reconnect.
	lingering = 30 * time.Second
)

// Watch is one watcher's view. Start with Graph when Resumed is false, else
// with the deltas since; then follow with Next.
type Watch struct {
	Graph   topologyv1.Graph
	Missed  []topologyv1.Delta
	Resumed bool

	feed   *feed
	last   uint64
	now    func() time.Time
	closed bool
}

// Feeds pushes deltas of the graph, one feed per window length, shared by all
// who watch that window. Create it with NewFeeds; Run must run.
type Feeds struct {
	graph *Graph
	mu    sync.Mutex // guards the field below
	feeds map[int]*feed
}

// NewFeeds returns the feeds of g.
func NewFeeds(g *Graph) *Feeds { return &Feeds{graph: g, feeds: make(map[int]*feed)} }

// feed is the sequence of deltas for one window.
type feed struct {
	mu       sync.Mutex // guards the fields below
	current  topologyv1.Graph
	recent   []topologyv1.Delta // oldest first
	next     chan struct{}      // closed when a delta was added
	watchers int
	lastUsed time.Time
}

// Run adds a delta to every feed once a second until ctx ends.
func (f *Feeds) Run(ctx context.Context) error {
	tick := time.NewTicker(pushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.push()
		case <-ctx.Done():
			return nil
		}
	}
}

// Watchers counts who watches now.
func (f *Feeds) Watchers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, one := range f.feeds {
		one.mu.Lock()
		n += one.watchers
		one.mu.Unlock()
	}
	return n
}

func (f *Feeds) push() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for window, one := range f.feeds {
		if one.idle(f.graph.o.Now()) {
			delete(f.feeds, window)
			continue
		}
		one.add(f.graph.Snapshot(window))
	}
}

func (one *feed) idle(now time.Time) bool {
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.watchers == 0 && now.Sub(one.lastUsed) > lingering
}

func (one *feed) add(g topologyv1.Graph) {
	one.mu.Lock()
	defer one.mu.Unlock()
	g.Sequence = one.current.Sequence + 1
	one.recent = append(one.recent, diff(&one.current, &g))
	if len(one.recent) > resumable {
		one.recent = one.recent[1:]
	}
	one.current = g
	close(one.next)
	one.next = make(chan struct{})
}

// Watch begins to watch the window. With after above zero it resumes behind
// that sequence if the deltas since are still there. Close must be called.
func (f *Feeds) Watch(window int, after uint64) *Watch {
	window = min(max(window, 1), Seconds)
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.feeds[window]
	if one == nil {
		one = &feed{next: make(chan struct{}), current: f.graph.Snapshot(window)}
		// Sequences rise over the feed's whole life and start at the time, so
		// that a number of an earlier feed is never taken for one of this.
		one.current.Sequence = uint64(f.graph.o.Now().UnixMilli())
		f.feeds[window] = one
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	one.watchers++
	one.lastUsed = f.graph.o.Now()
	w := &Watch{Graph: one.current, feed: one, last: one.current.Sequence, now: f.graph.o.Now}
	if missed, ok := one.since(after); ok {
		w.Missed, w.Resumed = missed, true
	}
	return w
}

// since returns the deltas behind a sequence, if none of them is gone.
func (one *feed) since(after uint64) ([]topologyv1.Delta, bool) {
	if after == one.current.Sequence {
		return nil, true
	}
	for i, d := range one.recent {
		if d.Sequence == after+1 {
			return append([]topologyv1.Delta(nil), one.recent[i:]...), true
		}
	}
	return nil, false
}

// Next waits for what follows. It reports false when ctx ended or the watcher
// fell so far behind that it must begin again.
func (w *Watch) Next(ctx context.Context) ([]topologyv1.Delta, bool) {
	for {
		w.feed.mu.Lock()
		deltas, ok := w.feed.since(w.last)
		next := w.feed.next
		w.feed.mu.Unlock()
		if !ok {
			return nil, false
		}
		if len(deltas) > 0 {
			w.last = deltas[len(deltas)-1].Sequence
			return deltas, true
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// Close ends the watch. Closing twice is safe.
func (w *Watch) Close() {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	if w.closed {
		return
	}
	w.closed = true
	w.feed.watchers--
	w.feed.lastUsed = w.now()
}

// diff is what leads from old to g.
func diff(old, g *topologyv1.Graph) topologyv1.Delta {
	d := topologyv1.Delta{Sequence: g.Sequence, TimeMillis: g.TimeMillis, Mesh: g.Mesh}
	d.Nodes, d.RemovedNodes = changed(old.Nodes, g.Nodes, func(n topologyv1.Node) string { return n.ID })
	d.Edges, d.RemovedEdges = changed(old.Edges, g.Edges, func(e topologyv1.Edge) string { return e.ID })
	return d
}

func changed[T any](old, now []T, id func(T) string) (list []T, removed []string) {
	list, removed = []T{}, []string{}
	before := make(map[string]T, len(old))
	for _, v := range old {
		before[id(v)] = v
	}
	for _, v := range now {
		was, known := before[id(v)]
		delete(before, id(v))
		if !known || !reflect.DeepEqual(was, v) {
			list = append(list, v)
		}
	}
	for key := range before {
		removed = append(removed, key)
	}
	slices.Sort(removed)
	return list, removed
}
