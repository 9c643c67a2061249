package ingest

import (
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/histogram"
	"github.com/telemesh/telemesh/internal/vocab"
)

func TestPushCountsABatchOnce(t *testing.T) {
	r := newRig(t, &fakeLog{})
	stream := r.open()
	for i, b := range []*telemetryv1.Batch{r.batch(1, 3), r.batch(1, 3), r.batch(2, 5)} {
		ack, err := r.push(stream, b)
		if err != nil || ack.GetEpoch() != 7 || ack.GetSequence() != b.GetSequence() || ack.GetResync() {
			t.Fatalf("batch %d: ack %v, error %v", i, ack, err)
		}
	}
	if got := r.log.sequences(); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("the log has batches %d, want each once", got)
	}
	if accepted, duplicate, rejected, records := r.Stats(); accepted != 2 || duplicate != 1 || rejected != 0 || records != 2 {
		t.Errorf("accepted %d, duplicate %d, rejected %d, records %d", accepted, duplicate, rejected, records)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var requests uint64
	for _, a := range r.accepted {
		for _, d := range a.Deltas {
			requests += d.Row.GetRequests()
		}
	}
	if requests != 5 {
		t.Errorf("%d requests counted, want 5", requests)
	}
}

func TestPushAsksForWhatIsMissing(t *testing.T) {
	r := newRig(t, &fakeLog{})
	stream := r.open()
	if ack, err := r.push(stream, r.batch(4, 1)); err != nil || !ack.GetResync() {
		t.Errorf("ack %v, error %v; want a resync after a restart of the hub", ack, err)
	}
}

func TestPushRefusesWhatIsInvalidAndTakesTheRest(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*telemetryv1.Batch)
		reason string
	}{
		"corrupt records":  {func(b *telemetryv1.Batch) { b.Records = []byte("not zstd") }, "corrupt_records"},
		"other count":      {func(b *telemetryv1.Batch) { b.RecordCount = 2 }, "corrupt_records"},
		"too many records": {func(b *telemetryv1.Batch) { b.RecordCount = record.MaxRows + 1 }, "invalid"},
		"no sender":        {func(b *telemetryv1.Batch) { b.Sender = "" }, "invalid"},
		"no epoch":         {func(b *telemetryv1.Batch) { b.Epoch = 0 }, "invalid"},
		"record's edge":    {func(b *telemetryv1.Batch) { b.Edges, b.Aggregates = nil, nil }, "invalid"},
		"row's edge":       {func(b *telemetryv1.Batch) { b.Aggregates[0].Edge = 1 }, "invalid"},
		"bucket count":     {func(b *telemetryv1.Batch) { b.Aggregates[0].DurationBucket = nil }, "invalid"},
		"index count":      {func(b *telemetryv1.Batch) { b.Aggregates[0].DurationCount = nil }, "invalid"},
		"index":            {func(b *telemetryv1.Batch) { b.Aggregates[0].DurationIndex[0] = histogram.Buckets }, "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, &fakeLog{})
			bad := r.batch(1, 1)
			c.change(bad)
			other, stream := r.open(), r.open()
			_, err := r.push(stream, bad)
			if status.Code(err) != codes.InvalidArgument {
				t.Fatalf("error %v, want InvalidArgument", err)
			}
			if got := stream.Trailer().Get(vocab.TrailerRefusedSequence); !slices.Equal(got, []string{strconv.Itoa(1)}) {
				t.Errorf("trailer = %q, want the sequence", got)
			}
			if n := testutil.ToFloat64(r.m.rejected.WithLabelValues(c.reason)); n != 1 {
				t.Errorf("%g refused as %s, want 1", n, c.reason)
			}
			if _, err := r.push(other, r.batch(2, 1)); err != nil {
				t.Errorf("another stream suffered: %v", err)
			}
		})
	}
}

func TestPushRefusesAnOversizedBatch(t *testing.T) {
	r := newRig(t, &fakeLog{})
	b := r.batch(1, 1)
	b.Records = make([]byte, MaxBatchBytes+1)
	stream := r.open()
	_ = stream.Send(b) // the stream may end before everything is sent
	if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("error %v, want ResourceExhausted", err)
	}
	eventually(t, "counted as oversized", func() bool { return testutil.ToFloat64(r.m.rejected.WithLabelValues("oversized")) == 1 })
	if _, err := r.push(r.open(), r.batch(2, 1)); err != nil {
		t.Errorf("another stream suffered: %v", err)
	}
}

func TestPushAcknowledgesOnlyWhatIsDurable(t *testing.T) {
	log := &fakeLog{hold: make(chan struct{}), asked: make(chan struct{}, 1)}
	r := newRig(t, log)
	stream := r.open()
	if err := stream.Send(r.batch(1, 1)); err != nil {
		t.Fatal(err)
	}
	<-log.asked
	acked := make(chan error, 1)
	go func() { _, err := stream.Recv(); acked <- err }()
	select {
	case err := <-acked:
		t.Fatalf("an answer came before the sync: %v", err)
	default:
	}
	close(log.hold)
	if err := <-acked; err != nil {
		t.Error(err)
	}
}

func TestPushEndsTheStreamWhenStorageFails(t *testing.T) {
	full := errors.New("no space left on device")
	for name, fail := range map[string]func(*fakeLog){
		"append": func(l *fakeLog) { l.fail(full, nil) },
		"sync":   func(l *fakeLog) { l.fail(nil, full) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, &fakeLog{})
			fail(r.log)
			ack, err := r.push(r.open(), r.batch(1, 3))
			if status.Code(err) != codes.Unavailable {
				t.Fatalf("ack %v, error %v; want Unavailable and no ack", ack, err)
			}
			r.log.fail(nil, nil)
			if ack, err = r.push(r.open(), r.batch(1, 3)); err != nil || ack.GetSequence() != 1 {
				t.Fatalf("after recovery: ack %v, error %v", ack, err)
			}
			if got := r.log.sequences(); !slices.Equal(got, []uint64{1}) {
				t.Errorf("the log has batches %d, want the one once", got)
			}
		})
	}
}
