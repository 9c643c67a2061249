package graph

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// applied is the graph after the deltas, as a browser builds it.
func applied(g topologyv1.Graph, deltas []topologyv1.Delta) topologyv1.Graph {
	nodes, edges := make(map[string]topologyv1.Node), make(map[string]topologyv1.Edge)
	for _, n := range g.Nodes {
		nodes[n.ID] = n
	}
	for _, e := range g.Edges {
		edges[e.ID] = e
	}
	for _, d := range deltas {
		for _, n := range d.Nodes {
			nodes[n.ID] = n
		}
		for _, e := range d.Edges {
			edges[e.ID] = e
		}
		for _, id := range d.RemovedNodes {
			delete(nodes, id)
		}
		for _, id := range d.RemovedEdges {
			delete(edges, id)
		}
		g.Sequence, g.TimeMillis, g.Mesh = d.Sequence, d.TimeMillis, d.Mesh
	}
	g.Nodes, g.Edges = []topologyv1.Node{}, []topologyv1.Edge{}
	for _, n := range nodes {
		g.Nodes = append(g.Nodes, n)
	}
	for _, e := range edges {
		g.Edges = append(g.Edges, e)
	}
	slices.SortFunc(g.Nodes, func(a, b topologyv1.Node) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(g.Edges, func(a, b topologyv1.Edge) int { return cmp.Compare(a.ID, b.ID) })
	return g
}

func TestDeltasLeadFromTheFirstGraphToTheLast(t *testing.T) {
	m := newMesh()
	feeds := NewFeeds(m.Graph)
	m.apply(sample{row: requests(1, 200)})
	m.at(2)
	w := feeds.Watch(60, 0)
	defer w.Close()
	if w.Resumed {
		t.Fatal("a first watch is resumed")
	}
	// Let the edge appear, change and leave.
	for _, second := range []int{3, 4, 200, Seconds + 100, Seconds + 101} {
		m.at(second)
		if second < 200 {
			m.apply(sample{second: second - 1, source: workload("c"), row: requests(uint64(second), 200)})
		}
		feeds.push()
	}
	deltas, ok := w.Next(t.Context())
	if !ok {
		t.Fatal("the watch ended")
	}
	want := m.Snapshot(60)
	want.Sequence = w.Graph.Sequence + 5
	if diff := gocmp.Diff(want, applied(w.Graph, deltas)); diff != "" {
		t.Errorf("(-snapshot +applied):\n%s", diff)
	}
	if len(deltas[4].Nodes)+len(deltas[4].RemovedNodes) != 0 {
		t.Errorf("a second without change tells %+v", deltas[4])
	}
}

func TestAWatcherResumesWhereItWas(t *testing.T) {
	m := newMesh()
	feeds := NewFeeds(m.Graph)
	w := feeds.Watch(60, 0)
	first := w.Graph.Sequence
	w.Close()
	w.Close() // twice is safe
	if feeds.Watchers() != 0 {
		t.Errorf("%d watchers, want none", feeds.Watchers())
	}
	m.apply(sample{row: requests(1, 200)})
	for second := range 5 {
		m.at(second)
		feeds.push()
	}
	back := feeds.Watch(60, first+2)
	defer back.Close()
	if !back.Resumed || len(back.Missed) != 3 || back.Missed[0].Sequence != first+3 {
		t.Errorf("resumed %v with %d deltas, want the last three", back.Resumed, len(back.Missed))
	}
	for _, after := range []uint64{1, first - 1, first + 6} {
		other := feeds.Watch(60, after)
		if other.Resumed {
			t.Errorf("resumed behind %d, which is not there", after)
		}
		other.Close()
	}
	for second := range resumable + 10 {
		m.at(second)
		feeds.push()
	}
	gone := feeds.Watch(60, first+2)
	defer gone.Close()
	if gone.Resumed {
		t.Error("resumed although the deltas are gone")
	}
	if _, ok := back.Next(t.Context()); ok {
		t.Error("a watcher that fell behind goes on")
	}
}

func TestFeedsNobodyWatchesAreDropped(t *testing.T) {
	m := newMesh()
	feeds := NewFeeds(m.Graph)
	watched := feeds.Watch(60, 0)
	defer watched.Close()
	left := feeds.Watch(300, 0)
	left.Close()
	m.now = m.now.Add(lingering)
	feeds.push()
	if len(feeds.feeds) != 2 {
		t.Error("a feed is dropped before its time")
	}
	m.now = m.now.Add(time.Second)
	feeds.push()
	if len(feeds.feeds) != 1 || feeds.Watchers() != 1 {
		t.Errorf("%d feeds and %d watchers are left, want 1 and 1", len(feeds.feeds), feeds.Watchers())
	}
}

func TestRunPushesOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh()
		feeds := NewFeeds(m.Graph)
		w := feeds.Watch(60, 0)
		defer w.Close()
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- feeds.Run(ctx) }()
		for i := range uint64(3) {
			deltas, ok := w.Next(ctx)
			if !ok || len(deltas) != 1 || deltas[0].Sequence != w.Graph.Sequence+i+1 {
				t.Fatalf("got %v, %v", deltas, ok)
			}
		}
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, ok := w.Next(ctx); ok {
			t.Error("Next goes on after its context ended")
		}
	})
}
