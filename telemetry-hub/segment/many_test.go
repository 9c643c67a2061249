package segment

import (
	"fmt"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/ids"
)

// Request IDs of callers, one for each request, as many as a busy hub sees in five
// minutes: their dictionaries are large, and mostly each row group has its own.
func TestFindAmongManyForeignRequestIDs(t *testing.T) {
	c := newCodec(t)
	g := newBookinfo(t, c, 3, time.Millisecond)
	var batches []batch
	records := make(map[string]int)
	for i := range 60 {
		rs := g.next(1000)
		for j := range rs {
			rs[j].RequestID = fmt.Sprintf("soak-%d-%d-%x", i, j, rs[j].TraceID[:4])
			if j%2 == 0 {
				rs[j].RequestID = ""
			}
			if j%5 == 0 {
				rs[j].Attributes = map[string]string{"tenant": fmt.Sprint(j)}
			}
			records[rs[j].RequestID]++
		}
		batches = append(batches, c.batch(t, rs, g.edges, "pod-1"))
	}
	s, _, err := readFiles(t, build(t, BuilderOptions{}, batches...)).open(newTestDecoder(t))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for id := range records {
		if n++; n > 150 {
			break
		}
		if id == "" {
			continue
		}
		found, err := s.Find(t.Context(), id, 1000)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d records, %v", id, len(found), err)
		}
		trace := ids.TraceID(found[0].Record.TraceID)
		whole, err := s.FindTraces(t.Context(), []ids.TraceID{trace}, 1000)
		if err != nil || len(whole) == 0 {
			t.Fatalf("%s: %d records of its trace, %v", id, len(whole), err)
		}
	}
}
