package segment

import (
	"cmp"
	"slices"
	"time"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/histogram"
	"github.com/telemesh/telemesh/internal/varint"
	"github.com/telemesh/telemesh/internal/vocab"
)

// Aggregate is what one edge saw in one minute, of one protocol. Replicas are
// summed up: the edge names no instance.
type Aggregate struct {
	Minute   time.Time // its beginning; a request counts where it started
	Edge     *telemetryv1.Edge
	Protocol string
	Counts
	Duration histogram.Sparse // nanoseconds
}

// Counts add up. A request is in at most one of the classes Errors to
// Throttled: what policy refused is no error of the service.
type Counts struct {
	Requests          uint64
	Errors            uint64 // no response, 5xx, or a gRPC status other than OK
	ClientErrors      uint64 // 4xx
	Denied, Throttled uint64
	BytesIn, BytesOut uint64
}

// classify counts one request.
func (c *Counts) classify(code, grpc int64, verdict string) {
	c.Requests++
	switch {
	case verdict == vocab.VerdictDenied:
		c.Denied++
	case verdict == vocab.VerdictThrottled:
		c.Throttled++
	case failed(code, grpc):
		c.Errors++
	case code >= 400:
		c.ClientErrors++
	}
}

// numEdgeTexts are those of an origin without sender and instances, and the
// protocol.
const numEdgeTexts = numOrigin - 2

// edgeTexts name an edge of the aggregates, in the order of the columns.
type edgeTexts [numEdgeTexts]string

func edgeTextsOf(o *origin, protocol string) (e edgeTexts) {
	at := 0
	for c := Reporter; c <= Security; c++ {
		if c != SourceInstance && c != DestinationInstance {
			e[at] = o.at(c)
			at++
		}
	}
	e[at] = protocol
	return e
}

// origin is the reverse.
func (e *edgeTexts) origin() (o origin) {
	at := 0
	for c := Reporter; c <= Security; c++ {
		if c != SourceInstance && c != DestinationInstance {
			o[c-firstOrigin] = e[at]
			at++
		}
	}
	return o
}

func (e *edgeTexts) protocol() string { return e[numEdgeTexts-1] }

// aggregator sums up the rows of a segment. Its memory grows with the edges
// times the minutes times the buckets in use, not with the rows.
type aggregator struct {
	edges   []edgeTexts
	edgeID  map[edgeTexts]uint32
	cells   []cell
	cellID  map[cellKey]uint32
	buckets map[uint64]uint64 // cell and bucket to count
}

type cellKey struct {
	minute int64 // since 1970
	edge   uint32
}

type cell struct {
	cellKey
	Counts
}

func newAggregator() *aggregator {
	return &aggregator{edgeID: make(map[edgeTexts]uint32), cellID: make(map[cellKey]uint32), buckets: make(map[uint64]uint64)}
}

// bucketBits hold a bucket of the histogram, of which there are 496.
const bucketBits = 9

func (a *aggregator) add(f *groupFacts) {
	// A row's edge and protocol mostly met the same minute before.
	type memory struct {
		minute int64
		edge   uint32
		cell   uint32
		known  bool
	}
	memories := make([]memory, len(f.tuples)*len(f.protocols))
	for i, start := range f.starts {
		o, p := f.origins[i], f.protocol[i]
		m := &memories[int(o)*len(f.protocols)+int(p)]
		minute := floorMinute(start)
		if !m.known || m.minute != minute {
			if !m.known {
				m.edge = a.edge(edgeTextsOf(f.tuples[o], f.protocols[p]))
			}
			m.minute, m.known, m.cell = minute, true, a.cell(cellKey{minute, m.edge})
		}
		c := &a.cells[m.cell].Counts
		c.classify(f.codes[i], f.grpc[i], f.verdicts[f.verdict[i]])
		c.BytesIn += uint64(f.bytesIn[i])
		c.BytesOut += uint64(f.bytesOut[i])
		a.buckets[uint64(m.cell)<<bucketBits|uint64(histogram.Index(uint64(f.durations[i])))]++
	}
}

func floorMinute(nanos int64) int64 {
	minute := nanos / int64(time.Minute)
	if nanos%int64(time.Minute) < 0 {
		minute--
	}
	return minute
}

func (a *aggregator) edge(e edgeTexts) uint32 {
	id, ok := a.edgeID[e]
	if !ok {
		id = uint32(len(a.edges))
		a.edges = append(a.edges, e)
		a.edgeID[e] = id
	}
	return id
}

func (a *aggregator) cell(k cellKey) uint32 {
	id, ok := a.cellID[k]
	if !ok {
		id = uint32(len(a.cells))
		a.cells = append(a.cells, cell{cellKey: k})
		a.cellID[k] = id
	}
	return id
}

// appendTo writes the aggregates:
//
//	uvarint(texts) (uvarint(length) bytes)*
//	uvarint(edges) (a uvarint, the place of a text, for each of an edge's texts)*
//	uvarint(cells) cell*
//	cell = varint(minutes above the cell before) uvarint(edge) uvarint(count)*7
//	       uvarint(buckets) (uvarint(above the bucket before) uvarint(count))*
//
// Texts and edges are sorted, cells by minute and edge, so that the same rows
// give the same bytes.
func (a *aggregator) appendTo(dst []byte) []byte {
	rank := a.rankEdges()
	w := writer{dst}
	a.appendEdges(&w, rank)
	order := make([]uint32, len(a.cells))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(x, y uint32) int {
		p, q := &a.cells[x], &a.cells[y]
		return cmp.Or(cmp.Compare(p.minute, q.minute), cmp.Compare(rank[p.edge], rank[q.edge]))
	})
	byCell := a.bucketsByCell()
	w.uvarint(uint64(len(order)))
	last := int64(0)
	for _, i := range order {
		c := &a.cells[i]
		w.varint(c.minute - last)
		last = c.minute
		w.uvarint(uint64(rank[c.edge]))
		for _, n := range c.list() {
			w.uvarint(*n)
		}
		w.uvarint(uint64(len(byCell[i])))
		before := uint64(0)
		for _, b := range byCell[i] {
			w.uvarint(b.index - before)
			w.uvarint(b.count)
			before = b.index
		}
	}
	return w.b
}

// list is in the order of the file.
func (c *Counts) list() [7]*uint64 {
	return [7]*uint64{&c.Requests, &c.Errors, &c.ClientErrors, &c.Denied, &c.Throttled, &c.BytesIn, &c.BytesOut}
}

// rankEdges is the place of each edge among the sorted ones.
func (a *aggregator) rankEdges() []uint32 {
	rank := make([]uint32, len(a.edges))
	for place, id := range a.sortedEdges() {
		rank[id] = uint32(place)
	}
	return rank
}

func (a *aggregator) sortedEdges() []uint32 {
	order := make([]uint32, len(a.edges))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(x, y uint32) int { return slices.Compare(a.edges[x][:], a.edges[y][:]) })
	return order
}

func (a *aggregator) appendEdges(w *writer, rank []uint32) {
	var all []string
	for i := range a.edges {
		all = append(all, a.edges[i][:]...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	place := make(map[string]uint64, len(all))
	w.uvarint(uint64(len(all)))
	for i, s := range all {
		place[s] = uint64(i)
		w.text(s)
	}
	w.uvarint(uint64(len(rank)))
	for _, id := range a.sortedEdges() {
		for _, s := range a.edges[id] {
			w.uvarint(place[s])
		}
	}
}

type bucket struct{ index, count uint64 }

func (a *aggregator) bucketsByCell() [][]bucket {
	by := make([][]bucket, len(a.cells))
	for k, n := range a.buckets {
		by[k>>bucketBits] = append(by[k>>bucketBits], bucket{k & (1<<bucketBits - 1), n})
	}
	for _, b := range by {
		slices.SortFunc(b, func(x, y bucket) int { return cmp.Compare(x.index, y.index) })
	}
	return by
}

// readAggregates is the reverse of appendTo.
func readAggregates(b []byte) ([]Aggregate, bool) {
	r := varint.Reader{B: b}
	list := make([]string, r.Count(1))
	for i := range list {
		list[i] = r.Text()
	}
	edges := make([]edgeTexts, r.Count(numEdgeTexts))
	for i := range edges {
		for j := range edges[i] {
			if at := r.Uvarint(); at < uint64(len(list)) {
				edges[i][j] = list[at]
			} else {
				r.Fail()
			}
		}
	}
	messages := make([]*telemetryv1.Edge, len(edges))
	for i := range edges {
		o := edges[i].origin()
		messages[i] = o.edge()
	}
	out := make([]Aggregate, r.Count(10))
	minute := int64(0)
	for i := range out {
		a := &out[i]
		minute += r.Varint()
		edge := r.Uvarint()
		if edge >= uint64(len(edges)) {
			return nil, false
		}
		a.Minute, a.Edge, a.Protocol = time.Unix(minute*60, 0).UTC(), messages[edge], edges[edge].protocol()
		for _, n := range a.list() {
			*n = r.Uvarint()
		}
		index := uint64(0)
		for range r.Count(2) {
			index += r.Uvarint()
			a.Duration.Add(int(index&(1<<bucketBits-1)), r.Uvarint())
		}
	}
	return out, !r.Bad && len(r.B) == 0
}
