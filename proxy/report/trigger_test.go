package report

import (
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/detail"
)

func withDetails() *Store { return NewStoreWith(detail.New(detail.Options{Bytes: detail.MinBytes})) }

func TestTriggers(t *testing.T) {
	e := &edge{}
	e.slow.Store(int64(time.Second))
	for name, tc := range map[string]struct {
		r    record.Record
		want string
	}{
		"a good request":           {record.Record{Code: 200, Verdict: "ok", Attempts: 1}, ""},
		"not found":                {record.Record{Code: 404, Verdict: "ok"}, ""},
		"an error":                 {record.Record{Code: 503, Flags: "UF"}, vocab.TriggerError},
		"gRPC UNAVAILABLE":         {record.Record{Code: 200, GRPCStatus: 15}, vocab.TriggerError},
		"gRPC NOT_FOUND":           {record.Record{Code: 200, GRPCStatus: 6}, ""},
		"no response":              {record.Record{Flags: "DC"}, vocab.TriggerFlag},
		"denied":                   {record.Record{Code: 403, Verdict: vocab.VerdictDenied}, vocab.TriggerDenied},
		"throttled":                {record.Record{Code: 429, Verdict: vocab.VerdictThrottled, Flags: "RL"}, vocab.TriggerDenied},
		"denied in the shadow":     {record.Record{Code: 200, Verdict: vocab.VerdictShadowDenied}, ""},
		"tried again":              {record.Record{Code: 200, Attempts: 2}, vocab.TriggerRetry},
		"slow":                     {record.Record{Code: 200, Duration: time.Second}, vocab.TriggerSlow},
		"not slow":                 {record.Record{Code: 200, Duration: time.Second - 1}, ""},
		"a long opaque connection": {record.Record{Protocol: vocab.ProtocolTCP, Duration: time.Hour}, ""},
	} {
		if got := e.trigger(&tc.r); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	if got := (&edge{}).trigger(&record.Record{Code: 200, Duration: time.Hour}); got != "" {
		t.Errorf("on an edge without enough requests: %q", got)
	}
}

func TestWhatIsSlowFollowsTheEdgesOwnLatencies(t *testing.T) {
	s := withDetails()
	quick, slow := request(200, "/"), request(200, "/")
	slow.Record.Duration = 40 * time.Millisecond
	for range slowSamples - 1 {
		s.Observe(quick)
	}
	s.judge()
	e := s.series[0].edge
	if e.slow.Load() != 0 {
		t.Errorf("judged by %d requests", slowSamples-1)
	}
	for i := range 4 * slowSamples {
		if i%200 == 0 { // half a percent
			s.Observe(slow)
		} else {
			s.Observe(quick)
		}
	}
	s.judge()
	if got := time.Duration(e.slow.Load()); got <= time.Millisecond || got > 1200*time.Microsecond {
		t.Errorf("slow is above %v, want just above 1ms", got)
	}
	s.Observe(slow)
	if got := s.details.Sent()[vocab.TriggerSlow]; got != 0 {
		t.Fatalf("%d sent before a batch", got)
	}
	b, _ := s.batch(newEncoder(t), time.Unix(1, 0), true)
	if d := b.GetDetails(); len(d) != 1 || d[0].GetTrigger() != vocab.TriggerSlow {
		t.Errorf("details %v", d)
	}
}

// A batch that the hub took and did not acknowledge comes again with its details;
// they count once, as all of it does.
func TestAResentBatchHasItsDetailsAgain(t *testing.T) {
	first := map[uint64]int{}
	h := newFakeHub(t, func(b *telemetryv1.Batch) reaction {
		if len(b.GetDetails()) == 0 {
			return reaction{}
		}
		first[b.GetSequence()] += len(b.GetDetails())
		return reaction{die: first[b.GetSequence()] == len(b.GetDetails())} // the first time
	})
	s := start(t, h, withDetails())
	s.observe(503, 0, 1)
	s.until("the detail", func() bool { return len(s.details) == 1 })
	if d := s.details[0]; d.GetTrigger() != vocab.TriggerError || len(d.GetTraceId()) != 16 {
		t.Errorf("detail %v", d)
	}
	if err := s.stop(); err != nil {
		t.Log(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for sequence, n := range first {
		if n != 2 {
			t.Errorf("batch %d came with %d details in all, want 2: once in vain, once not", sequence, n)
		}
	}
	if len(h.details) != 1 {
		t.Errorf("%d details, want 1", len(h.details))
	}
}

// An order on an acknowledgement that confirms nothing loses no batch and brings
// the detail and an answer.
func TestAnOrderIsAnswered(t *testing.T) {
	x := request(200, "/opened")
	trace := x.Record.TraceID
	ordered := false
	h := newFakeHub(t, func(b *telemetryv1.Batch) reaction {
		if b.GetRecordCount() == 0 || ordered {
			return reaction{}
		}
		ordered = true
		return reaction{orders: []*telemetryv1.Order{{Id: 5, TraceId: trace[:]}, {Id: 6, TraceId: make([]byte, 16)}, {Id: 7}}}
	})
	s := start(t, h, withDetails())
	s.store.Observe(x)
	s.until("the answers", func() bool { return len(s.answers) == 3 && len(s.details) == 1 })
	s.observe(200, 0, 10)
	s.until("what came later", func() bool { return len(s.paths) == 11 })
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if d := s.details[0]; d.GetTrigger() != vocab.TriggerOrder || [16]byte(d.GetTraceId()) != trace {
		t.Errorf("detail %v", d)
	}
	for i, want := range []struct {
		found  uint32
		reason string
	}{{1, ""}, {0, vocab.NoDetailNotInRing}, {0, vocab.NoDetailNotInRing}} {
		if a := s.answers[i]; a.GetOrder() != uint64(5+i) || a.GetFound() != want.found || a.GetReason() != want.reason {
			t.Errorf("answer %v, want %v", a, want)
		}
	}
}

// Details wait while the hub is away: the batches that are cut meanwhile are for
// records and counts.
func TestDetailsTakeNoRoomWhileTheHubIsAway(t *testing.T) {
	s := withDetails()
	s.Observe(request(503, "/"))
	b, _ := s.batch(newEncoder(t), time.Unix(1, 0), false)
	if b == nil || len(b.GetDetails()) != 0 {
		t.Fatalf("batch %v", b)
	}
	if b, _ = s.batch(newEncoder(t), time.Unix(1, 0), true); len(b.GetDetails()) != 1 {
		t.Errorf("batch %v, want the detail in one of its own", b)
	}
}
