package bucket

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/internal/s3server"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

func TestALookUpIsOneReadWhenColdAndNoneAfterwards(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		cacheDir := t.TempDir()
		shared := func(o *Options) { o.CacheDir = cacheDir }
		m := upload(t, p.hub(t, "hub-1"), oneLog("hub-1", 1), testStart, 0, 50_000)
		b := p.hub(t, "hub-2", shared)
		var s *segment.Segment
		step := func(name string, want int64, do func()) {
			t.Helper()
			before := b.Stats()
			if p.gate != nil {
				p.gate.take()
			}
			do()
			if got := b.Stats().Gets - before.Gets; got != want {
				t.Errorf("%s: %d reads of the bucket, want %d", name, got, want)
			}
			if p.gate == nil {
				return
			}
			if all, ranges := p.gate.take(); int64(all) != want || name != "open" && int64(ranges) != want {
				t.Errorf("%s: %d requests, %d of them for a range; want %d", name, all, ranges, want)
			}
		}
		step("open", 1, func() { s = mustOpen(t, b, m) })
		step("cold", 1, func() { mustFind(t, s, 20_000) })
		step("warm", 0, func() { mustFind(t, s, 20_000) })
		step("nothing there", 0, func() {
			if found, err := s.Find(t.Context(), traceID(1e6).String(), 10); len(found) > 0 || err != nil {
				t.Error(found, err)
			}
		})
		step("opened again", 0, func() { s = mustOpen(t, b, m) })
		var trace string
		scan := func(c segment.Column) {
			n := 0
			err := s.Scan(t.Context(), segment.Query{Columns: []segment.Column{c}}, func(r *segment.Rows) bool {
				if n++; c == segment.TraceID {
					trace = ids.TraceID(r.TraceID(0)).String()
				}
				return false
			})
			if err != nil || n != 1 {
				t.Error(n, err)
			}
		}
		step("a column of a row group", 1, func() { scan(segment.TraceID) })
		step("the rest of it", 1, func() {
			if found, err := s.Find(t.Context(), trace, 10); len(found) != 2 || err != nil {
				t.Error(found, err)
			}
		})
		step("another column of what is there", 0, func() { scan(segment.Code) })
		b = p.hub(t, "hub-2", shared) // a restart
		step("open after a restart", 0, func() { s = mustOpen(t, b, m) })
		step("find after a restart", 0, func() { mustFind(t, s, 20_000) })
	})
}

func TestLookUpsAtOnceReadOnce(t *testing.T) {
	p := folderPlace(t)
	m := upload(t, p.hub(t, "hub-1"), oneLog("hub-1", 1), testStart, 0, 1000)
	p.alter = func(f *fault) {
		f.before = func(op, _ string) error {
			if op == "range" {
				time.Sleep(20 * time.Millisecond) // so that they meet; fewer may, and the test still holds
			}
			return nil
		}
	}
	b := p.hub(t, "hub-2")
	s := mustOpen(t, b, m)
	before := b.Stats().Gets
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { mustFind(t, s, i) })
	}
	wg.Wait()
	if got := b.Stats().Gets - before; got != 1 {
		t.Errorf("%d reads for one row group", got)
	}
}

// TestTheFirstToGiveUpTakesNobodyAlong cancels the read that another waits for.
func TestTheFirstToGiveUpTakesNobodyAlong(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c, _ := newCache(t, dir, 1000)
		s, _ := part(0, false)
		goOn := make(chan error)
		for _, reason := range []error{context.Canceled, context.DeadlineExceeded, errCrash, nil} {
			go func() {
				if ran, err := c.once(t.Context(), s, func() error { return <-goOn }); !ran || !errors.Is(err, reason) {
					t.Errorf("who reads: %v, %v", ran, err)
				}
			}()
			synctest.Wait()
			go func() {
				ran, err := c.once(t.Context(), s, func() error { return nil })
				if want := reason == errCrash; ran || (err != nil) != want {
					t.Errorf("who waits for %v: %v, %v", reason, ran, err)
				}
			}()
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				if ran, err := c.once(ctx, s, func() error { return nil }); ran || !errors.Is(err, context.Canceled) {
					t.Errorf("who gives up waiting: %v, %v", ran, err)
				}
			}()
			synctest.Wait()
			cancel()
			synctest.Wait()
			goOn <- reason
			synctest.Wait()
		}
	})
}

func TestReadsAreBounded(t *testing.T) {
	p := folderPlace(t)
	m := upload(t, p.hub(t, "hub-1"), oneLog("hub-1", 1), testStart, 0, 80_000) // ten row groups
	var now, most atomic.Int32
	p.alter = func(f *fault) {
		f.before = func(op, _ string) error {
			n := now.Add(1)
			defer now.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(5 * time.Millisecond) // so that they meet
			return nil
		}
	}
	s := mustOpen(t, p.hub(t, "hub-2", func(o *Options) { o.Reads = 3 }), m)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() { mustFind(t, s, i*1000) })
	}
	wg.Wait()
	if n := most.Load(); n > 3 {
		t.Errorf("%d reads at once, want at most 3", n)
	}
}

func TestDamagedObjectsAreNamedAndNotKept(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		m := upload(t, p.hub(t, "hub-1"), oneLog("hub-1", 1), testStart, 0, 1000)
		b := p.hub(t, "hub-2")
		s := mustOpen(t, b, m)
		p.damage(t, m.Records.Name, 2000)
		_, err := s.Find(t.Context(), traceID(1).String(), 10)
		if !errors.Is(err, segment.ErrCorrupt) || !strings.Contains(err.Error(), m.Name()) || !strings.Contains(err.Error(), "column") {
			t.Errorf("records: %v", err)
		}
		if b.Stats().Damaged == 0 {
			t.Error("damage is not counted")
		}
		p.damage(t, m.Records.Name, 2000) // repaired
		mustFind(t, s, 1)

		p.damage(t, m.Index.Name, 100)
		_, err = p.hub(t, "hub-3").Open(t.Context(), m)
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), m.Index.Name) || !strings.Contains(err.Error(), "Reindex") {
			t.Errorf("index: %v", err)
		}

		other := upload(t, p.hub(t, "hub-1"), oneLog("hub-1", 2), testStart, 0, 100)
		p.damage(t, m.name().meta(), 0)
		listed, err := b.List(t.Context(), time.Time{}, time.Time{})
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), m.name().meta()) || len(listed) != 1 || listed[0] != other {
			t.Errorf("meta: %v, listed %v", err, listed)
		}
	})
}

// TestBytesChangedOnTheWayAreReadAgain changes what comes, once.
func TestBytesChangedOnTheWayAreReadAgain(t *testing.T) {
	p := folderPlace(t)
	m := upload(t, p.hub(t, "hub-1"), oneLog("hub-1", 1), testStart, 0, 1000)
	var reads int
	p.alter = func(f *fault) {
		f.before = func(op, _ string) error {
			if op == "range" {
				if reads++; reads < 3 {
					p.damage(t, m.Records.Name, 2000) // and back
				}
			}
			return nil
		}
	}
	b := p.hub(t, "hub-2")
	mustFind(t, mustOpen(t, b, m), 1)
	if s := b.Stats(); s.Damaged != 1 || reads != 2 {
		t.Errorf("%d damaged, %d reads", s.Damaged, reads)
	}
}

func TestAVanishedObjectIsNamed(t *testing.T) {
	eachStore(t, func(t *testing.T, p *place) {
		m := upload(t, p.hub(t, "hub-1"), oneLog("hub-1", 1), testStart, 0, 1000)
		b := p.hub(t, "hub-2")
		s := mustOpen(t, b, m)
		p.delete(t, m.Records.Name)
		if _, err := s.Find(t.Context(), traceID(1).String(), 10); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), m.Records.Name) {
			t.Errorf("records: %v", err)
		}
		if st := b.Stats(); st.Retries != 0 {
			t.Errorf("%d retries of what is gone", st.Retries)
		}
		p.delete(t, m.Index.Name)
		if _, err := p.hub(t, "hub-3").Open(t.Context(), m); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), m.Index.Name) {
			t.Errorf("index: %v", err)
		}
		p.delete(t, m.name().meta())
		if listed, err := b.List(t.Context(), time.Time{}, time.Time{}); len(listed) != 0 || err != nil {
			t.Errorf("meta: %v %v", listed, err)
		}
	})
}

// TestAServerThatFails is about a real S3 client and server with a gate between.
func TestAServerThatFails(t *testing.T) {
	p := s3Place(t)
	m := upload(t, p.hub(t, "hub-1"), oneLog("hub-1", 1), testStart, 0, 1000)
	b := p.hub(t, "hub-2")
	patient := b.o.AttemptTimeout
	s := mustOpen(t, b, m)
	find := func() error {
		_, err := s.Find(t.Context(), traceID(1).String(), 10)
		return err
	}
	refuse := func(status int) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return true }
	}
	hang := func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
	for _, c := range []struct {
		name     string
		answer   func(http.ResponseWriter, *http.Request) bool
		requests int
		want     []string
	}{
		{"503", refuse(503), 4, []string{m.Records.Name, "it answered 503", "4 attempts"}},
		{"403", refuse(403), 1, []string{m.Records.Name, "check the credentials"}},
		{"hangs", hang, 4, []string{m.Records.Name, "no answer within 200ms"}},
	} {
		if b.o.AttemptTimeout = patient; c.name == "hangs" { // a short one elsewhere would fail on a busy machine
			b.o.AttemptTimeout = 200 * time.Millisecond
		}
		p.gate.set(c.answer)
		p.gate.take()
		err := find()
		if err == nil {
			t.Fatalf("%s: found", c.name)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", c.name, err, want)
			}
		}
		if all, _ := p.gate.take(); all != c.requests && c.name != "hangs" {
			t.Errorf("%s: %d requests, want %d", c.name, all, c.requests)
		}
	}
	b.o.AttemptTimeout = patient

	p.gate.set(hang)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { _, err := s.Find(ctx, traceID(1).String(), 10); ended <- err }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}

	// Twice 503, then an answer.
	var left atomic.Int32
	left.Store(2)
	p.gate.set(func(w http.ResponseWriter, _ *http.Request) bool {
		if left.Add(-1) < 0 {
			return false
		}
		w.WriteHeader(503)
		return true
	})
	before := b.Stats()
	if err := find(); err != nil {
		t.Error(err)
	}
	if got := b.Stats().Retries - before.Retries; got != 2 {
		t.Errorf("%d retries, want 2", got)
	}

	// An upload too.
	left.Store(3)
	upload(t, b, oneLog("hub-2", 1), testStart, 0, 100)
}

// TestABucketThatIsNotThere names what to do.
func TestABucketThatIsNotThere(t *testing.T) {
	p := s3Place(t)
	p.config = strings.Replace(p.config, "bucket: records", "bucket: nowhere", 1)
	b := p.hub(t, "hub-1")
	_, err := b.List(t.Context(), time.Time{}, time.Time{})
	if err == nil || !strings.Contains(err.Error(), "create the bucket") || b.Stats().Retries > 0 {
		t.Errorf("%v after %d retries", err, b.Stats().Retries)
	}
	p.config = strings.Replace(p.config, s3server.Secret, "wrong", 1)
	if _, err := p.hub(t, "hub-1").List(t.Context(), time.Time{}, time.Time{}); err == nil || !strings.Contains(err.Error(), "check the credentials") {
		t.Error(err)
	}
}

func TestAnIndexThatTheCacheGaveUpIsReadAgain(t *testing.T) {
	p := folderPlace(t)
	m := upload(t, p.hub(t, "hub-1"), oneLog("hub-1", 1), testStart, 0, 1000)
	b := p.hub(t, "hub-2")
	s := mustOpen(t, b, m)
	b.cache.dropObject(m.Index.Name)
	before := b.Stats().Gets
	mustFind(t, s, 1)
	if got := b.Stats().Gets - before; got != 2 {
		t.Errorf("%d reads, want the index and a row group", got)
	}
	p.delete(t, m.Index.Name)
	b.cache.dropObject(m.Index.Name)
	if _, err := s.Find(t.Context(), traceID(1).String(), 10); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestOpenNamesWhatIsWrongInTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	good := "type: FILESYSTEM\nconfig: {directory: /nowhere}"
	for _, c := range []struct{ config, hub, cache, want string }{
		{"", "h", dir, "type is missing"},
		{"type: GCS", "h", dir, "use FILESYSTEM, or S3"},
		{"type: S3\nkonfig: {}", "h", dir, "konfig"},
		{"type: S3\nconfig: {endpoint: x}", "h", dir, "bucket is missing"},
		{"type: S3\nconfig: {bucket: x}", "h", dir, "endpoint"},
		{"type: S3\nconfig: {bucket: x, endpoint: y, acess_key: z}", "h", dir, "acess_key"},
		{"type: FILESYSTEM", "h", dir, "directory is missing"},
		{"type: FILESYSTEM\nconfig: {directory: /nowhere, dir: 1}", "h", dir, "dir"},
		{good, "", dir, "hub"},
		{good, "..", dir, "hub"},
		{good, "h", "", "folder for the cache"},
		{good, "h", file, "cache"},
	} {
		b, err := Open([]byte(c.config), Options{Hub: c.hub, CacheDir: c.cache})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v does not say %q", c.config, err, c.want)
		}
		if b != nil {
			b.Close()
		}
	}
}
