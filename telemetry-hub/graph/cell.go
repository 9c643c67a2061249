package graph

import (
	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/histogram"
	"github.com/telemesh/telemesh/internal/vocab"
)

// Seconds is how far back the live graph remembers, one cell a second.
const Seconds = 900

// ringCells has room for the seconds that are not finished and those that a
// sender's clock may be ahead, which must not displace the oldest.
const ringCells = Seconds + 4

// cell is one second of one edge as one reporter saw it.
type cell struct {
	second    int64 // Unix seconds; a cell of another second is stale
	counts    counts
	latency   histogram.Sparse
	responses map[response]uint64
}

type response struct {
	code    uint32
	flags   string
	verdict string
}

// counts are the signals that add up.
type counts struct {
	requests, errors, clientErrors, denied, throttled, bytesIn, bytesOut uint64
}

func (c *counts) add(o counts) {
	c.requests += o.requests
	c.errors += o.errors
	c.clientErrors += o.clientErrors
	c.denied += o.denied
	c.throttled += o.throttled
	c.bytesIn += o.bytesIn
	c.bytesOut += o.bytesOut
}

// classify sorts the requests of a row into the signals. What policy refused
// is no error of the service; no response at all is one.
func classify(a *telemetryv1.Aggregate) counts {
	n := a.GetRequests()
	c := counts{requests: n, bytesIn: a.GetRequestBytesSum(), bytesOut: a.GetResponseBytesSum()}
	code, grpc := a.GetResponseCode(), a.GetGrpcStatus()
	switch {
	case a.GetVerdict() == vocab.VerdictDenied:
		c.denied = n
	case a.GetVerdict() == vocab.VerdictThrottled:
		c.throttled = n
	case code == 0 || code >= 500 || grpc != "" && grpc != "0":
		c.errors = n
	case code >= 400:
		c.clientErrors = n
	}
	return c
}

// ring holds the newest ringCells cells. Not safe for concurrent use.
type ring struct {
	cells [ringCells]*cell
}

func (r *ring) add(second int64, a *telemetryv1.Aggregate) {
	slot := &r.cells[second%ringCells]
	if *slot == nil || (*slot).second < second {
		*slot = &cell{second: second, responses: make(map[response]uint64)}
	}
	c := *slot
	if c.second != second {
		return // older than what the ring remembers
	}
	c.counts.add(classify(a))
	for i, index := range a.GetDurationIndex() {
		c.latency.Add(int(index), a.GetDurationCount()[i])
	}
	c.responses[response{a.GetResponseCode(), a.GetResponseFlags(), a.GetVerdict()}] += a.GetRequests()
}

// at returns the cell of one second, nil if nothing happened in it.
func (r *ring) at(second int64) *cell {
	if c := r.cells[second%ringCells]; c != nil && c.second == second {
		return c
	}
	return nil
}

// total merges cells.
type total struct {
	counts  counts
	latency histogram.Sparse
}

func (t *total) add(c *cell) {
	t.counts.add(c.counts)
	t.latency.Merge(&c.latency)
}

// over sums the seconds from first up to but not including end.
func (t *total) over(r *ring, first, end int64) {
	for s := first; s < end; s++ {
		if c := r.at(s); c != nil {
			t.add(c)
		}
	}
}

// signals is a sum in the API's form, with its rate per second.
func (t *total) signals(rate float64) topologyv1.Signals {
	c := t.counts
	s := topologyv1.Signals{
		Requests: c.requests, Rate: rate, Errors: c.errors, ClientErrors: c.clientErrors, Denied: c.denied, Throttled: c.throttled,
		BytesIn: c.bytesIn, BytesOut: c.bytesOut,
		P50: millis(t.latency.Quantile(0.50)), P95: millis(t.latency.Quantile(0.95)), P99: millis(t.latency.Quantile(0.99)),
	}
	if c.requests > 0 {
		s.ErrorShare = float64(c.errors) / float64(c.requests)
	}
	return s
}

// millis turns nanoseconds into milliseconds, keeping -1 for "none".
func millis(nanos float64) float64 {
	if nanos < 0 {
		return -1
	}
	return nanos / 1e6
}
