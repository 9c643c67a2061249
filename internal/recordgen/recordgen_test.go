package recordgen

import (
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
)

func TestARequestsRecordsAreWholeAndNameTheirEdges(t *testing.T) {
	m := New(Options{Seed: 1, Step: time.Millisecond})
	want := make(map[[16]byte]int)
	total := 0
	for range 500 {
		trace, n := m.Request()
		want[trace] += n
		total += n
	}
	e, err := record.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	d, err := record.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	failed := 0
	for _, s := range m.Senders {
		c, err := d.Decode(e.Append(nil, &s.Block), s.Block.Rows())
		if err != nil {
			t.Fatal(err)
		}
		for row := range c.Rows() {
			r := c.Record(row)
			want[r.TraceID]--
			if r.Code != 200 {
				failed++
			}
			edge := s.Edges[r.Edge]
			if edge.GetSource() != s.Node && edge.GetDestination() != s.Node {
				t.Fatalf("%s reports an edge of others: %v", s.Node.GetInstance(), edge)
			}
		}
	}
	for trace, missing := range want {
		if missing != 0 {
			t.Errorf("trace %x lacks %d records", trace, missing)
		}
	}
	if failed == 0 || failed > total/50 {
		t.Errorf("%d of %d records failed, want about one in 400", failed, total)
	}
}
