package sql

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/recordgen"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

var testStart = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// sealTest seals segments of Bookinfo's records, of at least n each, some of them
// gRPC calls and some with attributes, and returns their paths.
func sealTest(t testing.TB, segments, n int) (paths []string) {
	t.Helper()
	mesh := recordgen.New(recordgen.Options{Seed: 5, Start: testStart, Step: time.Millisecond})
	encoder, err := record.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := record.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	for i := range segments {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.parquet", i))
		b, err := segment.NewBuilder(path, segment.BuilderOptions{Writer: "test"})
		if err != nil {
			t.Fatal(err)
		}
		for made := 0; made < n; {
			for range 500 {
				_, records := mesh.Request()
				made += records
			}
			for _, sender := range mesh.Senders {
				addTest(t, b, varied(t, sender, encoder, decoder), sender.Edges, encoder, decoder)
			}
		}
		if _, err := b.Seal(); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// varied are a sender's records, with more columns in use.
func varied(t testing.TB, s *recordgen.Sender, encoder *record.Encoder, decoder *record.Decoder) (list []record.Record) {
	t.Helper()
	batch := s.Batch(encoder, testStart)
	columns, err := decoder.Decode(batch.GetRecords(), int(batch.GetRecordCount()))
	if err != nil {
		t.Fatal(err)
	}
	for row := range columns.Rows() {
		r := columns.Record(row)
		if r.SpanID[0]%3 == 0 {
			r.Protocol, r.GRPCStatus = "grpc", 1+uint32(r.SpanID[1]%17)
		}
		if r.SpanID[2]%4 == 0 {
			r.RequestID = fmt.Sprintf("order-%d", r.SpanID[3])
			r.Attributes = map[string]string{"tenant": fmt.Sprint("tenänt-", r.SpanID[4]%5), "tier": fmt.Sprint(r.SpanID[4] % 2)}
		}
		list = append(list, r)
	}
	return list
}

func addTest(t testing.TB, b *segment.Builder, list []record.Record, edges []*telemetryv1.Edge, encoder *record.Encoder, decoder *record.Decoder) {
	t.Helper()
	columns, err := decoder.Decode(encoder.Append(nil, record.BlockOf(list)), len(list))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Add(columns, edges, "sender"); err != nil {
		t.Fatal(err)
	}
}

// openTest opens segments, until the test ends.
func openTest(t testing.TB, paths []string) (list []*segment.Segment) {
	t.Helper()
	d, err := segment.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	for _, path := range paths {
		data, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { data.Close() })
		index, err := os.Open(segment.IndexPath(path))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { index.Close() })
		info, err := index.Stat()
		if err != nil {
			t.Fatal(err)
		}
		s, err := segment.Open(segment.LocalRange{R: data}, index, info.Size(), segment.Options{Name: filepath.Base(path), Decoder: d})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func mustRun(t testing.TB, segments []*segment.Segment, text string) *Result {
	t.Helper()
	q, err := Parse(text)
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	r, err := Run(context.Background(), q, segments, Options{Now: testStart.Add(time.Minute)})
	if err != nil {
		t.Fatalf("%s\n%v", text, err)
	}
	if len(r.Damaged) > 0 {
		t.Fatalf("%s\n%v", text, r.Damaged)
	}
	return r
}

// plainRecords are all records, as rows of values by the names of the columns.
func plainRecords(t testing.TB, segments []*segment.Segment) (rows []map[string]Value) {
	t.Helper()
	known, names := fields()
	for _, s := range segments {
		err := s.Scan(t.Context(), segment.Query{}, func(r *segment.Rows) bool {
			found, err := r.RecordsAt(t.Context(), r.Selected())
			if err != nil {
				t.Fatal(err)
			}
			for i := range found {
				row := make(map[string]Value)
				for _, name := range names[:len(names)-1] {
					row[name] = foundValue(&found[i], known[name].column)
				}
				for k, v := range found[i].Record.Attributes {
					row["attributes["+quote(k)+"]"] = Value{Kind: KindText, Text: v}
				}
				rows = append(rows, row)
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return rows
}
