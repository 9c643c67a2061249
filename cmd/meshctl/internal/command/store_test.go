package command

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	codec "github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	"github.com/telemesh/telemesh/internal/recordgen"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
	"github.com/telemesh/telemesh/telemetry-hub/store"
)

// newStoreFolder is a store of two segments of at least n records each, and of a
// log with one batch that is not sealed, of which it returns the records.
func newStoreFolder(t testing.TB, n int) (dir string, unsealed int) {
	t.Helper()
	dir = t.TempDir()
	mesh := recordgen.New(recordgen.Options{Seed: 7, Start: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC), Step: time.Millisecond})
	encoder, err := codec.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := codec.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	for number := 1; number <= 2; number++ {
		sealRecords(t, filepath.Join(dir, fmt.Sprintf("%016d-%016d.parquet", number, number)), mesh, n, encoder, decoder)
	}
	s, err := store.Open(store.Options{
		Dir: dir, RetentionBytes: 1 << 30, Checkpoint: func() []*telemetryv1.Batch { return nil }, Logger: slog.New(slog.DiscardHandler),
	}, func(*telemetryv1.Batch) {}, func(*telemetryv1.Batch) {})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		mesh.Request()
	}
	for _, sender := range mesh.Senders {
		b := sender.Batch(encoder, mesh.Now())
		columns, err := decoder.Decode(b.GetRecords(), int(b.GetRecordCount()))
		if err != nil {
			t.Fatal(err)
		}
		unsealed += columns.Rows()
		if err := s.Append(b, columns); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, unsealed
}

func sealRecords(t testing.TB, path string, mesh *recordgen.Mesh, n int, encoder *codec.Encoder, decoder *codec.Decoder) {
	t.Helper()
	b, err := segment.NewBuilder(path, segment.BuilderOptions{Writer: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for made := 0; made < n; {
		for range 1000 {
			_, records := mesh.Request()
			made += records
		}
		for _, sender := range mesh.Senders {
			batch := sender.Batch(encoder, mesh.Now())
			columns, err := decoder.Decode(batch.GetRecords(), int(batch.GetRecordCount()))
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Add(columns, batch.GetEdges(), batch.GetSender()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := b.Seal(); err != nil {
		t.Fatal(err)
	}
}

func firstSegment(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("%016d-%016d.parquet", 1, 1))
}

// flip changes one bit of a file.
func flip(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestStoreStatsAddsUp(t *testing.T) {
	dir, unsealed := newStoreFolder(t, 10_000)
	var stats storeStats
	got := (&world{}).run(t, "store", "stats", dir, "-o", "json")
	if err := json.Unmarshal([]byte(got.out), &stats); err != nil {
		t.Fatalf("%v: %s%s", err, got.out, got.errors)
	}
	rows, errors := uint64(0), uint64(0)
	for _, s := range stats.Services {
		rows, errors = rows+s.Rows, errors+s.Errors
		if s.Rows != s.SourceRows+s.DestinationRows || s.SourceRows != s.DestinationRows {
			t.Errorf("%+v: each hop has two rows", s)
		}
	}
	if stats.Segments != 2 || stats.Records < 20_000 || rows != uint64(stats.Records) || errors == 0 || stats.Logs.OnlyInLog != uint64(unsealed) {
		t.Errorf("%d rows of services, %d errors, %d unsealed: %+v", rows, errors, unsealed, stats)
	}
	text := (&world{}).run(t, "store", "stats", dir)
	for _, want := range []string{
		fmt.Sprintf("2 segments: %d records in", stats.Records), "bytes a record", "from 2026-11-21 10:00:00",
		fmt.Sprintf(": %d records in it are not sealed yet", unsealed), "productpage", "span the longest time",
	} {
		if !strings.Contains(text.out, want) {
			t.Errorf("%q is missing in\n%s", want, text.out)
		}
	}
	if got := (&world{}).run(t, "store", "stats", filepath.Dir(dir)); got.code != CodeFailure || !strings.Contains(got.errors, "no records in") {
		t.Errorf("a folder without a store: exit code %d, %s", got.code, got.errors)
	}
}

func TestStoreStatsReadsWell(t *testing.T) {
	first := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	last := first.Add(90 * time.Second)
	for _, tc := range []struct {
		stats storeStats
		want  string
	}{
		{storeStats{}, "No segments yet.\nNo logs.\n"},
		{storeStats{Logs: logStats{Files: 1, Bytes: 900, Unsealed: 1, OnlyInLog: 1}}, "No segments yet.\n1 log, 900B: 1 record in it is not sealed yet and not counted here.\n"},
		{storeStats{Segments: 1, Records: 1, Bytes: 40, BytesPerRecord: 40, First: &first, Last: &first, Logs: logStats{Files: 1, Bytes: 900}},
			"1 segment: 1 record in 40B with its index, 40.0 bytes a record.\nRequests began from 2026-11-21 10:00:00 to 2026-11-21 10:00:00 UTC, within 0s.\n1 log, 900B: all its records are sealed.\n"},
		{storeStats{Segments: 2, Records: 20, Bytes: 810, BytesPerRecord: 40.5, First: &first, Last: &last, Logs: logStats{Files: 3, Bytes: 900, Unsealed: 2, OnlyInLog: 7}},
			"2 segments: 20 records in 810B with their indexes, 40.5 bytes a record.\nRequests began from 2026-11-21 10:00:00 to 2026-11-21 10:01:30 UTC, within 1m30s.\n3 logs, 900B: 7 records in 2 of them are not sealed yet and not counted here.\n"},
		{storeStats{Logs: logStats{Files: 2, Bytes: 900, Unsealed: 2, OnlyInLog: 7}}, "No segments yet.\n2 logs, 900B: 7 records in them are not sealed yet and not counted here.\n"},
		{storeStats{Logs: logStats{Files: 2, Bytes: 900}}, "No segments yet.\n2 logs, 900B: all their records are sealed.\n"},
	} {
		var b strings.Builder
		if err := writeStoreStats(&b, &tc.stats, render.Style{}); err != nil || b.String() != tc.want {
			t.Errorf("%v, got\n%swant\n%s", err, &b, tc.want)
		}
	}
}

func TestStoreVerifyNamesDamage(t *testing.T) {
	last := fmt.Sprintf("%016d.log", 3)
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		says   []string
	}{
		{"a column", func(t *testing.T, dir string) { flip(t, firstSegment(dir), 60) }, []string{"row group 0, column start", "queries that need this column"}},
		{"the footer", func(t *testing.T, dir string) { flip(t, firstSegment(dir), -200) }, []string{"footer: ", "checksum of the footer", "DuckDB and others may refuse"}},
		{"the aggregates", func(t *testing.T, dir string) { flip(t, segment.IndexPath(firstSegment(dir)), -1) }, []string{"index: ", "--reindex"}},
		{"the index's header", func(t *testing.T, dir string) { flip(t, segment.IndexPath(firstSegment(dir)), 20) }, []string{"index: ", "--reindex"}},
		{"no index", func(t *testing.T, dir string) { _ = os.Remove(segment.IndexPath(firstSegment(dir))) }, []string{"index: ", "--reindex"}},
		{"a frame", func(t *testing.T, dir string) { flip(t, filepath.Join(dir, last), 40) }, []string{last, "bytes 0 to", "checksum", "batches that stood there are lost"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, _ := newStoreFolder(t, 8000)
			for _, mode := range []string{"--quick=false", "--quick"} {
				if got := (&world{}).run(t, "store", "verify", mode, dir); got.code != 0 || !strings.Contains(got.out, "no damage") {
					t.Fatalf("%s, undamaged: exit code %d, %s%s", mode, got.code, got.out, got.errors)
				}
			}
			tc.damage(t, dir)
			for _, mode := range []string{"--quick=false", "--quick"} {
				got := (&world{}).run(t, "store", "verify", mode, dir)
				if got.code != CodeProblems || !strings.Contains(got.out, "1 place of damage") {
					t.Errorf("%s: exit code %d, %s%s", mode, got.code, got.out, got.errors)
				}
				for _, want := range tc.says {
					if !strings.Contains(got.out, want) {
						t.Errorf("%s: %q is missing in\n%s", mode, want, got.out)
					}
				}
			}
			if strings.Contains(strings.Join(tc.says, ""), "--reindex") {
				got := (&world{}).run(t, "store", "verify", "--reindex", dir)
				if got.code != 0 || !strings.Contains(got.out, "has a new index") {
					t.Errorf("reindex: exit code %d, %s%s", got.code, got.out, got.errors)
				}
			}
		})
	}
}

func TestStoreVerifyPassesOverATornTail(t *testing.T) {
	dir, _ := newStoreFolder(t, 8000)
	path := filepath.Join(dir, fmt.Sprintf("%016d.log", 3))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-5); err != nil {
		t.Fatal(err)
	}
	got := (&world{}).run(t, "store", "verify", dir)
	if got.code != 0 || !strings.Contains(got.errors, "ends in mid-write") {
		t.Errorf("exit code %d, %s%s", got.code, got.out, got.errors)
	}
}
