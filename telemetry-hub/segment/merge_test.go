package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/ids"
)

// openAt opens a sealed segment in memory.
func openAt(t testing.TB, path string, d *Decoder) *Segment {
	t.Helper()
	s, _, err := readFiles(t, path).open(d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustMerge(t testing.TB, dst string, o MergeOptions, from ...*Segment) Summary {
	t.Helper()
	summary, err := Merge(t.Context(), dst, from, o)
	if err != nil {
		t.Fatal(err)
	}
	return summary
}

// keptNaively is what Merge promises, over all records, for conditions on code,
// gRPC status and duration.
func keptNaively(all []Found, o MergeOptions) (kept []Found) {
	takes := func(f *Found) bool {
		r := &f.Record
		bad := failed(int64(r.Code), int64(r.GRPCStatus))
		slow := o.Keep.FailedOrSlow
		return (!o.Keep.Failed || bad) && (slow == 0 || bad || r.Duration >= slow) && r.Code >= o.Keep.MinCode
	}
	traces := make(map[[16]byte]bool)
	for i := range all {
		if f := &all[i]; takes(f) && f.Record.TraceID != ([16]byte{}) {
			traces[f.Record.TraceID] = true
		}
	}
	for _, f := range all {
		if takes(&f) || o.WholeTraces && traces[f.Record.TraceID] {
			kept = append(kept, f)
		}
	}
	return kept
}

// TestAMergeHasTheRecordsOfItsInputs is the property of merging: also of what
// was merged before, and with conditions.
func TestAMergeHasTheRecordsOfItsInputs(t *testing.T) {
	c, dir, d := newCodec(t), t.TempDir(), newTestDecoder(t)
	rapid.Check(t, func(rt *rapid.T) {
		var from []*Segment
		var all []Found
		for i := range rapid.IntRange(0, 3).Draw(rt, "segments") {
			batches := genBatches(rt, t, c)
			path := filepath.Join(dir, fmt.Sprint(i, ".parquet"))
			buildAt(t, path, BuilderOptions{Window: rapid.IntRange(1, 20).Draw(rt, "window")}, batches...)
			from, all = append(from, openAt(t, path, d)), append(all, expected(batches...)...)
		}
		o := MergeOptions{Builder: BuilderOptions{Window: rapid.IntRange(1, 20).Draw(rt, "window of the merge")}}
		o.Keep.Failed = rapid.Bool().Draw(rt, "failed")
		o.Keep.MinCode = rapid.SampledFrom([]uint32{0, 0, 300}).Draw(rt, "least code")
		o.Keep.FailedOrSlow = time.Duration(rapid.SampledFrom([]int64{0, 0, 1 << 40, 1 << 62}).Draw(rt, "slow"))
		o.WholeTraces = rapid.Bool().Draw(rt, "whole traces")
		want := keptNaively(all, o)
		for round := range 2 {
			path := filepath.Join(dir, fmt.Sprint("merged", round, ".parquet"))
			summary, err := Merge(t.Context(), path, from, o)
			if err != nil {
				rt.Fatal(err)
			}
			if summary.Rows != len(want) || summary.SkippedGroups != 0 || summary.SkippedRows != 0 {
				rt.Fatalf("%+v, want %d rows", summary, len(want))
			}
			s := openAt(t, path, d)
			if diff := diffFound(slices.Clone(want), scanAll(t, s, Query{})); diff != "" {
				rt.Fatal("(-want +got)\n", diff)
			}
			if err := s.Verify(t.Context()); err != nil {
				rt.Fatal("verify:", err)
			}
			from = []*Segment{s}
		}
	})
}

// splitTraces seals batches in turn into n segments, as several hubs would that
// the sidecars of one mesh report to.
func splitTraces(t testing.TB, d *Decoder, n int, o BuilderOptions, batches []batch) (from []*Segment) {
	t.Helper()
	for i := range n {
		var mine []batch
		for j := i; j < len(batches); j += n {
			mine = append(mine, batches[j])
		}
		from = append(from, openAt(t, build(t, o, mine...), d))
	}
	return from
}

func TestAMergeBringsTracesTogether(t *testing.T) {
	batches, d := bookinfoBatches(t, 21, 100_000), newTestDecoder(t)
	o := MergeOptions{Builder: BuilderOptions{Window: 1 << 15}}
	from := splitTraces(t, d, 2, o.Builder, batches)
	path := filepath.Join(t.TempDir(), "1.parquet")
	if summary := mustMerge(t, path, o, from...); summary.Rows != 100_000 {
		t.Fatalf("%+v", summary)
	}
	s, r := mustOpen(t, path)
	r.take()
	all, looked, reads := expected(batches...), 0, 0
	for i := 0; i < len(all); i += 997 {
		id := ids.TraceID(all[i].Record.TraceID).String()
		found, err := s.Find(t.Context(), id, 100)
		if err != nil || len(found) == 0 {
			t.Fatal(len(found), err)
		}
		n, _ := r.take()
		looked, reads = looked+1, reads+n
	}
	// Without order it would be near two for each.
	if reads*10 > looked*13 {
		t.Errorf("%d look-ups read %d row groups", looked, reads)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAMergeKeepsFailedAndSlowRequestsWhole(t *testing.T) {
	batches, d := bookinfoBatches(t, 22, 30_000), newTestDecoder(t)
	all := expected(batches...)
	o := MergeOptions{Keep: Query{FailedOrSlow: 40 * time.Millisecond}, WholeTraces: true}
	want := keptNaively(all, o)
	path := filepath.Join(t.TempDir(), "1.parquet")
	summary := mustMerge(t, path, o, splitTraces(t, d, 3, BuilderOptions{}, batches)...)
	if summary.Rows != len(want) || len(want) < 250 || len(want) > 30_000 {
		t.Fatalf("kept %d of %d rows, want %d", summary.Rows, len(all), len(want))
	}
	want, got := sortFound(want), sortFound(scanAll(t, openAt(t, path, d), Query{}))
	for i := 0; i < len(want); i += 101 {
		if diff := diffFound(want[i:i+1], got[i:i+1]); diff != "" {
			t.Fatalf("record %d (-want +got)\n%s", i, diff)
		}
	}
}

func TestAMergePassesOverDamageAndCountsIt(t *testing.T) {
	path, all := smallSegment(t)
	clean, d := readFiles(t, path), newTestDecoder(t)
	whole := openAt(t, build(t, BuilderOptions{}, bookinfoBatches(t, 3, 10)...), d)
	s, _, err := clean.open(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		hurt func(f *files)
		lost int
		o    MergeOptions
	}{
		{"a column", func(f *files) { f.data[200] ^= 4 }, 24, MergeOptions{}},
		{"what the condition looks at", func(f *files) { f.data[mustLeaf(t, s, 1, Code)] ^= 4 }, 24, MergeOptions{Keep: Query{FailedOrSlow: 1}, WholeTraces: true}},
		{"an entry of the index", func(f *files) { f.index[s.header.part(partGroups).offset+3] ^= 1 }, 24, MergeOptions{}},
		{"the second half of the file", func(f *files) { f.data = f.data[:len(f.data)/3] }, 24, MergeOptions{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := files{bytes.Clone(clean.data), bytes.Clone(clean.index)}
			c.hurt(&f)
			hurt, _, err := f.open(d)
			if err != nil {
				t.Fatal(err)
			}
			told := 0
			c.o.OnDamage = func(err error) {
				if told++; !errors.Is(err, ErrCorrupt) {
					t.Error(err)
				}
			}
			dst := filepath.Join(t.TempDir(), "1.parquet")
			summary := mustMerge(t, dst, c.o, whole, hurt)
			groups := c.lost / 24
			if summary.SkippedGroups != groups || summary.SkippedRows != c.lost || told != groups || summary.Rows != 10+len(all)-c.lost {
				t.Errorf("%+v, told of %d", summary, told)
			}
			if err := openAt(t, dst, d).Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// mustLeaf is where a column of a row group begins in the file.
func mustLeaf(t *testing.T, s *Segment, number int, c Column) int64 {
	t.Helper()
	d, err := s.groupData(number)
	if err != nil {
		t.Fatal(err)
	}
	return d.at[s.leaf[c]]
}

func TestAMergeThatFailsLeavesNothing(t *testing.T) {
	path, _ := smallSegment(t)
	f, d := readFiles(t, path), newTestDecoder(t)
	sound, _, err := f.open(d)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("connection reset")
	far, err := Open(failingRange{broken}, bytes.NewReader(f.index), int64(len(f.index)), Options{Decoder: d})
	if err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		from []*Segment
		want error
	}{
		{"a read that fails is no damage", t.Context(), []*Segment{sound, far}, broken},
		{"the context ends", done, []*Segment{sound}, context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := Merge(c.ctx, filepath.Join(dir, "1.parquet"), c.from, MergeOptions{}); !errors.Is(err, c.want) {
				t.Error(err)
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Error("left behind:", left)
			}
		})
	}
}

// TestAMergeOfManyOriginsAndAttributes has more of both than the usual mesh.
func TestAMergeOfManyOriginsAndAttributes(t *testing.T) {
	c, d := newCodec(t), newTestDecoder(t)
	var batches []batch
	for i := range 12 {
		rs := make([]record.Record, 100)
		for j := range rs {
			rs[j] = record.Record{
				Start: time.Unix(int64(j), 0), TraceID: [16]byte{byte(j), 1}, SpanID: [8]byte{byte(i), byte(j)}, Edge: uint32(j % 3),
				Attributes: map[string]string{"shop/&=": fmt.Sprint(i*7 + j%5), "n": fmt.Sprint(j % 2)},
			}
			if j%10 == 0 {
				rs[j].Attributes = nil
			}
		}
		batches = append(batches, c.batch(t, rs, edgesTo(i), fmt.Sprint("pod-", i)))
	}
	// Every record of an edge of its own: more pairs of instances than a table has.
	rs, edges := make([]record.Record, 1100), make([]*telemetryv1.Edge, 1100)
	for i := range rs {
		rs[i] = record.Record{Start: time.Unix(int64(i), 0), TraceID: [16]byte{byte(i), byte(i >> 8), 2}, Edge: uint32(i)}
		edges[i] = &telemetryv1.Edge{Source: pod("a", "v1", i), Destination: pod("b", "v1", i)}
	}
	batches = append(batches, c.batch(t, rs, edges, "gateway"))
	from := splitTraces(t, d, 3, BuilderOptions{}, batches)
	path := filepath.Join(t.TempDir(), "1.parquet")
	mustMerge(t, path, MergeOptions{}, from...)
	if diff := diffFound(expected(batches...), scanAll(t, openAt(t, path, d), Query{})); diff != "" {
		t.Error("(-want +got)\n", diff)
	}
}

func edgesTo(i int) (edges []*telemetryv1.Edge) {
	for _, name := range []string{"a", "b"} {
		edges = append(edges, &telemetryv1.Edge{
			Source: pod(name, "v1", i), Destination: pod(fmt.Sprint(name, i%7), "v2", 0), DestinationService: fmt.Sprint(name, i%11),
		})
	}
	return edges
}

func pod(service, version string, n int) *telemetryv1.Identity {
	workload := service + "-" + version
	return &telemetryv1.Identity{
		Cluster: "cluster-1", Namespace: "default", Workload: workload, Service: service, Version: version,
		Principal: "spiffe://cluster.local/ns/default/sa/bookinfo-" + service,
		Instance:  fmt.Sprintf("%s-%08x-%05x", workload, 0x7c9d4f55, len(workload)*4099+n*65537),
	}
}
