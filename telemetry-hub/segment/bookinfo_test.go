package segment

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// bookinfo makes the records of a small mesh: five services, reviews in three
// versions, three pods each, both sides of each hop, one request in a hundred
// failing, the hops of a request spread over 256 rows.
type bookinfo struct {
	random *rand.Rand
	now    int64
	step   int64
	edges  []*telemetryv1.Edge
	index  map[string]uint32
	agents []string
	queue  []record.Record
}

const bookinfoStart = 1_790_000_000_000_000_000

func newBookinfo(seed uint64, step time.Duration) *bookinfo {
	b := &bookinfo{random: rand.New(rand.NewPCG(seed, 2)), now: bookinfoStart, step: int64(step), index: make(map[string]uint32)}
	for i := range 50 {
		b.agents = append(b.agents, fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64; rv:%d.0) Gecko/20100101 Firefox/%d.0", 90+i, 90+i))
	}
	return b
}

func (b *bookinfo) id() (id [8]byte) {
	binary.LittleEndian.PutUint64(id[:], b.random.Uint64())
	return id
}

func pod(service, version string, n int) *telemetryv1.Identity {
	workload := service + "-" + version
	return &telemetryv1.Identity{
		Cluster: "cluster-1", Namespace: "default", Workload: workload, Service: service, Version: version,
		Principal: "spiffe://cluster.local/ns/default/sa/bookinfo-" + service,
		Instance:  fmt.Sprintf("%s-%08x-%05x", workload, 0x7c9d4f55, len(workload)*4099+n*65537),
	}
}

func (b *bookinfo) edge(reporter telemetryv1.Reporter, source, destination *telemetryv1.Identity) uint32 {
	key := fmt.Sprint(reporter, source.GetInstance(), destination.GetInstance())
	i, ok := b.index[key]
	if !ok {
		i = uint32(len(b.edges))
		b.index[key] = i
		b.edges = append(b.edges, &telemetryv1.Edge{
			Reporter: reporter, Source: source, Destination: destination,
			DestinationService: destination.GetService() + ".default.svc.cluster.local", Security: "mutual_tls",
		})
	}
	return i
}

// request queues six or eight records.
func (b *bookinfo) request() {
	r := b.random
	version := fmt.Sprintf("v%d", 1+r.IntN(3))
	hops := [][3]string{{"istio-ingress", "v1", "productpage"}, {"productpage", "v1", "details"}, {"productpage", "v1", "reviews"}, {"reviews", version, "ratings"}}
	if version == "v1" {
		hops = hops[:3]
	}
	var trace [16]byte
	binary.LittleEndian.PutUint64(trace[:], r.Uint64())
	binary.LittleEndian.PutUint64(trace[8:], r.Uint64())
	agent, product, fails, parent := b.agents[r.IntN(50)], r.IntN(1000), r.IntN(100) == 0, [8]byte{}
	first := len(b.queue)
	for i, hop := range hops {
		destinationVersion := "v1"
		if hop[2] == "reviews" {
			destinationVersion = version
		}
		source, destination := pod(hop[0], hop[1], r.IntN(3)), pod(hop[2], destinationVersion, r.IntN(3))
		duration := time.Duration(math.Exp(r.NormFloat64()*0.7+14) * float64(5-i))
		record := record.Record{
			Duration: duration, FirstByte: duration * 9 / 10, TraceID: trace, Protocol: "http", HTTPVersion: "HTTP/1.1", Method: "GET",
			Path: fmt.Sprintf("/%s/%d", hop[2], product), Host: hop[2] + ":9080", Route: "outbound|9080||" + hop[2] + ".default.svc.cluster.local",
			Code: 200, Detail: "via_upstream", BytesIn: uint64(300 + r.IntN(400)), BytesOut: uint64(200 + r.IntN(5000)),
			Attempts: 1, Upstream: fmt.Sprintf("10.0.%d.%d:9080", len(hop[2]), r.IntN(3)), Verdict: "ok", UserAgent: agent, Sampled: product%10 == 0,
		}
		if fails && i == len(hops)-1 {
			record.Code, record.Flags, record.Detail = 503, "UF,URX", "upstream_reset_before_response_started{connection_failure}"
		}
		for side := telemetryv1.Reporter_REPORTER_SOURCE; side <= telemetryv1.Reporter_REPORTER_DESTINATION; side++ {
			record.Start = time.Unix(0, b.now+r.Int64N(20_000_000))
			record.Duration -= time.Duration(r.Int64N(300_000)) * time.Duration(side-1)
			record.Duration = max(record.Duration, 0)
			record.Edge = b.edge(side, source, destination)
			record.SpanID, record.ParentSpanID = b.id(), parent
			parent = record.SpanID
			b.queue = append(b.queue, record)
		}
	}
	b.now += b.step * int64(len(b.queue)-first)
}

// next is a batch of n records.
func (b *bookinfo) next(n int) []record.Record {
	for len(b.queue) < n+4096 {
		b.request()
	}
	for i := range n {
		j := i + b.random.IntN(256)
		b.queue[i], b.queue[j] = b.queue[j], b.queue[i]
	}
	out := append([]record.Record(nil), b.queue[:n]...)
	b.queue = append(b.queue[:0], b.queue[n:]...)
	return out
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
	g, c := newBookinfo(seed, 100*time.Microsecond), newCodec(t)
	var out []batch
	for rows > 0 {
		n := min(rows, 1000)
		out = append(out, c.batch(t, g.next(n), g.edges, fmt.Sprintf("productpage-%d", len(out)%3)))
		rows -= n
	}
	return out
}
