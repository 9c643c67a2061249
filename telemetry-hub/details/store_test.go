package details

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

func open(t *testing.T, dir string, bytes int64) *Store {
	t.Helper()
	s, err := Open(StoreOptions{Dir: dir, Bytes: bytes, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test has closed it, or does not care
	return s
}

func traceOf(n int) (t Trace) {
	t[0], t[1], t[15] = byte(n>>8), byte(n), 1
	return t
}

func detailOf(n int, trigger string) *telemetryv1.Detail {
	t := traceOf(n)
	return &telemetryv1.Detail{
		TraceId: t[:], SpanId: []byte{1, 2, 3, 4, 5, 6, byte(n >> 8), byte(n)}, Reporter: telemetryv1.Reporter_REPORTER_SOURCE, Trigger: trigger,
		Request: &telemetryv1.Head{Line: fmt.Sprint("GET /", n), Fields: []*telemetryv1.HeaderField{{Name: "a", Value: strings.Repeat("b", 300)}}},
	}
}

func (s *Store) add(t *testing.T, details ...*telemetryv1.Detail) {
	t.Helper()
	if err := s.Append("a-1", 1, details); err != nil {
		t.Fatal(err)
	}
}

func TestDetailsOutliveTheHub(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 8<<20)
	s.add(t, detailOf(1, "error"), detailOf(2, "error"))
	s.add(t, detailOf(1, "order")) // the same once more
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 8<<20)
	found := s.Find(traceOf(1))
	if len(found) != 1 || found[0].Sender != "a-1" || found[0].Detail.GetTrigger() != "error" || found[0].Detail.GetRequest().GetLine() != "GET /1" {
		t.Errorf("found %v", found)
	}
	if found := s.Find(traceOf(3)); len(found) != 0 {
		t.Errorf("found %v of a trace without", found)
	}
	s.add(t, detailOf(3, "slow"))
	if found := s.Find(traceOf(3)); len(found) != 1 {
		t.Errorf("found %v behind what was there", found)
	}
}

func TestTheOldestGoWhenThereIsTooMuch(t *testing.T) {
	const bytes, n = 64 << 10, 1000
	dir := t.TempDir()
	s := open(t, dir, bytes)
	for i := range n {
		s.add(t, detailOf(i, "error"))
		if s.Bytes() > bytes {
			t.Fatalf("%d bytes after %d", s.Bytes(), i)
		}
	}
	if len(s.Find(traceOf(0))) != 0 || len(s.Find(traceOf(n-1))) != 1 || len(s.Find(traceOf(n-100))) != 1 {
		t.Error("not the newest are kept")
	}
	onDisk := int64(0)
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		onDisk += info.Size()
	}
	if onDisk != s.Bytes() || len(s.index) > n/2 {
		t.Errorf("%d bytes on disk, %d said; %d traces indexed", onDisk, s.Bytes(), len(s.index))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = open(t, dir, bytes/2); s.Bytes() > bytes/2 || len(s.Find(traceOf(n-1))) != 1 {
		t.Errorf("with half the room: %d bytes", s.Bytes())
	}
}

// A crash leaves a part of the last frame, of any length. What was before it is
// there, and the store goes on.
func TestATornEndIsCut(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 8<<20)
	s.add(t, detailOf(1, "error"))
	whole := s.Bytes()
	s.add(t, detailOf(2, "error"))
	name := s.files[0].f.Name()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for n := whole; n < int64(len(b)); n++ {
		if err := os.WriteFile(name, b[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, 8<<20)
		if s.Bytes() != whole || s.Damages() != 0 || len(s.Find(traceOf(1))) != 1 || len(s.Find(traceOf(2))) != 0 {
			t.Fatalf("cut at %d: %d bytes, %d damages", n, s.Bytes(), s.Damages())
		}
		s.add(t, detailOf(3, "error"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, 8<<20)
		if len(s.Find(traceOf(1))) != 1 || len(s.Find(traceOf(3))) != 1 {
			t.Fatalf("cut at %d and written to: something is lost", n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamageIsCountedAndCostsItsFrame(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 8<<20)
	s.add(t, detailOf(1, "error"))
	first := s.Bytes()
	s.add(t, detailOf(2, "error"))
	s.add(t, detailOf(3, "error"))
	name := s.files[0].f.Name()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[first+100] ^= 0xff
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 8<<20)
	if s.Damages() == 0 || len(s.Find(traceOf(1))) != 1 || len(s.Find(traceOf(2))) != 0 || len(s.Find(traceOf(3))) != 1 {
		t.Errorf("%d damages", s.Damages())
	}
}
