package ingest

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/recordgen"
)

func TestAdmissionKeepsItsBudgetAndTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := newAdmission(100, func(string) {})
		type waiter struct {
			weight int64
			ticket chan *ticket
		}
		var waiting []waiter // in the order in which they came
		var under []*ticket
		var used int64
		// settle takes those that must be admitted by now, and no other may be.
		settle := func() {
			for len(waiting) > 0 && used+waiting[0].weight <= 100 {
				under = append(under, <-waiting[0].ticket)
				used += waiting[0].weight
				waiting = waiting[1:]
			}
			s := a.stats()
			if s.used != used || s.waitingBatches != len(waiting) || s.underWayBatches != len(under) {
				t.Fatalf("%d bytes of %d batches admitted and %d waiting, want %d of %d and %d",
					s.used, s.underWayBatches, s.waitingBatches, used, len(under), len(waiting))
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if len(under) > 0 && rapid.Bool().Draw(t, "done") {
				i := rapid.IntRange(0, len(under)-1).Draw(t, "which")
				used -= under[i].weight
				a.done(under[i])
				under = slices.Delete(under, i, i+1)
			} else {
				w := waiter{min(rapid.Int64Range(1, 150).Draw(t, "weight"), 100), make(chan *ticket, 1)}
				before := a.stats().waitingBatches + a.stats().underWayBatches
				go func() {
					one, err := a.admit(context.Background(), w.weight)
					if err == nil {
						w.ticket <- one
					}
				}()
				for s := a.stats(); s.waitingBatches+s.underWayBatches == before; s = a.stats() {
					time.Sleep(time.Microsecond) // until it has come
				}
				waiting = append(waiting, w)
			}
			settle()
		}
		for len(under) > 0 {
			used -= under[0].weight
			a.done(under[0])
			under = under[1:]
			settle()
		}
		if s := a.stats(); s != (admissionStats{}) {
			t.Fatalf("at the end %+v", s)
		}
	})
}

func TestAdmissionNarrowsAndStops(t *testing.T) {
	a := newAdmission(100, func(string) {})
	admitted := make(chan *ticket, 3)
	come := func() {
		before := a.stats()
		go func() {
			if one, err := a.admit(t.Context(), 10); err == nil {
				admitted <- one
			}
		}()
		eventually(t, "it came", func() bool {
			s := a.stats()
			return s.waitingBatches+s.underWayBatches > before.waitingBatches+before.underWayBatches
		})
	}
	a.setLevel(stopped)
	for range 3 {
		come()
	}
	if s := a.stats(); s.waitingBatches != 3 || s.used != 0 || s.oldest <= 0 {
		t.Fatalf("stopped: %+v", s)
	}
	gated := make(chan error, 1)
	go func() { gated <- a.gate(t.Context()) }()
	a.setLevel(narrowed)
	first := <-admitted
	if err := <-gated; err != nil {
		t.Fatal(err)
	}
	if s := a.stats(); s.waitingBatches != 2 || s.underWayBatches != 1 {
		t.Fatalf("narrowed: %+v", s)
	}
	a.done(first)
	second := <-admitted
	a.setLevel(open)
	third := <-admitted
	a.done(second)
	a.done(third)
	if s := a.stats(); s != (admissionStats{}) {
		t.Errorf("at the end %+v", s)
	}
}

func TestTheGateIsShutWhileABudgetWaits(t *testing.T) {
	a := newAdmission(100, func(string) {})
	first, err := a.admit(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() { _, err := a.admit(ctx, 100); gaveUp <- err }()
	eventually(t, "one waits", func() bool { return a.stats().waitingBatches == 1 })
	gated := make(chan error, 1)
	go func() { gated <- a.gate(t.Context()) }()
	select {
	case <-gated:
		t.Error("the gate is open although a whole budget waits")
	default:
	}
	cancel() // its stream has ended
	if err := <-gaveUp; err == nil {
		t.Error("admitted without room")
	}
	if err := <-gated; err != nil {
		t.Error(err)
	}
	a.done(first)
	if s := a.stats(); s != (admissionStats{}) {
		t.Errorf("at the end %+v", s)
	}
}

func TestLevelsComeAndGo(t *testing.T) {
	now := open
	for _, step := range []struct {
		percent int64
		want    level
	}{{79, open}, {80, narrowed}, {76, narrowed}, {74, open}, {95, stopped}, {86, stopped}, {84, narrowed}, {90, stopped}, {10, open}} {
		if now = nextLevel(now, step.percent); now != step.want {
			t.Fatalf("at %d%%: level %d, want %d", step.percent, now, step.want)
		}
	}
}

func TestAShortageIsLoggedOnceAndEnds(t *testing.T) {
	var log bytes.Buffer
	a := newAdmission(100, func(string) {})
	used := int64(0)
	p := &pressure{limit: 1000, usage: func() (int64, uint64) { return used, 1 }, admission: a, log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, used = range []int64{100, 850, 950, 950, 820, 950, 990, 950, 950, 950, 950} {
		p.look()
	}
	if a.stats().level != stopped || p.used.Load() != 950 {
		t.Errorf("level %d, %d bytes", a.stats().level, p.used.Load())
	}
	used = 100
	p.look()
	if a.stats().level != open {
		t.Errorf("level %d after the shortage", a.stats().level)
	}
	if n := strings.Count(log.String(), "memory is short"); n != 1 || strings.Count(log.String(), "\n") != 2 {
		t.Errorf("logged\n%s", &log)
	}
}

func TestPushWaitsWhileMemoryIsShort(t *testing.T) {
	r := newRig(t, &fakeLog{})
	stream := r.open()
	if _, err := r.push(stream, r.batch(1, 1)); err != nil {
		t.Fatal(err)
	}
	r.admission.setLevel(stopped)
	if err := stream.Send(r.batch(2, 3)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream is held, before or behind the gate", func() bool {
		r.admission.mu.Lock()
		defer r.admission.mu.Unlock()
		return r.admission.changed != nil || r.admission.waiting.Len() == 1
	})
	if got := r.log.sequences(); !slices.Equal(got, []uint64{1}) {
		t.Errorf("the log has batches %d, want the first", got)
	}
	r.admission.setLevel(open)
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if got := r.log.sequences(); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("the log has batches %d, want both once", got)
	}
	eventually(t, "all given back", func() bool { return r.admission.stats() == admissionStats{} })
}

func TestABatchThatIsHeldIsMetered(t *testing.T) {
	log := &fakeLog{hold: make(chan struct{}), asked: make(chan struct{}, 2)}
	r := newRig(t, log)
	r.admission.budget = 1 // each batch is the whole budget
	first, second := r.open(), r.open()
	if err := first.Send(r.batch(1, 1)); err != nil {
		t.Fatal(err)
	}
	<-log.asked
	b := r.batch(1, 1)
	b.Sender = "b-1"
	if err := second.Send(b); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second waits", func() bool { return r.admission.stats().waitingBatches == 1 })
	c := newAdmissionCollector(r.admission, r.pressure)
	want := `
# HELP mesh_hub_admission_bytes Bytes of batches, as they came and decoded, that wait or are under way to the log.
# TYPE mesh_hub_admission_bytes gauge
mesh_hub_admission_bytes{state="admitted"} 1
mesh_hub_admission_bytes{state="waiting"} 1
# HELP mesh_hub_admission_waiting_batches Batches received that wait to be decoded.
# TYPE mesh_hub_admission_waiting_batches gauge
mesh_hub_admission_waiting_batches 1
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "mesh_hub_admission_bytes", "mesh_hub_admission_waiting_batches"); err != nil {
		t.Error(err)
	}
	close(log.hold)
	for i, s := range []interface {
		Recv() (*telemetryv1.Ack, error)
	}{first, second} {
		if _, err := s.Recv(); err != nil {
			t.Errorf("stream %d: %v", i, err)
		}
	}
	eventually(t, "all given back", func() bool { return r.admission.stats() == admissionStats{} })
}

// TestAFrameWeighsWhatItTakes compares with what decoding really allocates.
func TestAFrameWeighsWhatItTakes(t *testing.T) {
	enc, err := record.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := record.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	mesh := recordgen.New(recordgen.Options{Replicas: 1})
	for mesh.Senders[0].Block.Rows() < 1024 {
		mesh.Request()
	}
	long := &telemetryv1.Batch{RecordCount: 4096}
	rs := make([]record.Record, long.RecordCount)
	for i := range rs {
		rs[i] = record.Record{Start: time.Unix(1, 0), Path: strings.Repeat("x", 1000) + string(rune('a'+i%20)) + time.Duration(i).String()}
	}
	long.Records = enc.Append(nil, record.BlockOf(rs))
	edges := &telemetryv1.Batch{}
	for range 1000 {
		edges.Edges = append(edges.Edges, &telemetryv1.Edge{})
	}
	for name, b := range map[string]*telemetryv1.Batch{
		"a sidecar's": mesh.Senders[0].Batch(enc, time.Unix(1, 0)), "long texts that compress well": long, "many empty parts": edges,
	} {
		wire, err := proto.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		f := frame{mem.SliceBuffer(wire)}
		weight := f.weight()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		decoded, err := f.decode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dec.Decode(decoded.GetRecords(), int(decoded.GetRecordCount())); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		taken := int64(after.TotalAlloc-before.TotalAlloc) + int64(len(wire))
		t.Logf("%s: %d bytes on the wire weigh %d and take %d", name, len(wire), weight, taken)
		if weight < taken/2 || weight > 8*taken {
			t.Errorf("%s: %d bytes on the wire weigh %d and take %d", name, len(wire), weight, taken)
		}
	}
}
