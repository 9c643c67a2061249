package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
)

func TestSmallSegmentsAreMerged(t *testing.T) {
	b := newBench(t, Options{FileBytes: 200, LogHorizon: time.Minute})
	const n = 40
	for i := range byte(n) {
		b.append(hop(i, fmt.Sprint("/", i)))
		b.now = b.now.Add(time.Hour)
		b.seal()
	}
	check := func(when string) {
		t.Helper()
		st := b.store.Stats()
		if st.Segments >= 2*mergeCount || st.Records != n || st.Corruptions != 0 {
			t.Errorf("%s: %+v, want %d records in few segments", when, st, n)
		}
		if files := b.glob("*.parquet"); len(files) != st.Segments {
			t.Errorf("%s: files %v of %d segments", when, files, st.Segments)
		}
		for i := range byte(n) {
			if got := b.paths(trace(i).String()); len(got) != 1 {
				t.Errorf("%s: found %v of %d, want it once", when, got, i)
			}
		}
	}
	check("merged")
	b.reopen()
	check("after a restart")
}

func TestACrashBetweenAMergeAndItsInputsLeavesOne(t *testing.T) {
	b := newBench(t, Options{FileBytes: 200, LogHorizon: time.Minute})
	for i := range byte(mergeCount + 1) {
		b.append(hop(i, "/"))
	}
	b.now = b.now.Add(time.Hour)
	b.store.sealAll(t.Context())
	kept := make(map[string][]byte) // the inputs, as a crash leaves them
	for _, name := range b.glob("*.parquet*") {
		content, err := os.ReadFile(filepath.Join(b.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		kept[name] = content
	}
	b.seal()
	if n := b.store.Stats().Segments; n != 1 {
		t.Fatalf("%d segments, want one", n)
	}
	for name, content := range kept {
		b.write(name, string(content))
	}
	b.reopen()
	if st := b.store.Stats(); st.Segments != 1 || st.Records != mergeCount+1 || len(b.glob("*.parquet")) != 1 {
		t.Errorf("%+v, files %v; want the merged one alone", st, b.glob("*.parquet"))
	}
}

func TestADamagedSegmentIsNotMerged(t *testing.T) {
	b := newBench(t, Options{FileBytes: 200, LogHorizon: time.Minute})
	for i := range byte(mergeCount + 1) {
		b.append(hop(i, "/"))
	}
	b.now = b.now.Add(time.Hour)
	b.store.sealAll(t.Context())
	path := b.store.segmentPath(3, 3)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[100] ^= 1
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	b.seal()
	if st := b.store.Stats(); st.Segments != mergeCount || !strings.Contains(b.log.String(), "it would lose records") {
		t.Errorf("%+v, want the segments as they were, and told\n%s", st, b.log)
	}
	b.seal() // and not again and again
	if n := strings.Count(b.log.String(), "segments are not merged"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
}

func TestFailedRequestsAreKeptLonger(t *testing.T) {
	b := newBench(t, Options{FileBytes: 200, LogHorizon: time.Minute, RetentionAge: time.Hour, KeepFailed: 24 * time.Hour, Slow: time.Second})
	one := func(n byte, path string, code uint32, took time.Duration) record.Record {
		r := hop(n, path)
		r.Start, r.Code, r.Duration = b.now, code, took
		return r
	}
	b.append(one(1, "/good", 200, time.Millisecond), one(2, "/fails", 200, time.Millisecond), one(2, "/fails/below", 503, time.Millisecond), one(3, "/slow", 200, 2*time.Second))
	b.append(one(4, "/next", 200, time.Millisecond), one(5, "/file", 200, time.Millisecond), one(6, "/to", 200, time.Millisecond), one(7, "/fill", 200, time.Millisecond))
	b.append(one(8, "/open", 200, 0))
	paths := func(n byte) string { return strings.Join(b.paths(trace(n).String()), " ") }
	b.seal()
	if st := b.store.Stats(); st.Segments == 0 || paths(1) != "/good" {
		t.Fatalf("%+v, %q: want all of it while it is young", st, paths(1))
	}
	b.now = b.now.Add(2 * time.Hour)
	b.seal() // drops the logs
	b.seal()
	check := func(when string) {
		t.Helper()
		if paths(1) != "" || paths(2) != "/fails /fails/below" || paths(3) != "/slow" {
			t.Errorf("%s: %q, %q, %q; want the failed and the slow request whole, and no other", when, paths(1), paths(2), paths(3))
		}
	}
	check("after two hours")
	b.reopen()
	b.seal()
	check("after a restart")
	b.now = b.now.Add(24 * time.Hour)
	b.seal()
	b.seal()
	if paths(2) != "" || paths(3) != "" {
		t.Errorf("%q and %q remain after a day", paths(2), paths(3))
	}
}

func TestAMergeThatFailsIsTriedAgain(t *testing.T) {
	b := newBench(t, Options{FileBytes: 200, LogHorizon: time.Minute})
	for i := range byte(mergeCount + 1) {
		b.append(hop(i, "/"))
	}
	b.store.sealAll(t.Context())
	block := b.store.segmentPath(1, mergeCount) + newSuffix // a folder stands where the file is to be
	if err := os.Mkdir(block, 0o755); err != nil {
		t.Fatal(err)
	}
	b.seal()
	if n := b.store.Stats().Segments; n != mergeCount {
		t.Fatalf("%d segments, want them as they were", n)
	}
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	b.seal()
	if st := b.store.Stats(); st.Segments != 1 || st.Records != mergeCount+1 {
		t.Errorf("%+v, want one segment of all", st)
	}
}

func TestAMergeDoesNotSpanALogThatIsInNoSegment(t *testing.T) {
	b := newBench(t, Options{FileBytes: 200})
	const n = mergeCount + 2
	for i := range byte(n) {
		b.append(hop(i, fmt.Sprint("/", i)))
	}
	b.store.sealAll(t.Context())
	b.write("0000000000000004-0000000000000004.parquet", "no segment")
	b.write("0000000000000004-0000000000000004.parquet.index", "no index")
	b.reopen()
	block := b.store.segmentPath(4, 4) + newSuffix // it cannot be sealed anew yet
	if err := os.Mkdir(block, 0o755); err != nil {
		t.Fatal(err)
	}
	b.store.sealAll(t.Context())
	b.store.mergeSmall(t.Context())
	if err := os.Remove(block); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	b.seal()
	for i := range byte(n) {
		if got := b.paths(trace(i).String()); len(got) != 1 {
			t.Errorf("found %v of %d, want it once\n%s", got, i, b.log)
		}
	}
}
