package details

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/telemetry-hub/ingest"
)

// mesh is a collector with its sidecars, each a function that takes orders.
type mesh struct {
	*Collector
	mu       sync.Mutex // guards the fields below
	sidecars map[string]func(*telemetryv1.Order)
	orders   map[string]int
}

func newMesh(t *testing.T) *mesh {
	m := &mesh{sidecars: make(map[string]func(*telemetryv1.Order)), orders: make(map[string]int)}
	m.Collector = NewCollector(Options{
		Store: open(t, t.TempDir(), 8<<20), Order: m.order, Logger: slog.New(slog.DiscardHandler),
	}, prometheus.NewRegistry())
	return m
}

func (m *mesh) order(sender string, o *telemetryv1.Order) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.orders[sender]++
	f := m.sidecars[sender]
	if f != nil {
		go f(o)
	}
	return f != nil
}

// tells is a sidecar's batch.
func (m *mesh) tells(sender string, answer *telemetryv1.OrderAnswer, details ...*telemetryv1.Detail) {
	a := ingest.Accepted{Batch: &telemetryv1.Batch{Sender: sender}, Columns: &record.Columns{}, Details: details}
	if answer != nil {
		a.Answers = []*telemetryv1.OrderAnswer{answer}
	}
	m.Accept(a)
}

// columnsOf are records as a batch has them.
func columnsOf(t *testing.T, records ...record.Record) *record.Columns {
	t.Helper()
	enc, err := record.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := record.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	columns, err := dec.Decode(enc.Append(nil, record.BlockOf(records)), len(records))
	if err != nil {
		t.Fatal(err)
	}
	return columns
}

func hopOf(n int, instance string) Hop {
	k, _ := KeyOf(detailOf(n, ""))
	return Hop{Key: k, Instance: instance}
}

func TestAskWaitsForWhatItOrders(t *testing.T) {
	m := newMesh(t)
	m.sidecars["a-1"] = func(o *telemetryv1.Order) {
		m.tells("a-1", &telemetryv1.OrderAnswer{Order: o.GetId(), Found: 1})
		m.tells("a-1", nil, detailOf(1, vocab.TriggerOrder)) // in a later batch
	}
	h := hopOf(1, "a-1")
	if a := m.Ask(t.Context(), []Hop{h}, 30*time.Second)[h.Key]; a.Detail.GetRequest().GetLine() != "GET /1" || a.Missing != "" || a.Pending {
		t.Errorf("answer %v", a)
	}
	m.Ask(t.Context(), []Hop{h}, 30*time.Second)
	if m.orders["a-1"] != 1 {
		t.Errorf("ordered %d times", m.orders["a-1"])
	}
}

func TestAskDoesNotWaitUnlessToldTo(t *testing.T) {
	m := newMesh(t)
	m.sidecars["a-1"] = func(*telemetryv1.Order) {}
	h := hopOf(1, "a-1")
	for range 3 {
		if a := m.Ask(t.Context(), []Hop{h}, 0)[h.Key]; a.Detail != nil || !a.Pending || !strings.Contains(a.Missing, "asked") {
			t.Errorf("answer %v", a)
		}
	}
	if m.orders["a-1"] != 1 {
		t.Errorf("ordered %d times", m.orders["a-1"])
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.Ask(ctx, []Hop{h}, time.Hour) // returns
}

func TestAskSaysWhyThereIsNone(t *testing.T) {
	m := newMesh(t)
	answering := func(reason string) func(*telemetryv1.Order) {
		return func(o *telemetryv1.Order) {
			m.tells("other", &telemetryv1.OrderAnswer{Order: o.GetId(), Reason: "not its own"})
			m.tells(reason, &telemetryv1.OrderAnswer{Order: o.GetId(), Reason: reason, HorizonNanos: int64(42 * time.Second)})
		}
	}
	for _, reason := range []string{vocab.NoDetailNotInRing, vocab.NoDetailRingOff, vocab.NoDetailBudget} {
		m.sidecars[reason] = answering(reason)
	}
	m.sidecars["busy"] = func(o *telemetryv1.Order) {
		m.tells("busy", &telemetryv1.OrderAnswer{Order: o.GetId(), Reason: vocab.NoDetailNotInRing, KeptOneOf: 8, HorizonNanos: int64(time.Minute)})
	}
	m.sidecars["was busy"] = func(o *telemetryv1.Order) {
		m.tells("was busy", &telemetryv1.OrderAnswer{Order: o.GetId(), Reason: vocab.NoDetailNotInRing, KeptOneOf: 8, HorizonNanos: 1})
	}
	m.sidecars["old"] = func(*telemetryv1.Order) {}
	for instance, want := range map[string]string{
		vocab.NoDetailNotInRing: "too old: sidecar not_in_ring keeps about 42 seconds", vocab.NoDetailRingOff: "--detail-bytes 0",
		"busy": "busy that it keeps one trace in 8", "was busy": "too old",
		"gone": "sidecar gone is not connected", "": "names no sidecar",
	} {
		h := hopOf(1, instance)
		h.End = time.Now().Add(-time.Second)
		a := m.Ask(t.Context(), []Hop{h}, 30*time.Second)[h.Key]
		if a.Pending || !strings.Contains(a.Missing, want) {
			t.Errorf("%s: %q, want %q", instance, a.Missing, want)
		}
	}
	// An answer that belongs to another sidecar's order says nothing.
	h := hopOf(1, vocab.NoDetailBudget)
	if a := m.Ask(t.Context(), []Hop{h}, 30*time.Second)[h.Key]; !strings.Contains(a.Missing, "no more details just now") {
		t.Errorf("out of budget: %q", a.Missing)
	}
}

func TestWhatWentWrongAtOneHopIsOrderedFromTheOthers(t *testing.T) {
	m := newMesh(t)
	arrived := make(chan *telemetryv1.Order, 4)
	m.sidecars["b-1"] = func(o *telemetryv1.Order) { arrived <- o }
	bad := detailOf(1, vocab.TriggerError)
	one := columnsOf(t, record.Record{Start: time.Unix(1, 0), TraceID: traceOf(1), Code: 200})
	for _, sender := range []string{"a-1", "b-1"} {
		m.Accept(ingest.Accepted{Batch: &telemetryv1.Batch{Sender: sender}, Columns: one})
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- m.Run(ctx) }()
	m.tells("a-1", nil, bad)
	o := <-arrived
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if Trace(o.GetTraceId()) != traceOf(1) || m.orders["a-1"] != 0 {
		t.Errorf("order %v, and %d of the sidecar that told", o, m.orders["a-1"])
	}
}

func TestWrongRecordsAreFollowedOnceAndWithinBounds(t *testing.T) {
	m := newMesh(t)
	rs := make([]record.Record, 4)
	for i := range rs {
		rs[i] = record.Record{Start: time.Unix(1, 0), TraceID: traceOf(i), Code: 200}
	}
	rs[1].Code, rs[2].Flags = 500, "UF"
	columns := columnsOf(t, rs...)
	for range 2 {
		m.Accept(ingest.Accepted{Batch: &telemetryv1.Batch{}, Columns: columns})
	}
	now := time.Now()
	if list := m.follow.next(now); len(list) != 0 {
		t.Errorf("followed at once: %v", list)
	}
	if list := m.follow.next(now.Add(firstLook + time.Second)); len(list) != 2 || list[0] != traceOf(1) || list[1] != traceOf(2) {
		t.Errorf("followed: %v", list)
	}
	if list := m.follow.next(now.Add(secondLook + 2*time.Second)); len(list) != 2 {
		t.Errorf("looked at again: %v", list)
	}
	for i := range 2 * maxFollow {
		m.wrong(traceOf(100 + i))
	}
	if len(m.follow.due) != maxFollow || testutil.ToFloat64(m.m.orders.WithLabelValues("shed")) != maxFollow {
		t.Errorf("%d wait", len(m.follow.due))
	}
	if list := m.follow.next(now.Add(time.Hour)); len(list) != followTraces {
		t.Errorf("%d at a time", len(list))
	}
}

func TestPeoplesOrdersAreBounded(t *testing.T) {
	m := newMesh(t)
	m.sidecars["a-1"] = func(*telemetryv1.Order) {}
	busy := 0
	for i := range 5 * askBurst {
		h := hopOf(i, "a-1")
		if a := m.Ask(t.Context(), []Hop{h}, 0)[h.Key]; strings.Contains(a.Missing, "no more details") {
			busy++
		}
	}
	if busy == 0 || m.orders["a-1"] >= 5*askBurst {
		t.Errorf("%d orders went out", m.orders["a-1"])
	}
	if len(m.asked) > maxPending || len(m.pending) > maxPending {
		t.Errorf("%d asked, %d pending", len(m.asked), len(m.pending))
	}
}

func TestAFloodOfDetailsIsShed(t *testing.T) {
	m := newMesh(t)
	m.take(&telemetryv1.Batch{Sender: "a"}, []*telemetryv1.Detail{detailOf(1, "error")}, nil, keepBurst-1)
	m.take(&telemetryv1.Batch{Sender: "a"}, []*telemetryv1.Detail{detailOf(2, "error")}, nil, keepBurst-1)
	if len(m.o.Store.Find(traceOf(1))) != 1 || len(m.o.Store.Find(traceOf(2))) != 0 || testutil.ToFloat64(m.m.details.WithLabelValues("shed")) != 1 {
		t.Error("the second one is kept")
	}
}

func TestRecentForgetsOnlyWhatIsOld(t *testing.T) {
	var r recent
	r.init()
	one := record.Record{Start: time.Unix(1, 0), TraceID: traceOf(7)}
	other := make([]record.Record, 1<<13)
	for i := range other {
		other[i] = record.Record{Start: time.Unix(1, 0), TraceID: traceOf(8)}
	}
	others := columnsOf(t, other...)
	r.add("a", columnsOf(t, one, one))
	r.add("b", columnsOf(t, one))
	for range recentRecords/len(other) - 1 {
		r.add("c", others)
	}
	if told := r.told(traceOf(7)); len(told) != 2 || told["a"] != 2 || told["b"] != 1 {
		t.Errorf("%v told of what is remembered", told)
	}
	if told := r.told(traceOf(9)); len(told) != 0 {
		t.Errorf("%v told of what nobody has seen", told)
	}
	r.add("c", others)
	if told := r.told(traceOf(7)); len(told) != 0 {
		t.Errorf("%v told of what is too old", told)
	}
	for n := range 1 << 16 {
		r.number(fmt.Sprint(n)) // so many that all is forgotten
	}
	if told := r.told(traceOf(8)); len(told) != 0 || len(r.names) == 1<<16 {
		t.Errorf("%v of %d senders", told, len(r.names))
	}
}
