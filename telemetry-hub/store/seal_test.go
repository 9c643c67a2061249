package store

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

func TestWhatIsSealedIsFoundAsBefore(t *testing.T) {
	b := newBench(t, Options{FileBytes: 200, LogHorizon: time.Minute})
	first := hop(1, "/first")
	first.RequestID = "order-4711"
	b.append(first, hop(2, "/other"))
	b.append(hop(1, "/second"), hop(3, "/unrelated")) // in another file
	b.append(hop(1, "/third"))                        // in the open one
	check := func(when string) {
		t.Helper()
		for id, want := range map[string][]string{
			trace(1).String(): {"/first", "/second", "/third"}, trace(2).UUID(): {"/other"},
			"order-4711": {"/first", "/second", "/third"}, "order-4712": nil,
		} {
			if got := b.paths(id); !slices.Equal(got, want) {
				t.Errorf("%s: %s finds %v, want %v", when, id, got, want)
			}
		}
		if got := b.store.Stats().Records; got != 5 {
			t.Errorf("%s: %d records, want 5", when, got)
		}
	}
	check("as appended")
	b.seal()
	if st := b.store.Stats(); st.Segments != 2 || st.Sealed != 2 || st.Unsealed != 0 {
		t.Fatalf("stats %+v, want two segments", st)
	}
	check("sealed")
	b.reopen()
	check("after a restart")
	b.now = b.now.Add(2 * time.Minute)
	b.seal()
	if logs := b.glob("*.log"); len(logs) != 1 {
		t.Errorf("logs %v remain, want the open one", logs)
	}
	check("without the logs")
	b.reopen()
	check("without the logs, after a restart")
	if got := b.requests(); got != 3 {
		t.Errorf("%d requests counted, want 3", got)
	}
}

// glob lists file names of the store.
func (b *bench) glob(pattern string) (names []string) {
	b.t.Helper()
	paths, err := filepath.Glob(filepath.Join(b.dir, pattern))
	if err != nil {
		b.t.Fatal(err)
	}
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	return names
}

func TestALogIsSealedByAge(t *testing.T) {
	b := newBench(t, Options{})
	b.append(hop(1, "/"))
	b.now = b.now.Add(sealAfter + time.Second)
	b.seal()
	if n := b.store.Stats().Segments; n != 0 {
		t.Fatalf("%d segments, want none while the log is written to", n)
	}
	b.append(hop(2, "/"))
	b.seal()
	if st := b.store.Stats(); st.Segments != 1 || st.Records != 2 {
		t.Errorf("%+v, want one segment, two records", st)
	}
}

func TestBatchesWithoutRecordsMakeNoSegment(t *testing.T) {
	b := newBench(t, Options{FileBytes: 100, LogHorizon: time.Minute})
	for range 5 {
		b.append()
	}
	b.now = b.now.Add(time.Hour)
	b.seal()
	if got := b.glob("*"); len(got) != 2 {
		t.Errorf("files %v, want the open log and its checkpoint", got)
	}
	b.reopen()
	if got := b.requests(); got != 5 {
		t.Errorf("%d requests, want 5", got)
	}
}

func TestASealingThatFailsIsTriedAgain(t *testing.T) {
	b := newBench(t, Options{FileBytes: 200})
	b.append(hop(1, "/1"))
	b.append(hop(2, "/2"))
	block := b.store.segmentPath(1, 1) + newSuffix // a folder stands where the file is to be
	if err := os.Mkdir(block, 0o755); err != nil {
		t.Fatal(err)
	}
	b.store.sealAll(t.Context())
	if st := b.store.Stats(); st.SealFailures != 1 || st.Unsealed != 1 || st.Records != 2 || !strings.Contains(b.log.String(), "log is not sealed") {
		t.Errorf("%+v, want one failure that is told\n%s", st, b.log)
	}
	if got := b.paths(trace(1).String()); len(got) != 1 {
		t.Errorf("found %v meanwhile, want one", got)
	}
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	b.store.sealAll(t.Context())
	if st := b.store.Stats(); st.Segments != 1 || st.Records != 2 {
		t.Errorf("%+v, want one segment", st)
	}
}

func TestWhatACrashLeavesIsMadeGood(t *testing.T) {
	for name, crash := range map[string]func(b *bench){
		"half a segment":        func(b *bench) { b.write("0000000000000001-0000000000000001.parquet.new", "PAR1 and no more") },
		"an index alone":        func(b *bench) { b.write("0000000000000001-0000000000000001.parquet.index", "TMSEGIDX and no more") },
		"half a checkpoint":     func(b *bench) { b.write("0000000000000003.checkpoint.new", "te") },
		"a segment not dropped": func(b *bench) { b.store.sealAll(b.t.Context()) },
	} {
		b := newBench(t, Options{FileBytes: 200, LogHorizon: time.Minute})
		for i := range byte(5) {
			b.append(hop(i, fmt.Sprint("/", i)))
		}
		crash(b)
		b.reopen()
		b.now = b.now.Add(time.Hour)
		b.seal()
		b.reopen()
		for i := range byte(5) {
			if got := b.paths(trace(i).String()); len(got) != 1 {
				t.Errorf("%s: found %v of %d, want it once", name, got, i)
			}
		}
		if st := b.store.Stats(); st.Records != 5 || st.Corruptions != 0 || len(b.glob("*.new")) != 0 {
			t.Errorf("%s: %+v, files %v; want five records and nothing else\n%s", name, st, b.glob("*"), b.log)
		}
	}
}

func (b *bench) write(name, content string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func TestADamagedSegmentCostsWhatIsDamaged(t *testing.T) {
	sealed := func(t *testing.T) (b *bench, path string) {
		b = newBench(t, Options{FileBytes: 200, LogHorizon: time.Minute})
		b.append(hop(1, "/1"))
		b.append(hop(2, "/2"))
		b.now = b.now.Add(time.Hour)
		b.seal()
		return b, b.store.segmentPath(1, 1)
	}
	t.Run("without its index", func(t *testing.T) {
		b, path := sealed(t)
		if err := os.Remove(segment.IndexPath(path)); err != nil {
			t.Fatal(err)
		}
		b.reopen()
		if got := b.paths(trace(1).String()); len(got) != 1 || b.store.Stats().Corruptions != 1 {
			t.Errorf("found %v, corruptions %d; want one each\n%s", got, b.store.Stats().Corruptions, b.log)
		}
	})
	t.Run("index of another", func(t *testing.T) {
		b, path := sealed(t)
		b.write(filepath.Base(segment.IndexPath(path)), strings.Repeat("x", 5000))
		b.reopen()
		if got := b.paths(trace(1).String()); len(got) != 1 || b.store.Stats().Corruptions != 1 {
			t.Errorf("found %v, corruptions %d; want one each\n%s", got, b.store.Stats().Corruptions, b.log)
		}
	})
	t.Run("data gone", func(t *testing.T) {
		b, path := sealed(t)
		b.write(filepath.Base(path), "PAR1")
		b.reopen()
		if got := b.paths(trace(1).String()); len(got) != 0 || b.store.Stats().Corruptions == 0 {
			t.Errorf("found %v, corruptions %d; want none, and told", got, b.store.Stats().Corruptions)
		}
		if got := b.paths(trace(2).String()); len(got) != 1 {
			t.Errorf("found %v of the other, want it", got)
		}
	})
	t.Run("data gone, log there", func(t *testing.T) {
		b := newBench(t, Options{FileBytes: 200})
		b.append(hop(1, "/1"))
		b.append(hop(2, "/2"))
		b.seal()
		path := b.store.segmentPath(1, 1)
		b.write(filepath.Base(path), "PAR1")
		if err := os.Remove(segment.IndexPath(path)); err != nil {
			t.Fatal(err)
		}
		b.reopen()
		b.seal()
		if got := b.paths(trace(1).String()); len(got) != 1 || b.store.Stats().Segments != 1 {
			t.Errorf("found %v in %d segments, want it sealed anew", got, b.store.Stats().Segments)
		}
	})
}

func TestRetentionByAge(t *testing.T) {
	b := newBench(t, Options{FileBytes: 200, LogHorizon: time.Minute, RetentionAge: time.Hour})
	at := func(n byte) record.Record {
		r := hop(n, "/")
		r.Start = b.now
		return r
	}
	for i := range byte(10) {
		b.append(at(i))
		b.now = b.now.Add(15 * time.Minute)
		b.seal()
	}
	for i := range byte(10) {
		want := 0
		if i >= 6 {
			want = 1
		}
		if got := b.paths(trace(i).String()); len(got) != want {
			t.Errorf("record %d of ten in 150 minutes found %d times, want %d", i, len(got), want)
		}
	}
}

// TestTheStoreIsAMultisetOfRecords does what may happen to a store in any order
// and compares it with a list.
func TestTheStoreIsAMultisetOfRecords(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t, Options{FileBytes: 2000, LogHorizon: time.Minute})
		defer b.store.Close()
		var model []record.Record
		serial := byte(0)
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				var batch []record.Record
				for range rapid.IntRange(0, 20).Draw(rt, "rows") {
					serial++
					r := record.Record{
						Start:   time.Unix(1_700_000_000+int64(len(model)+len(batch)), 0),
						TraceID: trace(rapid.ByteMax(9).Draw(rt, "trace")), SpanID: [8]byte{serial, byte(len(model) >> 8), byte(len(model))},
						Path: rapid.SampledFrom([]string{"/a", "/b", "/ü"}).Draw(rt, "path"), Code: rapid.SampledFrom([]uint32{200, 404, 503}).Draw(rt, "code"),
					}
					if rapid.IntRange(0, 4).Draw(rt, "foreign") == 0 {
						r.RequestID = rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "request ID")
					}
					batch = append(batch, r)
				}
				b.append(batch...)
				model = append(model, batch...)
			},
			"seal":    func(*rapid.T) { b.seal() },
			"restart": func(*rapid.T) { b.reopen() },
			"wait":    func(*rapid.T) { b.now = b.now.Add(2 * time.Minute) },
			"": func(rt *rapid.T) {
				compareWithModel(rt, b, model)
			},
		})
	})
}

func compareWithModel(rt *rapid.T, b *bench, model []record.Record) {
	if got := b.store.Stats(); got.Records != uint64(len(model)) || got.Corruptions != 0 {
		rt.Fatalf("%+v, want %d records", got, len(model))
	}
	for _, id := range []string{trace(3).String(), trace(7).UUID(), "x"} {
		if got, want := spans(b.find(id)), spansOf(model, id); !slices.Equal(got, want) {
			rt.Fatalf("%s finds %d records, want %d", id, len(got), len(want))
		}
	}
	limit := 5
	errorsOnly := func(r *record.Record, _ *telemetryv1.Edge) bool { return r.Code >= 500 }
	found, complete := b.store.Search(b.t.Context(), Query{Limit: limit, Match: errorsOnly, Where: segment.Query{MinCode: 500}})
	var want []record.Record
	for _, r := range slices.Backward(model) {
		if r.Code >= 500 {
			want = append(want, r)
		}
	}
	if complete && len(want) > limit || !complete && len(want) < limit {
		rt.Fatalf("search says complete %v with %d matches and a limit of %d", complete, len(want), limit)
	}
	if len(found) != min(limit, len(want)) {
		rt.Fatalf("search finds %d of %d, limit %d", len(found), len(want), limit)
	}
	for i, f := range found {
		if !f.Record.Start.Equal(want[i].Start) {
			rt.Fatalf("result %d began at %v, want %v", i, f.Record.Start, want[i].Start)
		}
	}
}

func spans(found []Found) (list []string) {
	for _, f := range found {
		list = append(list, fmt.Sprintf("%x", f.Record.SpanID))
	}
	slices.Sort(list)
	return list
}

// spansOf is what a look-up has to find: by a request ID its records and the
// whole of their traces.
func spansOf(model []record.Record, id string) (list []string) {
	traces := make(map[[16]byte]bool)
	if parsed, ok := ids.ParseTraceID(id); ok {
		traces[parsed] = true
	}
	for _, r := range model {
		if r.RequestID == id {
			traces[r.TraceID] = true
		}
	}
	for _, r := range model {
		if traces[r.TraceID] {
			list = append(list, fmt.Sprintf("%x", r.SpanID))
		}
	}
	slices.Sort(list)
	return list
}

func TestTheWriterWaitsWhileSealingIsFarBehind(t *testing.T) {
	b := newBench(t, Options{FileBytes: 200})
	b.store.running.Store(true) // but nothing is sealed yet
	for i := range byte(maxUnsealed + 1) {
		b.append(hop(i, "/"))
	}
	if n := b.store.Stats().Unsealed; n != maxUnsealed {
		t.Fatalf("%d logs wait, want %d", n, maxUnsealed)
	}
	done := make(chan struct{})
	go func() {
		b.append(hop(99, "/"))
		close(done)
	}()
	select {
	case <-done:
		t.Fatal("the writer went on")
	case <-time.After(50 * time.Millisecond):
	}
	b.store.sealAll(t.Context())
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("the writer still waits when all is sealed")
	}
}
