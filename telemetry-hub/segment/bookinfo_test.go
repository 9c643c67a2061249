package segment

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/recordgen"
)

// bookinfo is recordgen's mesh with the records of all its sidecars in one list,
// in the order in which requests began: the hops of a request stand some hundred
// rows apart, and a batch has records of all edges.
type bookinfo struct {
	t     testing.TB
	codec codec
	mesh  *recordgen.Mesh
	edges []*telemetryv1.Edge
	index map[*telemetryv1.Edge]uint32
	queue []record.Record
}

const bookinfoStart = 1_790_000_000_000_000_000

func newBookinfo(t testing.TB, c codec, seed uint64, step time.Duration) *bookinfo {
	t.Helper()
	mesh := recordgen.New(recordgen.Options{Seed: seed, Start: time.Unix(0, bookinfoStart), Step: step})
	return &bookinfo{t: t, codec: c, mesh: mesh, index: make(map[*telemetryv1.Edge]uint32)}
}

// next is a batch of n records. Its edges are b.edges.
func (b *bookinfo) next(n int) []record.Record {
	b.t.Helper()
	for len(b.queue) < n {
		for range 1000 {
			b.mesh.Request()
		}
		for _, s := range b.mesh.Senders {
			b.take(s)
		}
		slices.SortStableFunc(b.queue, func(x, y record.Record) int { return x.Start.Compare(y.Start) })
	}
	out := slices.Clone(b.queue[:n])
	b.queue = append(b.queue[:0], b.queue[n:]...)
	return out
}

// take adds the records of a sidecar to the queue.
func (b *bookinfo) take(s *recordgen.Sender) {
	b.t.Helper()
	sent := s.Batch(b.codec.encoder, b.mesh.Now())
	if sent.GetRecordCount() == 0 {
		return
	}
	columns, err := b.codec.decoder.Decode(sent.GetRecords(), int(sent.GetRecordCount()))
	if err != nil {
		b.t.Fatal(err)
	}
	for row := range columns.Rows() {
		r := columns.Record(row)
		edge := sent.GetEdges()[r.Edge]
		i, ok := b.index[edge]
		if !ok {
			i = uint32(len(b.edges))
			b.index[edge], b.edges = i, append(b.edges, edge)
		}
		r.Edge = i
		b.queue = append(b.queue, r)
	}
}

// batch is what the hub has of one batch after decoding.
type batch struct {
	columns *record.Columns
	edges   []*telemetryv1.Edge
	sender  string
}

// codec turns records into what a hub sees of them.
type codec struct {
	encoder *record.Encoder
	decoder *record.Decoder
}

func newCodec(t testing.TB) codec {
	t.Helper()
	e, err := record.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	d, err := record.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return codec{e, d}
}

func (c codec) batch(t testing.TB, rs []record.Record, edges []*telemetryv1.Edge, sender string) batch {
	t.Helper()
	columns, err := c.decoder.Decode(c.encoder.Append(nil, record.BlockOf(rs)), len(rs))
	if err != nil {
		t.Fatal(err)
	}
	return batch{columns, edges, sender}
}

// bookinfoBatches are batches of 1000 records.
func bookinfoBatches(t testing.TB, seed uint64, rows int) []batch {
	t.Helper()
	c := newCodec(t)
	g := newBookinfo(t, c, seed, 100*time.Microsecond)
	var out []batch
	for rows > 0 {
		n := min(rows, 1000)
		out = append(out, c.batch(t, g.next(n), g.edges, fmt.Sprintf("productpage-%d", len(out)%3)))
		rows -= n
	}
	return out
}
