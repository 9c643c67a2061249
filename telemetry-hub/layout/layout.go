// Package layout places the nodes of the service graph: in layers from callers
// to callees, the same picture for the same graph, and once a node has a place
// it keeps it. Only a new node is placed, next to its neighbours.
package layout

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"time"
)

// Distances between neighbouring nodes, in layout units.
const (
	LayerGap = 260.0
	RowGap   = 110.0
)

// Point is the centre of a node.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// Graph is the structure to place.
type Graph struct {
	Nodes []string
	Edges [][2]string // caller, callee
}

// youth is how long a graph may still be arranged as a whole: in its first
// seconds edges come one by one, and places given to them would be bad for
// good.
const youth = 8 * time.Second

// Layout remembers where nodes are. Safe for concurrent use.
type Layout struct {
	file string
	now  func() time.Time

	mu      sync.Mutex // guards the fields below
	points  map[string]Point
	settled bool
	born    time.Time // first edge of an unsettled graph
	edges   int
	dirty   bool
}

// New returns a layout that remembers in file (empty: only in memory). A file
// that cannot be read means a new arrangement, with the error for the log.
func New(file string, now func() time.Time) (*Layout, error) {
	l := &Layout{file: file, now: now, points: make(map[string]Point)}
	if file == "" {
		return l, nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &l.points)
	}
	if err != nil {
		l.points = make(map[string]Point)
		return l, fmt.Errorf("read layout %s: %w", file, err)
	}
	l.settled = len(l.points) > 0
	return l, nil
}

// Place returns a place for every node.
func (l *Layout) Place(g Graph) map[string]Point {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.settled:
		l.add(g)
	case len(g.Edges) == 0:
		l.arrange(g)
	default:
		if l.born.IsZero() {
			l.born = l.now()
		}
		if len(g.Edges) != l.edges || len(g.Nodes) != len(l.points) || l.lacks(g) {
			l.arrange(g)
			l.edges = len(g.Edges)
		}
		if l.now().Sub(l.born) >= youth {
			l.settled, l.dirty = true, true
		}
	}
	out := make(map[string]Point, len(g.Nodes))
	for _, n := range g.Nodes {
		out[n] = l.points[n]
	}
	return out
}

// Tidy arranges the graph afresh.
func (l *Layout) Tidy(g Graph) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrange(g)
	l.settled, l.dirty = true, true
}

// Save writes the places down if they changed since.
func (l *Layout) Save() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dirty || l.file == "" || !l.settled { // what may still change is not worth keeping
		return nil
	}
	b, err := json.Marshal(l.points)
	if err != nil {
		return fmt.Errorf("encode layout: %w", err)
	}
	if err := os.WriteFile(l.file+".new", b, 0o644); err != nil {
		return fmt.Errorf("write layout: %w", err)
	}
	if err := os.Rename(l.file+".new", l.file); err != nil {
		return fmt.Errorf("write layout: %w", err)
	}
	l.dirty = false
	return nil
}

func (l *Layout) arrange(g Graph) {
	l.points = Arrange(g)
	l.dirty = true
}

// lacks reports whether a node has no place.
func (l *Layout) lacks(g Graph) bool {
	return slices.ContainsFunc(g.Nodes, func(n string) bool { _, known := l.points[n]; return !known })
}

// add places what has no place: behind its callers or before its callees, at
// the height of its neighbours, in the nearest free row. Nodes next to placed
// ones go first, so that a chain of new nodes is placed from where it begins.
func (l *Layout) add(g Graph) {
	l.forget(g)
	nodes := slices.Sorted(slices.Values(g.Nodes))
	for l.lacks(g) {
		placed := false
		near := l.beside(g)
		for _, n := range nodes {
			p, ok := near[n]
			if _, known := l.points[n]; known || !ok {
				continue
			}
			l.points[n] = l.free(p)
			placed, l.dirty = true, true
		}
		if placed {
			continue
		}
		// What is left has no placed neighbour: its first node starts anew.
		i := slices.IndexFunc(nodes, func(n string) bool { _, known := l.points[n]; return !known })
		l.points[nodes[i]] = l.free(Point{})
		l.dirty = true
	}
}

// beside is where nodes without a place belong by their placed neighbours.
func (l *Layout) beside(g Graph) map[string]Point {
	callers, callees := make(map[string][]Point), make(map[string][]Point)
	for _, e := range g.Edges {
		from, fromKnown := l.points[e[0]]
		to, toKnown := l.points[e[1]]
		if fromKnown && !toKnown {
			callers[e[1]] = append(callers[e[1]], from)
		}
		if toKnown && !fromKnown {
			callees[e[0]] = append(callees[e[0]], to)
		}
	}
	out := make(map[string]Point)
	for n, list := range callees {
		x := math.Inf(1)
		for _, p := range list {
			x = math.Min(x, p.X-LayerGap)
		}
		out[n] = Point{x, meanY(list)}
	}
	for n, list := range callers {
		x := math.Inf(-1)
		for _, p := range list {
			x = math.Max(x, p.X+LayerGap)
		}
		out[n] = Point{x, meanY(append(list, callees[n]...))}
	}
	return out
}

// maxIdle places of nodes that are not in the graph are kept for their return.
const maxIdle = 5000

// forget bounds what is remembered of nodes that are gone.
func (l *Layout) forget(g Graph) {
	if len(l.points) <= len(g.Nodes)+maxIdle {
		return
	}
	kept := make(map[string]Point, len(g.Nodes))
	for _, n := range g.Nodes {
		if p, ok := l.points[n]; ok {
			kept[n] = p
		}
	}
	l.points, l.dirty = kept, true
}

func meanY(ps []Point) float64 {
	if len(ps) == 0 {
		return 0
	}
	var sum float64
	for _, p := range ps {
		sum += p.Y
	}
	return sum / float64(len(ps))
}

// free finds the row nearest to p in its layer in which no node stands.
func (l *Layout) free(p Point) Point {
	for i := range 2*len(l.points) + 2 {
		step := float64((i+1)/2) * RowGap
		if i%2 == 0 {
			step = -step
		}
		at := Point{p.X, p.Y + step}
		if !l.taken(at) {
			return at
		}
	}
	return p
}

func (l *Layout) taken(at Point) bool {
	for _, p := range l.points {
		if math.Abs(p.X-at.X) < LayerGap*0.7 && math.Abs(p.Y-at.Y) < RowGap*0.9 {
			return true
		}
	}
	return false
}

// Arrange is the full layered layout: back edges are found by depth-first
// search and ignored, layers are longest paths, and rows are ordered by eight
// barycentre sweeps. Deterministic.
func Arrange(g Graph) map[string]Point {
	nodes := slices.Sorted(slices.Values(g.Nodes))
	callees := forward(nodes, g.Edges)
	layers := rows(nodes, callees)
	order(layers, callees)
	points := make(map[string]Point, len(nodes))
	for x, layer := range layers {
		for y, n := range layer {
			points[n] = Point{X: float64(x) * LayerGap, Y: (float64(y) - float64(len(layer)-1)/2) * RowGap}
		}
	}
	return points
}

// forward returns each node's callees without the edges that close a cycle.
func forward(nodes []string, edges [][2]string) map[string][]string {
	all := make(map[string][]string)
	called := make(map[string]bool)
	for _, e := range edges {
		if e[0] != e[1] {
			all[e[0]] = append(all[e[0]], e[1])
			called[e[1]] = true
		}
	}
	for n, list := range all {
		slices.Sort(list)
		all[n] = slices.Compact(list) // one edge for each service and protocol
	}
	const open, closed = 1, 2
	state := make(map[string]int)
	out := make(map[string][]string)
	var visit func(string)
	visit = func(n string) {
		state[n] = open
		for _, c := range all[n] {
			if state[c] == open {
				continue // a back edge
			}
			out[n] = append(out[n], c)
			if state[c] == 0 {
				visit(c)
			}
		}
		state[n] = closed
	}
	// Roots first, so that a cycle is cut where it is entered.
	for _, roots := range []bool{true, false} {
		for _, n := range nodes {
			if state[n] == 0 && (!roots || !called[n]) {
				visit(n)
			}
		}
	}
	return out
}

// rows groups the nodes by their longest path from a root. Nodes without any
// edge stand in a layer of their own behind the last.
func rows(nodes []string, callees map[string][]string) [][]string {
	callers := make(map[string][]string)
	for n, list := range callees {
		for _, c := range list {
			callers[c] = append(callers[c], n)
		}
	}
	depth := make(map[string]int)
	var measure func(string) int
	measure = func(n string) int {
		if d, ok := depth[n]; ok {
			return d
		}
		d := 0
		for _, c := range callers[n] {
			d = max(d, measure(c)+1)
		}
		depth[n] = d
		return d
	}
	var layers [][]string
	var alone []string
	for _, n := range nodes {
		if len(callers[n]) == 0 && len(callees[n]) == 0 {
			alone = append(alone, n)
			continue
		}
		d := measure(n)
		for len(layers) <= d {
			layers = append(layers, nil)
		}
		layers[d] = append(layers[d], n)
	}
	// Many lonely nodes fill columns of six.
	for chunk := range slices.Chunk(alone, 6) {
		layers = append(layers, chunk)
	}
	return layers
}

// order sorts each layer by the mean row of its neighbours, up and down.
func order(layers [][]string, callees map[string][]string) {
	callers := make(map[string][]string)
	for n, list := range callees {
		for _, c := range list {
			callers[c] = append(callers[c], n)
		}
	}
	at := make(map[string]float64)
	for _, layer := range layers {
		for i, n := range layer {
			at[n] = float64(i) - float64(len(layer)-1)/2
		}
	}
	sweep := func(layer []string, neighbours map[string][]string) {
		weight := make(map[string]float64)
		for _, n := range layer {
			weight[n] = at[n]
			if list := neighbours[n]; len(list) > 0 {
				var sum float64
				for _, m := range list {
					sum += at[m]
				}
				weight[n] = sum / float64(len(list))
			}
		}
		slices.SortStableFunc(layer, func(a, b string) int { return cmp.Or(cmp.Compare(weight[a], weight[b]), cmp.Compare(a, b)) })
		for i, n := range layer {
			at[n] = float64(i) - float64(len(layer)-1)/2
		}
	}
	for range 4 {
		for i := 1; i < len(layers); i++ {
			sweep(layers[i], callers)
		}
		for i := len(layers) - 2; i >= 0; i-- {
			sweep(layers[i], callees)
		}
	}
}
