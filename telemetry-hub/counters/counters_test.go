package counters

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// process is a sidecar's process as the hub sees it: cumulative rows, numbered
// batches.
type process struct {
	sender   string
	epoch    uint64
	sequence uint64
	rows     map[uint32]uint64 // response code to requests
	denied   uint64
	dropped  uint64
}

func (p *process) batch() *telemetryv1.Batch {
	p.sequence++
	b := &telemetryv1.Batch{
		Sender: p.sender, Epoch: p.epoch, Sequence: p.sequence, Node: &telemetryv1.Identity{Workload: p.sender, Instance: p.sender},
		Edges:          []*telemetryv1.Edge{{Source: &telemetryv1.Identity{Workload: p.sender}, DestinationService: "reviews"}},
		PolicyCounters: []*telemetryv1.PolicyCounter{{Policy: "p", Rule: "r", Decision: "deny", Origin: "local", Count: p.denied}},
		Dropped:        []*telemetryv1.Dropped{{Reason: "ring_full", Records: p.dropped}},
	}
	for code, n := range p.rows {
		b.Aggregates = append(b.Aggregates, &telemetryv1.Aggregate{
			ResponseCode: code, Requests: n, DurationSumNanos: 10 * n, RequestBytesSum: 2 * n, ResponseBytesSum: 3 * n,
			DurationIndex: []uint32{code % 5, 100}, DurationCount: []uint64{n, n / 2},
			DurationBucket: []uint64{n, 0}, RequestBytesBucket: []uint64{0, n}, ResponseBytesBucket: []uint64{n},
			Exemplars: []*telemetryv1.Exemplar{{Bucket: uint32(n % 3), DurationNanos: int64(n)}},
		})
	}
	return b
}

// totals is what a state says, by sender and response code.
type totals struct {
	Requests, Nanos, Histogram, Bucket map[string]uint64
	Denied, Dropped                    map[string]uint64
}

func totalsOf(s *State) totals {
	out := totals{map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}}
	edges, rows := s.Snapshot()
	for _, a := range rows {
		k := fmt.Sprint(edges[a.GetEdge()].GetSource().GetWorkload(), " ", a.GetResponseCode())
		out.Requests[k] += a.GetRequests()
		out.Nanos[k] += a.GetDurationSumNanos()
		out.Histogram[k] += sumOf(a.GetDurationCount())
		out.Bucket[k] += sumOf(a.GetDurationBucket()) + sumOf(a.GetRequestBytesBucket()) + sumOf(a.GetResponseBytesBucket())
	}
	for _, p := range s.Policies() {
		out.Denied[p.Node.GetInstance()] += p.Count
	}
	for _, d := range s.Dropped() {
		out.Dropped[d.Node.GetInstance()] += d.Count
	}
	return out
}

func sumOf(list []uint64) (n uint64) {
	for _, v := range list {
		n += v
	}
	return n
}

// restored is the state after the hub was killed and read its checkpoint.
func restored(t interface{ Fatal(...any) }, s *State) *State {
	out := New()
	for _, b := range s.Export() {
		wire, err := proto.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		read := &telemetryv1.Batch{}
		if err := proto.Unmarshal(wire, read); err != nil {
			t.Fatal(err)
		}
		out.Apply(read)
	}
	return out
}

func TestTotalsAreWhatWasCountedHoweverBatchesAreResent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		want := totals{map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}}
		fromDeltas := map[string]uint64{}
		live := map[string]*process{}
		history := map[string][]*telemetryv1.Batch{}
		apply := func(b *telemetryv1.Batch) {
			for _, d := range s.Apply(b) {
				fromDeltas[fmt.Sprint(d.Edge.GetSource().GetWorkload(), " ", d.Row.GetResponseCode())] += d.Row.GetRequests()
			}
		}
		// Unique, but in no order: clocks may run backwards between two starts.
		epochs := rapid.Permutation(sequence(60)).Draw(t, "epochs")
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			sender := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "sender")
			p := live[sender]
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0: // the sidecar is killed and starts again
				live[sender] = nil
			case 1:
				s = restored(t, s)
			case 2, 3: // some of what was sent comes again, in the order of its stream
				for _, b := range history[sender] {
					if rapid.Bool().Draw(t, "again") {
						if !s.Judge(b).Duplicate {
							t.Fatalf("epoch %d sequence %d is not recognised", b.GetEpoch(), b.GetSequence())
						}
						apply(b)
					}
				}
			default:
				if p == nil {
					p = &process{sender: sender, epoch: epochs[step], rows: map[uint32]uint64{}}
					live[sender] = p
				}
				code, n := uint32(rapid.IntRange(200, 203).Draw(t, "code")), uint64(rapid.IntRange(1, 9).Draw(t, "n"))
				k := fmt.Sprint(sender, " ", code)
				old := p.rows[code]
				p.rows[code] += n
				p.denied, p.dropped = p.denied+n, p.dropped+1
				want.Requests[k] += n
				want.Nanos[k] += 10 * n
				want.Histogram[k] += n + (old+n)/2 - old/2
				want.Bucket[k] += 3 * n
				want.Denied[sender] += n
				want.Dropped[sender]++
				b := p.batch()
				apply(b)
				history[sender] = append(history[sender], b)
			}
		}
		if diff := cmp.Diff(want, totalsOf(s)); diff != "" {
			t.Fatalf("totals (-counted +state):\n%s", diff)
		}
		if diff := cmp.Diff(want.Requests, fromDeltas); diff != "" {
			t.Fatalf("sum of deltas (-counted +deltas):\n%s", diff)
		}
	})
}

func sequence(n int) []uint64 {
	out := make([]uint64, n)
	for i := range out {
		out[i] = uint64(i + 1)
	}
	return out
}

func TestExportRestoresTheSameState(t *testing.T) {
	s := New()
	for epoch := uint64(1); epoch <= 9; epoch++ {
		p := &process{sender: "a", epoch: epoch, rows: map[uint32]uint64{200: epoch}}
		s.Apply(p.batch())
	}
	if diff := cmp.Diff(s.Export(), restored(t, s).Export(), protocmp.Transform()); diff != "" {
		t.Errorf("exported twice (-first +second):\n%s", diff)
	}
}

func TestOldEpochsAreFoldedAndStayClosed(t *testing.T) {
	s := New()
	var batches []*telemetryv1.Batch
	for epoch := uint64(1); epoch <= 2000; epoch++ {
		p := &process{sender: "a", epoch: epoch, rows: map[uint32]uint64{200: 1}}
		batches = append(batches, p.batch())
		s.Apply(batches[len(batches)-1])
	}
	if got := len(s.streams); got != maxEpochs {
		t.Errorf("%d epochs are kept apart, want %d", got, maxEpochs)
	}
	if got := len(s.bases["a"].epochs); got > maxFolded {
		t.Errorf("%d epochs are remembered, want at most %d", got, maxFolded)
	}
	if got := totalsOf(s).Requests["a 200"]; got != 2000 {
		t.Errorf("requests = %d, want 2000", got)
	}
	for _, b := range batches[1000:] {
		later := proto.CloneOf(b)
		later.Sequence = 7
		if b.GetEpoch() <= 2000-maxEpochs && !s.Judge(later).Duplicate {
			t.Fatalf("a batch of folded epoch %d is not a duplicate", b.GetEpoch())
		}
		s.Apply(b)
	}
	if got := totalsOf(s).Requests["a 200"]; got != 2000 {
		t.Errorf("requests = %d after duplicates, want 2000", got)
	}
}

func TestJudge(t *testing.T) {
	s := New()
	s.Apply(&telemetryv1.Batch{Sender: "a", Epoch: 5, Sequence: 3})
	check := func(name string, epoch, sequence uint64, want Verdict) {
		t.Helper()
		if got := s.Judge(&telemetryv1.Batch{Sender: "a", Epoch: epoch, Sequence: sequence}); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	check("the next, the first to come while the epoch's start is missing", 5, 4, Verdict{Resync: true})
	check("the next", 5, 4, Verdict{})
	check("the same", 5, 3, Verdict{Duplicate: true})
	check("an older one", 5, 1, Verdict{Duplicate: true})
	check("behind a hole", 5, 7, Verdict{Missing: 3, Resync: true})
	check("a new epoch", 6, 1, Verdict{})
	check("an epoch met in the middle", 6, 2, Verdict{Resync: true})
	check("no sequence", 6, 0, Verdict{Duplicate: true})
	check("the sequence of folded epochs", 6, closed, Verdict{Duplicate: true})
	s.Apply(&telemetryv1.Batch{Sender: "a", Epoch: 5, Sequence: 7})
	if got := s.Missing(); got != 3 {
		t.Errorf("missing = %d, want 3", got)
	}
}

func TestApplySurvivesRowsThatMakeNoSense(t *testing.T) {
	s := New()
	edge := []*telemetryv1.Edge{{}}
	s.Apply(&telemetryv1.Batch{Sender: "a", Epoch: 1, Sequence: 1, Edges: edge, Aggregates: []*telemetryv1.Aggregate{
		{Edge: 1, Requests: 1},
		{Requests: 1, DurationIndex: []uint32{1}},
		{Requests: 5, DurationSumNanos: 100, DurationIndex: []uint32{4}, DurationCount: []uint64{5}},
	}})
	deltas := s.Apply(&telemetryv1.Batch{Sender: "a", Epoch: 1, Sequence: 2, Edges: edge, Aggregates: []*telemetryv1.Aggregate{
		{Requests: 6, DurationSumNanos: 50, DurationIndex: []uint32{4}, DurationCount: []uint64{2}},
	}})
	if len(deltas) != 1 || deltas[0].Row.GetRequests() != 1 || deltas[0].Row.GetDurationSumNanos() != 0 || len(deltas[0].Row.GetDurationIndex()) != 0 {
		t.Errorf("deltas = %v, want one request and no time", deltas)
	}
}

func TestSeriesWithDistantResponseCodesStayApart(t *testing.T) {
	s := New()
	s.Apply(&telemetryv1.Batch{Sender: "a", Epoch: 1, Sequence: 1, Edges: []*telemetryv1.Edge{{}}, Aggregates: []*telemetryv1.Aggregate{
		{ResponseCode: 200, Requests: 1}, {ResponseCode: 200 + 1<<16, Requests: 1},
	}})
	if _, rows := s.Snapshot(); len(rows) != 2 {
		t.Errorf("%d rows, want 2", len(rows))
	}
}

func TestNewestExemplarsOfEachBucketAreKept(t *testing.T) {
	s := New()
	edge := []*telemetryv1.Edge{{}}
	for i, bucket := range []uint32{3, 5, 3} {
		s.Apply(&telemetryv1.Batch{Sender: "a", Epoch: 1, Sequence: uint64(i + 1), Edges: edge, Aggregates: []*telemetryv1.Aggregate{
			{Requests: uint64(i + 1), Exemplars: []*telemetryv1.Exemplar{{Bucket: bucket, DurationNanos: int64(i)}}},
		}})
	}
	_, rows := s.Snapshot()
	var got []int64
	for _, e := range rows[0].GetExemplars() {
		got = append(got, e.GetDurationNanos())
	}
	slices.Sort(got)
	if !slices.Equal(got, []int64{1, 2}) {
		t.Errorf("exemplars of requests %v, want 1 and 2", got)
	}
}

func TestPoliciesNameTheNewestNode(t *testing.T) {
	s := New()
	for epoch := uint64(1); epoch <= 6; epoch++ {
		s.Apply(&telemetryv1.Batch{
			Sender: "a", Epoch: epoch, Sequence: 1, Node: &telemetryv1.Identity{Instance: "a-0", Version: fmt.Sprint("v", epoch)},
			PolicyCounters: []*telemetryv1.PolicyCounter{{Policy: "p", Count: epoch}},
		})
	}
	got := s.Policies()
	if len(got) != 1 || got[0].Count != 21 || got[0].Node.GetVersion() != "v6" {
		t.Errorf("policies = %+v, want 21 verdicts at v6", got)
	}
}
