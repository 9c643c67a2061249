package segment

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/internal/ids"
)

// TestFindAtItsLimitTakesTheNewest spreads one trace over four row groups, out
// of order.
func TestFindAtItsLimitTakesTheNewest(t *testing.T) {
	c, trace := newCodec(t), [16]byte{1, 15: 9}
	var batches []batch
	for group := range 4 {
		rs := make([]record.Record, 50)
		for i := range rs {
			second := int64((group*50 + i*37) % 200)
			rs[i] = record.Record{Start: time.Unix(second, 0), TraceID: trace, SpanID: [8]byte{byte(group), byte(i)}}
		}
		batches = append(batches, c.batch(t, rs, nil, "x"))
	}
	s, _ := mustOpen(t, build(t, BuilderOptions{Window: 50}, batches...))
	if s.header.groups != 4 {
		t.Fatal(s.header.groups, "row groups")
	}
	var want []int64
	for _, f := range expected(batches...) {
		want = append(want, f.Record.Start.Unix())
	}
	slices.Sort(want)
	for _, limit := range []int{1, 7, 60, 199, 200, 500} {
		found, err := s.Find(t.Context(), ids.TraceID(trace).String(), limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, f := range found {
			got = append(got, f.Record.Start.Unix())
		}
		slices.Sort(got)
		if newest := want[max(0, len(want)-limit):]; !slices.Equal(got, newest) {
			t.Errorf("limit %d: %v, want %v", limit, got, newest)
		}
	}
}

// TestReadersShareADecoder looks up and scans at once, so that memory that is
// given back too early shows.
func TestReadersShareADecoder(t *testing.T) {
	batches := bookinfoBatches(t, 13, 10_000)
	s, _ := mustOpen(t, build(t, BuilderOptions{}, batches...))
	all := expected(batches...)
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			for i := range 15 {
				id := ids.TraceID(all[(worker*2711+i*613)%len(all)].Record.TraceID).String()
				got, err := s.Find(t.Context(), id, 1000)
				if want := findNaively(all, id); err != nil || diffFound(want, got) != "" {
					t.Errorf("found %d of %d: %v", len(got), len(want), err)
				}
				if i%5 == 0 {
					if got := scanAll(t, s, Query{Failed: true}); len(got) == 0 {
						t.Error("no failed record")
					}
				}
			}
		})
	}
	wg.Wait()
}
