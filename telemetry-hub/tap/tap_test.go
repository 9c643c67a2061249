package tap

import (
	"testing"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// columns of n records, GET and POST in turn.
func columns(t *testing.T, n int) *record.Columns {
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
	rs := make([]record.Record, n)
	for i := range rs {
		rs[i].Method = []string{"GET", "POST"}[i%2]
	}
	c, err := d.Decode(e.Append(nil, record.BlockOf(rs)), n)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWatchersGetWhatTheirFilterLetsThrough(t *testing.T) {
	var tap Tap
	all := func(*record.Record, *telemetryv1.Edge) bool { return true }
	posts := func(r *record.Record, _ *telemetryv1.Edge) bool { return r.Method == "POST" }
	slow, some, gone := tap.Watch(all), tap.Watch(posts), tap.Watch(all)
	tap.Stop(gone)
	b := &telemetryv1.Batch{Edges: []*telemetryv1.Edge{{DestinationService: "b"}}}
	tap.Show(b, columns(t, buffered+10))
	if len(gone.C) != 0 {
		t.Error("a stopped watcher got records")
	}
	if n := len(some.C); n != (buffered+10)/2 || some.Lagged() != 0 {
		t.Errorf("%d records passed the filter", n)
	}
	if seen := <-some.C; seen.Record.Method != "POST" || seen.Edge.GetDestinationService() != "b" {
		t.Errorf("seen %+v", seen)
	}
	if n := len(slow.C); n != buffered {
		t.Errorf("%d records wait, want %d", n, buffered)
	}
	if first, second := slow.Lagged(), slow.Lagged(); first != 10 || second != 0 {
		t.Errorf("lagged %d, then %d; want 10, then 0", first, second)
	}
}
