package store

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

// FuzzReadRecords compares with the whole decoder: what one takes for a batch, and
// what it reads of it, the other must too.
func FuzzReadRecords(f *testing.F) {
	for _, b := range []*telemetryv1.Batch{
		{},
		{Sender: "a", Epoch: 1, Sequence: 2, TimeUnixNano: -1, RecordCount: 3, Records: []byte("records")},
		{Sender: "b", Edges: []*telemetryv1.Edge{{DestinationService: "x"}, {Security: "none"}}, Aggregates: []*telemetryv1.Aggregate{{Requests: 7, DurationIndex: []uint32{1, 2}}}},
	} {
		encoded, err := proto.Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := &telemetryv1.Batch{}
		if proto.Unmarshal(b, whole) != nil {
			_, _ = readRecords(b) // must not panic; the log has sound batches only
			return
		}
		got, err := readRecords(b)
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		if got.sender != whole.GetSender() || got.count != int(whole.GetRecordCount()) || !bytes.Equal(got.records, whole.GetRecords()) || len(got.edges) != len(whole.GetEdges()) {
			t.Fatalf("read %+v, want what is in %v", got, whole)
		}
		for i, e := range got.edges {
			if !proto.Equal(e, whole.GetEdges()[i]) {
				t.Fatalf("edge %d is %v, want %v", i, e, whole.GetEdges()[i])
			}
		}
	})
}
