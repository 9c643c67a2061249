package segment

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/histogram"
	"github.com/telemesh/telemesh/internal/ids"
)

// benchRows of the Bookinfo stream make a segment of about 40 row groups.
const benchRows = 320_000

// cpuTime is what the process has used: on a shared machine the figure to trust.
func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkBuild(b *testing.B) {
	batches := bookinfoBatches(b, 1, benchRows)
	path := filepath.Join(b.TempDir(), "1.parquet")
	var s Summary
	b.ReportAllocs()
	from := cpuTime()
	for b.Loop() {
		s = buildAt(b, path, BuilderOptions{}, batches...)
	}
	rows := float64(benchRows)
	b.ReportMetric(float64((cpuTime()-from).Microseconds())/float64(b.N)/rows, "cpu-µs/row")
	b.ReportMetric(float64(s.DataBytes)/rows, "data-B/row")
	b.ReportMetric(float64(s.IndexBytes)/rows, "index-B/row")
}

func benchSegment(b *testing.B) (*Segment, []batch) {
	b.Helper()
	batches := bookinfoBatches(b, 1, benchRows)
	path := build(b, BuilderOptions{}, batches...)
	data, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { data.Close() })
	index, err := os.Open(IndexPath(path))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { index.Close() })
	info, err := index.Stat()
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(LocalRange{data}, index, info.Size(), Options{Name: "1", Decoder: newTestDecoder(b)})
	if err != nil {
		b.Fatal(err)
	}
	return s, batches
}

func BenchmarkFind(b *testing.B) {
	s, batches := benchSegment(b)
	var took []time.Duration
	i, hits := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		of := batches[i*7919%len(batches)].columns
		i++
		from := time.Now()
		found, err := s.Find(b.Context(), ids.TraceID(of.TraceID(i%of.Rows())).String(), 1000)
		took = append(took, time.Since(from))
		if hits += len(found); err != nil || len(found) == 0 {
			b.Fatal(len(found), err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
	b.ReportMetric(float64(hits)/float64(b.N), "records")
}

// BenchmarkMerge makes one segment of three that share their traces.
func BenchmarkMerge(b *testing.B) {
	from := splitTraces(b, newTestDecoder(b), 3, BuilderOptions{}, bookinfoBatches(b, 1, benchRows))
	path := filepath.Join(b.TempDir(), "1.parquet")
	for _, c := range []struct {
		name string
		o    MergeOptions
	}{
		{"all", MergeOptions{}},
		{"failed or slow, whole", MergeOptions{Keep: Query{FailedOrSlow: 40 * time.Millisecond}, WholeTraces: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var s Summary
			b.ReportAllocs()
			used := cpuTime()
			for b.Loop() {
				s = mustMerge(b, path, c.o, from...)
			}
			b.ReportMetric(float64((cpuTime()-used).Microseconds())/float64(b.N)/benchRows, "cpu-µs/row-read")
			b.ReportMetric(float64(s.Rows)/benchRows, "kept")
			b.ReportMetric(float64(s.DataBytes)/float64(s.Rows), "data-B/row")
		})
	}
}

// BenchmarkScanErrors finds what failed at one service.
func BenchmarkScanErrors(b *testing.B) {
	s, _ := benchSegment(b)
	n, from := 0, cpuTime()
	for b.Loop() {
		n = 0
		err := s.Scan(b.Context(), Query{Destination: "reviews", Failed: true, Columns: []Column{Start}}, func(r *Rows) bool {
			n += len(r.Selected())
			return true
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpuTime()-from).Seconds()*1e3/float64(b.N)/(benchRows/1e6), "cpu-ms/Mrow")
	b.ReportMetric(float64(n), "hits")
}

// BenchmarkScanGroupBy groups by source, destination and code, with a latency
// histogram, over five columns.
func BenchmarkScanGroupBy(b *testing.B) {
	s, _ := benchSegment(b)
	type key struct {
		source, destination string
		code                int64
	}
	q := Query{From: time.Unix(0, bookinfoStart), Columns: []Column{Code, Duration, SourceWorkload, DestinationWorkload, Start}}
	from := cpuTime()
	for b.Loop() {
		sums := make(map[key]*[histogram.Buckets]uint32)
		err := s.Scan(b.Context(), q, func(r *Rows) bool {
			code, duration := r.Ints(Code), r.Ints(Duration)
			sources, source := r.Texts(SourceWorkload)
			destinations, destination := r.Texts(DestinationWorkload)
			const codes = 600
			table := make([]*[histogram.Buckets]uint32, len(sources)*len(destinations)*codes)
			for _, row := range r.Selected() {
				at := (int(source[row])*len(destinations)+int(destination[row]))*codes + int(code[row])
				if table[at] == nil {
					k := key{sources[source[row]], destinations[destination[row]], code[row]}
					if sums[k] == nil {
						sums[k] = new([histogram.Buckets]uint32)
					}
					table[at] = sums[k]
				}
				table[at][histogram.Index(uint64(duration[row]))]++
			}
			return true
		})
		if err != nil || len(sums) < 5 {
			b.Fatal(len(sums), err)
		}
	}
	b.ReportMetric(benchRows*float64(b.N)/(cpuTime()-from).Seconds()/1e6, "Mrows/cpu-s")
}

func BenchmarkVerify(b *testing.B) {
	s, _ := benchSegment(b)
	from := cpuTime()
	for b.Loop() {
		if err := s.Verify(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime()-from).Microseconds())/float64(b.N)/benchRows, "cpu-µs/row")
}
