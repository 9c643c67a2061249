package bucket

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newCache(t *testing.T, dir string, limit int64) (*cache, *counters) {
	t.Helper()
	stats := &counters{}
	c, err := openCache(dir, limit, stats)
	if err != nil {
		t.Fatal(err)
	}
	return c, stats
}

// part is a span of ten bytes of the object a, and its bytes.
func part(offset int64, index bool) (span, []byte) {
	return span{objectHash("a"), offset, 10, index}, bytes.Repeat([]byte{byte(offset)}, 10)
}

func keep(t *testing.T, c *cache, offset int64, index bool) span {
	t.Helper()
	s, b := part(offset, index)
	if err := c.put(s, b); err != nil {
		t.Fatal(err)
	}
	return s
}

func wantKept(t *testing.T, c *cache, want string) {
	t.Helper()
	var have strings.Builder
	for _, index := range []bool{false, true} {
		for offset := int64(0); offset < 100; offset += 10 {
			s, b := part(offset, index)
			p := make([]byte, 10)
			if !c.has(s) {
				continue
			}
			if !c.read(s, p) || !bytes.Equal(p, b) {
				t.Errorf("%v reads as %v", s, p)
			}
			have.WriteString(map[bool]string{false: "d", true: "i"}[index] + string(rune('0'+offset/10)) + " ")
		}
	}
	if got := strings.TrimSpace(have.String()); got != want {
		t.Errorf("kept %q, want %q", got, want)
	}
}

func TestCacheKeepsWhatWasUsedLast(t *testing.T) {
	const four = 4 * (10 + trailerBytes)
	dir := t.TempDir()
	c, stats := newCache(t, dir, four)
	for i := range int64(4) {
		keep(t, c, 10*i, false)
	}
	first, b := part(0, false)
	if p := make([]byte, 4); !c.read(span{first.object, 3, 4, false}, p) || !bytes.Equal(p, b[:4]) {
		t.Error("a part of a part is not there:", p)
	}
	keep(t, c, 40, false)
	wantKept(t, c, "d0 d2 d3 d4")
	for i := range int64(3) { // indexes push out records, not one another
		keep(t, c, 50+10*i, true)
	}
	wantKept(t, c, "d4 i5 i6 i7")
	keep(t, c, 80, true)
	wantKept(t, c, "i5 i6 i7 i8")
	keep(t, c, 90, true)
	wantKept(t, c, "i6 i7 i8 i9")
	if stats.evictions.Load() != 6 || stats.cached.Load() != four {
		t.Errorf("%d evictions, %d bytes", stats.evictions.Load(), stats.cached.Load())
	}
	if s := (span{"a", 0, four, false}); c.put(s, make([]byte, four)) == nil {
		t.Error("kept more than fits")
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 4 {
		t.Errorf("%d files, want 4: %v", len(files), err)
	}
}

func TestCacheSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	c, _ := newCache(t, dir, 1000)
	for i := range int64(4) {
		s := keep(t, c, 10*i, false)
		at := time.Now().Add(-time.Duration(i+1) * time.Hour) // the last is the oldest
		if err := os.Chtimes(c.path(s), at, at); err != nil {
			t.Fatal(err)
		}
	}
	torn, _ := part(30, false)
	if err := os.Truncate(c.path(torn), 12); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"1234" + newSuffix, "d-zz", "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, _ = newCache(t, dir, 2*(10+trailerBytes))
	wantKept(t, c, "d0 d1")
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 4 {
		t.Errorf("%v, want what was kept and what is not ours: %v", files, err)
	}
}

func TestCacheDropsWhatIsDamaged(t *testing.T) {
	c, stats := newCache(t, t.TempDir(), 1000)
	s := keep(t, c, 0, false)
	b, err := os.ReadFile(c.path(s))
	if err != nil {
		t.Fatal(err)
	}
	b[5] ^= 1
	if err := os.WriteFile(c.path(s), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if c.read(s, make([]byte, 10)) || c.has(s) || stats.failures.Load() != 1 || stats.cached.Load() != 0 {
		t.Errorf("read, or still there; %d failures, %d bytes", stats.failures.Load(), stats.cached.Load())
	}
	keep(t, c, 0, false)
	if err := os.Remove(c.path(s)); err != nil { // by hand
		t.Fatal(err)
	}
	if c.read(s, make([]byte, 10)) || c.has(s) {
		t.Error("read what is gone")
	}
}

// TestADamagedIndexInTheCacheIsReadAgain does so over a restart, where it is
// checked.
func TestADamagedIndexInTheCacheIsReadAgain(t *testing.T) {
	p := folderPlace(t)
	dir := t.TempDir()
	shared := func(o *Options) { o.CacheDir = dir }
	b := p.hub(t, "hub-1", shared)
	m := upload(t, b, oneLog("hub-1", 1), testStart, 0, 1000)
	mustOpen(t, b, m)
	file := b.cache.path(indexSpan(m.Index))
	x, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	x[len(x)/2] ^= 1
	if err := os.WriteFile(file, x, 0o644); err != nil {
		t.Fatal(err)
	}
	b = p.hub(t, "hub-1", shared)
	mustFind(t, mustOpen(t, b, m), 1)
	if s := b.Stats(); s.Gets != 2 || s.CacheFailures != 1 {
		t.Errorf("%d reads, %d failures", s.Gets, s.CacheFailures)
	}
}

func TestSpansInNames(t *testing.T) {
	for _, s := range []span{{objectHash("x"), 0, 1, true}, {objectHash("y"), 1 << 40, 1 << 30, false}} {
		if got, ok := parseSpan(s.file()); !ok || got != s {
			t.Errorf("%s: %v", s.file(), got)
		}
	}
	for _, name := range []string{"", "d-", "d-a-1-2-3", "x-a-1-2", "d-a--1-2", "d-a-1-0", "d-a-01-2", "i-a-1-2 "} {
		if s, ok := parseSpan(name); ok {
			t.Errorf("%q is %v", name, s)
		}
	}
}
