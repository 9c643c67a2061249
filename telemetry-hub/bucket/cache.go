package bucket

import (
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A file of the cache is what was read, a magic and the CRC-32C of both. Its
// name is KIND-OBJECT-OFFSET-LENGTH: i for an index, d for a part of records,
// and the start of the SHA-256 of the object's name. Its time is that of the
// last use, to touchEvery.
const (
	cacheMagic   = "TMC1"
	trailerBytes = 8
	newSuffix    = ".new"
	touchEvery   = time.Minute
)

// span is a part of an object.
type span struct {
	object         string // hash of its name
	offset, length int64
	index          bool // an index, whole
}

func indexSpan(o Object) span { return span{objectHash(o.Name), 0, o.Bytes, true} }

func objectHash(name string) string {
	h := sha256.Sum256([]byte(name))
	return hex.EncodeToString(h[:16])
}

func (s span) file() string {
	kind := "d"
	if s.index {
		kind = "i"
	}
	return fmt.Sprintf("%s-%s-%d-%d", kind, s.object, s.offset, s.length)
}

func parseSpan(name string) (s span, ok bool) {
	rest, data := strings.CutPrefix(name, "d-")
	if !data {
		rest, s.index = strings.CutPrefix(name, "i-")
	}
	var end string
	n, _ := fmt.Sscanf(strings.ReplaceAll(rest, "-", " "), "%s %d %d%s", &s.object, &s.offset, &s.length, &end)
	return s, n == 3 && s.file() == name && s.offset >= 0 && s.length > 0
}

// cache keeps parts of objects in a folder, the last used ones, up to a number
// of bytes. Indexes go only when no part of records is left: without its index a
// look-up reads the whole index again. It is safe for concurrent use by one
// process.
type cache struct {
	dir   string
	limit int64
	stats *counters

	mu      sync.Mutex // guards the fields below
	entries map[span]*list.Element
	objects map[string][]span // by object, by offset
	recent  [2]list.List      // of *kept, last used first: parts of records, indexes
	bytes   int64
	flights map[span]*flight
}

// kept is a file of the cache.
type kept struct {
	span
	touched time.Time // when the file's time was set last
}

func (k *kept) size() int64 { return k.length + trailerBytes }

// flight is a read of the bucket that others wait for.
type flight struct {
	done chan struct{}
	err  error
}

func openCache(dir string, limit int64, stats *counters) (*cache, error) {
	if dir == "" {
		return nil, errors.New("no folder for the cache: name one on a local disk")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	c := &cache{dir: dir, limit: limit, stats: stats, entries: map[span]*list.Element{}, objects: map[string][]span{}, flights: map[span]*flight{}}
	var found []*kept
	for _, f := range files {
		s, ok := parseSpan(f.Name())
		info, err := f.Info()
		if err != nil {
			continue
		}
		switch {
		case ok && info.Size() == s.length+trailerBytes:
			found = append(found, &kept{s, info.ModTime()})
		case ok || strings.HasSuffix(f.Name(), newSuffix): // a crash's
			if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
				return nil, fmt.Errorf("cache: %w", err)
			}
		}
	}
	slices.SortFunc(found, func(a, b *kept) int { return cmp.Compare(a.touched.UnixNano(), b.touched.UnixNano()) })
	for _, k := range found {
		c.insert(k)
	}
	c.evict()
	return c, nil
}

func (c *cache) path(s span) string { return filepath.Join(c.dir, s.file()) }

func (c *cache) order(s span) *list.List {
	if s.index {
		return &c.recent[1]
	}
	return &c.recent[0]
}

// insert adds a file as the last used; mu is held, or nobody else there.
func (c *cache) insert(k *kept) {
	if c.entries[k.span] != nil {
		return
	}
	c.entries[k.span] = c.order(k.span).PushFront(k)
	list := c.objects[k.object]
	at, _ := slices.BinarySearchFunc(list, k.span, compareSpans)
	c.objects[k.object] = slices.Insert(list, at, k.span)
	c.bytes += k.size()
	c.stats.cached.Store(c.bytes)
}

func compareSpans(a, b span) int {
	return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.length, b.length))
}

// forget removes a file; mu is held.
func (c *cache) forget(s span) {
	e := c.entries[s]
	if e == nil {
		return
	}
	delete(c.entries, s)
	k := c.order(s).Remove(e).(*kept)
	list := slices.DeleteFunc(c.objects[s.object], func(o span) bool { return o == s })
	if c.objects[s.object] = list; len(list) == 0 {
		delete(c.objects, s.object)
	}
	c.bytes -= k.size()
	c.stats.cached.Store(c.bytes)
	if err := os.Remove(c.path(s)); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.stats.failures.Add(1)
	}
}

// evict makes room; mu is held.
func (c *cache) evict() {
	for c.bytes > c.limit {
		e := c.recent[0].Back()
		if e == nil {
			e = c.recent[1].Back()
		}
		c.stats.evictions.Add(1)
		c.forget(e.Value.(*kept).span)
	}
}

// holding finds a file that has the part.
func (c *cache) holding(s span) (span, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := c.objects[s.object]
	at, _ := slices.BinarySearchFunc(spans, s.offset+1, func(o span, offset int64) int { return cmp.Compare(o.offset, offset) })
	for at--; at >= 0; at-- {
		if o := spans[at]; o.offset+o.length >= s.offset+s.length {
			c.use(c.entries[o])
			return o, true
		}
	}
	return span{}, false
}

// use notes that a file is used; mu is held.
func (c *cache) use(e *list.Element) {
	k := e.Value.(*kept)
	c.order(k.span).MoveToFront(e)
	if now := time.Now(); now.Sub(k.touched) > touchEvery {
		k.touched = now
		if os.Chtimes(c.path(k.span), now, now) != nil {
			c.stats.failures.Add(1)
		}
	}
}

// read fills p with the part s, if it is there and undamaged.
func (c *cache) read(s span, p []byte) bool {
	for {
		have, ok := c.holding(s)
		if !ok {
			return false
		}
		if b, ok := c.load(have); ok {
			copy(p, b[s.offset-have.offset:])
			return true
		}
		c.drop(have)
	}
}

// load reads a file and checks it.
func (c *cache) load(s span) ([]byte, bool) {
	b, err := os.ReadFile(c.path(s))
	if errors.Is(err, os.ErrNotExist) {
		return nil, false // evicted meanwhile
	}
	n := s.length
	if err == nil && int64(len(b)) == n+trailerBytes && string(b[n:n+4]) == cacheMagic &&
		crc32.Checksum(b[:n+4], castagnoli) == binary.LittleEndian.Uint32(b[n+4:]) {
		return b[:n], true
	}
	c.stats.failures.Add(1)
	return nil, false
}

// readAt fills p from a file, without a check: an index has its own.
func (c *cache) readAt(s span, p []byte, offset int64) error {
	f, err := os.Open(c.path(s))
	if err != nil {
		return err
	}
	defer f.Close()
	if offset+int64(len(p)) > s.length { // behind it stands the trailer
		p = p[:max(s.length-offset, 0)]
		if _, err := f.ReadAt(p, offset); err != nil {
			return err
		}
		return io.EOF
	}
	_, err = f.ReadAt(p, offset)
	return err
}

// put keeps a part; what cannot be kept is not.
func (c *cache) put(s span, b []byte) error {
	if s.length+trailerBytes > c.limit {
		return fmt.Errorf("cache %s: %d bytes do not fit into %d: give it more", c.dir, s.length, c.limit)
	}
	f, err := os.CreateTemp(c.dir, "*"+newSuffix)
	if err != nil {
		c.stats.failures.Add(1)
		return fmt.Errorf("cache: %w", err)
	}
	sum := crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, []byte(cacheMagic))
	_, err = f.Write(b)
	_, err2 := f.Write(binary.LittleEndian.AppendUint32([]byte(cacheMagic), sum))
	// Not synced: the sum tells what a crash left.
	err = errors.Join(err, err2, f.Close())
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		err = os.Rename(f.Name(), c.path(s))
	}
	if err != nil {
		c.stats.failures.Add(1)
		return fmt.Errorf("cache: %w", errors.Join(err, os.Remove(f.Name())))
	}
	for _, o := range slices.Clone(c.objects[s.object]) {
		if o != s && o.offset >= s.offset && o.offset+o.length <= s.offset+s.length {
			c.forget(o)
		}
	}
	c.insert(&kept{s, time.Now()})
	c.evict()
	return nil
}

func (c *cache) drop(s span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(s)
}

// dropObject removes all parts of an object.
func (c *cache) dropObject(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range slices.Clone(c.objects[objectHash(name)]) {
		c.forget(s)
	}
}

// once runs fetch for a part, unless another call does: then it waits for that
// one, and reports whether it was itself that ran. The error of another is
// returned too, unless it is that of the other's context.
func (c *cache) once(ctx context.Context, s span, fetch func() error) (ran bool, err error) {
	c.mu.Lock()
	f := c.flights[s]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		c.flights[s] = f
		c.mu.Unlock()
		f.err = fetch()
		c.mu.Lock()
		delete(c.flights, s)
		c.mu.Unlock()
		close(f.done)
		return true, f.err
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		if errors.Is(f.err, context.Canceled) || errors.Is(f.err, context.DeadlineExceeded) {
			return false, nil
		}
		return false, f.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// has reports whether the part is a file of the cache.
func (c *cache) has(s span) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries[s] != nil
}

// touch notes that a file is used, if it is there.
func (c *cache) touch(s span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[s]; e != nil {
		c.use(e)
	}
}
