package store

import (
	"log/slog"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/recordgen"
	"github.com/telemesh/telemesh/telemetry-hub/counters"
)

type decoded struct {
	batch   *telemetryv1.Batch
	columns *record.Columns
}

// batches of a small mesh, as the ingest hands them on.
func batches(b *testing.B, records int) (list []decoded) {
	b.Helper()
	e, err := record.NewEncoder()
	if err != nil {
		b.Fatal(err)
	}
	d, err := record.NewDecoder()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(d.Close)
	m := recordgen.New(recordgen.Options{Seed: 1, Step: 100 * time.Microsecond})
	sequences := make(map[*recordgen.Sender]uint64)
	for n := 0; n < records; {
		_, more := m.Request()
		n += more
		for _, s := range m.Senders {
			if s.Block.Rows() < 1000 {
				continue
			}
			batch := s.Batch(e, m.Now())
			sequences[s]++
			batch.Epoch, batch.Sequence = 1, sequences[s]
			c, err := d.Decode(batch.GetRecords(), int(batch.GetRecordCount()))
			if err != nil {
				b.Fatal(err)
			}
			list = append(list, decoded{batch, c})
		}
	}
	return list
}

func benchStore(b *testing.B) *Store {
	b.Helper()
	nothing := func(*telemetryv1.Batch) {}
	s, err := Open(Options{Dir: b.TempDir(), RetentionBytes: 1 << 40, Checkpoint: counters.New().Export, Logger: slog.New(slog.DiscardHandler)}, nothing, nothing)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

func perRecord(b *testing.B, list []decoded) {
	n := 0
	for _, d := range list {
		n += d.columns.Rows()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/record")
}

// BenchmarkAppend is the log with its index in memory.
func BenchmarkAppend(b *testing.B) {
	list := batches(b, 500_000)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s := benchStore(b)
		b.StartTimer()
		for _, d := range list {
			if err := s.Append(d.batch, d.columns); err != nil {
				b.Fatal(err)
			}
		}
	}
	perRecord(b, list)
}

// BenchmarkCount is what the counters do of a batch.
func BenchmarkCount(b *testing.B) {
	list := batches(b, 500_000)
	b.ReportAllocs()
	for b.Loop() {
		state := counters.New()
		for _, d := range list {
			state.Apply(d.batch)
		}
	}
	perRecord(b, list)
}

// BenchmarkSealLog is a log's way into a segment, read back and all.
func BenchmarkSealLog(b *testing.B) {
	list := batches(b, 500_000)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s := benchStore(b)
		for _, d := range list {
			if err := s.Append(d.batch, d.columns); err != nil {
				b.Fatal(err)
			}
		}
		s.mu.Lock()
		err := s.rotate()
		s.mu.Unlock()
		b.StartTimer()
		if s.sealAll(b.Context()); err != nil || s.Stats().Sealed != 1 {
			b.Fatal(err, s.Stats())
		}
	}
	perRecord(b, list)
}
