package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/telemetry-hub/counters"
)

// bench is a store with what a hub has around it.
type bench struct {
	t        *testing.T
	dir      string
	store    *Store
	state    *counters.State
	replayed []uint64 // sequences
	sequence uint64
	encoder  *record.Encoder
	decoder  *record.Decoder
	log      *bytes.Buffer
	options  Options
	now      time.Time
	remote   func() *Remote // opens the bucket, if there is one
}

func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	b := &bench{}
	fresh(t, b, o, nil)
	return b
}

// fresh makes b a store that is new.
func fresh(t *testing.T, b *bench, o Options, remote func() *Remote) {
	t.Helper()
	*b = bench{t: t, dir: filepath.Join(t.TempDir(), "records"), options: o, now: time.Now(), remote: remote}
	var err error
	if b.encoder, err = record.NewEncoder(); err != nil {
		t.Fatal(err)
	}
	if b.decoder, err = record.NewDecoder(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.decoder.Close)
	if b.options.RetentionBytes == 0 {
		b.options.RetentionBytes = 1 << 30
	}
	b.open()
	t.Cleanup(func() { b.store.Close() })
}

// open reads the directory as a hub does when it starts.
func (b *bench) open() {
	b.t.Helper()
	b.state, b.replayed, b.log = counters.New(), nil, &bytes.Buffer{}
	o := b.options
	o.Dir, o.Checkpoint, o.Logger, o.Now = b.dir, b.state.Export, slog.New(slog.NewTextHandler(b.log, nil)), func() time.Time { return b.now }
	if b.remote != nil {
		o.Remote = b.remote()
	}
	s, err := Open(o,
		func(batch *telemetryv1.Batch) { b.state.Apply(batch) },
		func(batch *telemetryv1.Batch) {
			b.state.Apply(batch)
			b.replayed = append(b.replayed, batch.GetSequence())
		})
	if err != nil {
		b.t.Fatal(err)
	}
	b.store = s
}

// seal does what Run does all the time.
func (b *bench) seal() {
	b.t.Helper()
	b.store.sealAll(b.t.Context())
	b.store.mergeSmall(b.t.Context())
	b.store.keepSome(b.t.Context())
	b.store.tidy()
	if n := b.store.Stats().SealFailures; n != 0 {
		b.t.Fatalf("%d sealings failed\n%s", n, b.log)
	}
}

func (b *bench) reopen() {
	b.t.Helper()
	if err := b.store.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

// append logs and counts one batch with the records.
func (b *bench) append(records ...record.Record) {
	b.t.Helper()
	b.sequence++
	batch := &telemetryv1.Batch{
		Sender: "a", Epoch: 1, Sequence: b.sequence, TimeUnixNano: int64(b.sequence) * 1e9,
		Edges:       []*telemetryv1.Edge{{DestinationService: "reviews"}},
		Aggregates:  []*telemetryv1.Aggregate{{Requests: b.sequence}},
		RecordCount: uint32(len(records)),
	}
	if len(records) > 0 {
		batch.Records = b.encoder.Append(nil, record.BlockOf(records))
	}
	columns, err := b.decoder.Decode(batch.GetRecords(), len(records))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.store.Append(batch, columns); err != nil {
		b.t.Fatal(err)
	}
	b.state.Apply(batch)
}

func (b *bench) requests() (n uint64) {
	_, rows := b.state.Snapshot()
	for _, r := range rows {
		n += r.GetRequests()
	}
	return n
}

func (b *bench) find(id string) []Found {
	b.t.Helper()
	found, err := b.store.Find(b.t.Context(), id)
	if err != nil {
		b.t.Error(err)
	}
	return found
}

func (b *bench) search(limit int) ([]Found, bool) {
	return b.store.Search(b.t.Context(), Query{Limit: limit, Match: func(*record.Record, *telemetryv1.Edge) bool { return true }})
}

func (b *bench) paths(id string) []string {
	var out []string
	for _, f := range b.find(id) {
		out = append(out, f.Record.Path)
	}
	slices.Sort(out)
	return out
}

func trace(n byte) ids.TraceID { return ids.TraceID{0xab, 6: 0x40, 8: 0x80, 15: n} }

func hop(n byte, path string) record.Record {
	return record.Record{Start: time.Unix(int64(n), 0), TraceID: trace(n), SpanID: [8]byte{n}, Path: path}
}

func TestFindByEveryFormOfAnID(t *testing.T) {
	b := newBench(t, Options{})
	first := hop(1, "/first")
	first.RequestID = "order-4711"
	b.append(first, hop(2, "/other"))
	b.append(hop(1, "/second"))
	b.append(hop(3, "/unrelated"))
	check := func(name, id string, want ...string) {
		t.Helper()
		if got := b.paths(id); !slices.Equal(got, want) {
			t.Errorf("%s: found %v, want %v", name, got, want)
		}
	}
	for _, when := range []string{"as appended", "after a restart"} {
		check("trace ID "+when, trace(1).String(), "/first", "/second")
		check("uppercase trace ID "+when, strings.ToUpper(trace(2).String()), "/other")
		check("UUID "+when, trace(3).UUID(), "/unrelated")
		check("foreign request ID on one hop "+when, "order-4711", "/first", "/second")
		check("an ID nobody has "+when, "order-4712")
		check("no ID "+when, "")
		b.reopen()
	}
}

func TestFindBoundsAnIDThatEveryRequestHas(t *testing.T) {
	b := newBench(t, Options{})
	for range 13 {
		records := make([]record.Record, 1000)
		for i := range records {
			records[i] = record.Record{Start: time.Unix(1, 0), TraceID: ids.NewTraceID(), RequestID: "test"}
		}
		b.append(records...)
	}
	if got := len(b.find("test")); got != maxFound {
		t.Errorf("found %d records, want %d", got, maxFound)
	}
}

func TestRecordsWithoutTraceAreNotOneTrace(t *testing.T) {
	b := newBench(t, Options{})
	one, two := record.Record{Start: time.Unix(1, 0), RequestID: "one", Path: "/one"}, record.Record{Start: time.Unix(1, 0), RequestID: "two", Path: "/two"}
	b.append(one, two)
	if got := b.paths("one"); !slices.Equal(got, []string{"/one"}) {
		t.Errorf("found %v, want /one alone", got)
	}
}

func TestSearchIsNewestFirstAndSaysWhenItIsCut(t *testing.T) {
	b := newBench(t, Options{FileBytes: 400})
	for i := range byte(20) {
		b.append(hop(i, fmt.Sprint("/", i)))
	}
	found, complete := b.search(3)
	var got []string
	for _, f := range found {
		got = append(got, f.Record.Path)
	}
	if complete || !slices.Equal(got, []string{"/19", "/18", "/17"}) {
		t.Errorf("found %v, complete %v; want the newest three, incomplete", got, complete)
	}
	if found, complete = b.search(20); len(found) != 20 || !complete {
		t.Errorf("found %d, complete %v; want all 20", len(found), complete)
	}
}

func TestTornTailIsCutWhereverItIsTorn(t *testing.T) {
	b := newBench(t, Options{})
	for i := range byte(3) {
		b.append(hop(i, fmt.Sprint("/", i)))
	}
	file := b.store.path(1, "log")
	last := b.store.logs[0].frames[2]
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for cut := last; cut < int64(len(whole)); cut++ {
		if err := os.WriteFile(file, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		b.open()
		if !slices.Equal(b.replayed, []uint64{1, 2}) {
			t.Fatalf("cut at %d: replayed %v, want 1 and 2", cut, b.replayed)
		}
		if n := b.store.Stats().Corruptions; n != 0 {
			t.Fatalf("cut at %d: %d corruptions, want none for a torn tail\n%s", cut, n, b.log)
		}
		b.append(hop(9, "/9"))
		b.reopen()
		if len(b.paths(trace(0).String())) != 1 || len(b.paths(trace(1).String())) != 1 || len(b.paths(trace(2).String())) != 0 || len(b.paths(trace(9).String())) != 1 {
			t.Fatalf("cut at %d: not exactly the sound batches and the new one are found", cut)
		}
		if err := b.store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFlippedBitCostsOnlyItsBatchAndIsCounted(t *testing.T) {
	b := newBench(t, Options{})
	for i := range byte(3) {
		b.append(hop(i, "/"))
	}
	file := b.store.path(1, "log")
	frames := slices.Clone(b.store.logs[0].frames)
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for offset := range whole {
		for _, bit := range []byte{0, 3, 7} {
			damaged := slices.Clone(whole)
			damaged[offset] ^= 1 << bit
			if err := os.WriteFile(file, damaged, 0o644); err != nil {
				t.Fatal(err)
			}
			b.open()
			hit := len(frames)
			for i := range frames {
				if int64(offset) >= frames[i] {
					hit = i
				}
			}
			want := slices.Delete([]uint64{1, 2, 3}, hit, hit+1)
			if !slices.Equal(b.replayed, want) {
				t.Fatalf("byte %d bit %d: replayed %v, want %v", offset, bit, b.replayed, want)
			}
			if n := b.store.Stats().Corruptions; n != 1 {
				t.Fatalf("byte %d bit %d: %d corruptions, want 1\n%s", offset, bit, n, b.log)
			}
			if err := b.store.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.open()
}

func TestGarbageFilesAreCountedAndSurvived(t *testing.T) {
	b := newBench(t, Options{})
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"0000000000000001.log":        strings.Repeat("not a log at all ", 10_000),
		"0000000000000001.checkpoint": string(appendFrame([]byte("tornado"), []byte("not a batch"))),
		"0000000000000002.log":        string(appendFrame(nil, []byte{0xff, 0xff})),
		"README.log":                  "a person left this",
		"0000000000000009.checkpoint": "a checkpoint without its log",
	} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
	if n := b.store.Stats().Corruptions; n != 4 {
		t.Errorf("%d corruptions, want 4: the log, the checkpoint's gap, its frame and the second log's frame\n%s", n, b.log)
	}
	b.append(hop(1, "/1"))
	b.reopen()
	if got := b.paths(trace(1).String()); len(got) != 1 {
		t.Errorf("found %v, want the batch behind the garbage", got)
	}
}

func TestRetentionDropsRecordsAndKeepsCounts(t *testing.T) {
	const retention = 50 << 10 // five segments: of so few records each is 9 kB of footer and index
	b := newBench(t, Options{FileBytes: 500, RetentionBytes: retention, LogHorizon: time.Minute})
	for i := range byte(100) {
		b.append(hop(i, "/"))
		b.now = b.now.Add(10 * time.Second)
		b.seal()
	}
	stats := b.store.Stats()
	if stats.Bytes > retention || stats.Bytes < retention/2 || stats.Segments < 2 {
		t.Errorf("%d bytes in %d segments, want about %d in several", stats.Bytes, stats.Segments, retention)
	}
	if got := b.paths(trace(0).String()); len(got) != 0 {
		t.Errorf("the oldest record is still found")
	}
	files, _ := filepath.Glob(filepath.Join(b.dir, "*"))
	logs, _ := filepath.Glob(filepath.Join(b.dir, "*.log"))
	if len(files) != 2*len(logs)+2*stats.Segments || len(logs) > 5 {
		t.Errorf("%d files of which %d logs on disk, want a log and a checkpoint for each of about four, and %d segments with their index", len(files), len(logs), stats.Segments)
	}
	for range 2 {
		b.reopen()
		if got := b.requests(); got != 100 {
			t.Errorf("requests = %d after a restart, want 100", got)
		}
		if got := b.store.Stats(); got.Records != stats.Records || got.Oldest != stats.Oldest || got.Bytes != stats.Bytes {
			t.Errorf("stats = %+v after a restart, want %+v", got, stats)
		}
	}
}

func TestReadersAndTheWriterDoNotDisturbEachOther(t *testing.T) {
	b := newBench(t, Options{FileBytes: 400, RetentionBytes: 60 << 10, LogHorizon: 1})
	b.append(hop(0, "/"))
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					b.find(trace(7).String())
					b.search(10)
					b.store.Stats()
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	readers.Go(func() {
		for ctx.Err() == nil {
			b.store.sealAll(ctx)
			b.store.tidy()
		}
	})
	for i := range byte(200) {
		b.append(hop(i, "/"))
		if err := b.store.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	cancel()
	readers.Wait()
	if b.store.Stats().Sealed == 0 {
		t.Error("nothing was sealed meanwhile")
	}
	if n := b.store.Stats().Corruptions; n != 0 {
		t.Errorf("%d corruptions, want none: a file dropped under a reader is no damage\n%s", n, b.log)
	}
}

func TestAClosedStoreRefusesAndFindsNothing(t *testing.T) {
	b := newBench(t, Options{})
	b.append(hop(1, "/"))
	s := b.store
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(&telemetryv1.Batch{}, &record.Columns{}); err == nil {
		t.Error("a closed store takes a batch")
	}
	if err := s.Sync(); err == nil {
		t.Error("a closed store syncs")
	}
	if got := b.find(trace(1).String()); got != nil {
		t.Errorf("a closed store finds %v", got)
	}
	if err := s.Close(); err != nil {
		t.Errorf("the second close: %v", err)
	}
}

func TestAnOversizedBatchIsRefusedAndHarmsNothing(t *testing.T) {
	b := newBench(t, Options{})
	b.append(hop(1, "/"))
	huge := &telemetryv1.Batch{Sender: "a", Epoch: 1, Sequence: 2, Records: make([]byte, MaxFrame)}
	if err := b.store.Append(huge, &record.Columns{}); err == nil {
		t.Error("a batch above MaxFrame is taken")
	}
	b.append(hop(2, "/"))
	b.reopen()
	if !slices.Equal(b.replayed, []uint64{1, 2}) {
		t.Errorf("replayed %v, want the two others", b.replayed)
	}
}
