package bucket

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thanos-io/objstore"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/ids"
	"github.com/telemesh/telemesh/internal/s3server"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// place is an object store that hubs of a test share.
type place struct {
	config string
	direct string       // the same, past the gate
	files  string       // the folder in which the objects are files
	gate   *gate        // in front of S3; nil for a folder
	alter  func(*fault) // what the next hubs' stores do wrong
}

// eachStore runs a test on a folder and on a real S3 server.
func eachStore(t *testing.T, test func(t *testing.T, p *place)) {
	t.Run("folder", func(t *testing.T) { test(t, folderPlace(t)) })
	t.Run("s3", func(t *testing.T) { test(t, s3Place(t)) })
}

func folderPlace(t testing.TB) *place {
	dir := t.TempDir()
	return &place{config: fmt.Sprintf("type: FILESYSTEM\nconfig: {directory: %q}\nprefix: mesh\n", dir), files: filepath.Join(dir, "mesh")}
}

// s3Place starts an S3 server on loopback, and a gate in front of it.
func s3Place(t testing.TB) *place {
	t.Helper()
	program, err := filepath.Abs("../../bin/tools/versitygw")
	if err != nil {
		t.Fatal(err)
	}
	server, err := s3server.Start(program, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	g := &gate{}
	target, err := url.Parse("http://" + server.Address)
	if err != nil {
		t.Fatal(err)
	}
	// The signature covers Host, which therefore stays.
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	g.next = &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		Transport: transport,
	}
	front := httptest.NewServer(g)
	t.Cleanup(front.Close)
	return &place{
		config: s3server.Config(strings.TrimPrefix(front.URL, "http://"), "mesh"), direct: s3server.Config(server.Address, "mesh"),
		files: server.Files("mesh"), gate: g,
	}
}

// gate counts requests, and answers some itself.
type gate struct {
	next http.Handler

	mu     sync.Mutex // guards the fields below
	ranges int        // requests for a part of an object
	all    int
	answer func(w http.ResponseWriter, r *http.Request) bool // true if it did
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.all++
	if r.Header.Get("Range") != "" {
		g.ranges++
	}
	answer := g.answer
	g.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	g.next.ServeHTTP(w, r)
}

func (g *gate) set(answer func(http.ResponseWriter, *http.Request) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = answer
}

// take counts since the last take.
func (g *gate) take() (all, ranges int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all, ranges = g.all, g.ranges
	g.all, g.ranges = 0, 0
	return all, ranges
}

// fault stands between bucket and store.
type fault struct {
	objstore.Bucket
	before func(op, name string) error // of each operation; may be nil
	after  func(op, name string) error
	// twice creates objects again, as stores do that know no condition.
	twice bool
}

func (f *fault) run(op, name string, do func() error) error {
	if f.before != nil {
		if err := f.before(op, name); err != nil {
			return err
		}
	}
	err := do()
	if err == nil && f.after != nil {
		err = f.after(op, name)
	}
	return err
}

func (f *fault) Upload(ctx context.Context, name string, r io.Reader, o ...objstore.ObjectUploadOption) error {
	if f.twice {
		attemptOf(ctx).createOnly = false
	}
	return f.run("put", name, func() error { return f.Bucket.Upload(ctx, name, r, o...) })
}

func (f *fault) Delete(ctx context.Context, name string) error {
	return f.run("delete", name, func() error { return f.Bucket.Delete(ctx, name) })
}

func (f *fault) GetRange(ctx context.Context, name string, off, n int64) (r io.ReadCloser, err error) {
	err = f.run("range", name, func() error { r, err = f.Bucket.GetRange(ctx, name, off, n); return err })
	return r, err
}

func (f *fault) Get(ctx context.Context, name string) (r io.ReadCloser, err error) {
	err = f.run("get", name, func() error { r, err = f.Bucket.Get(ctx, name); return err })
	return r, err
}

func (f *fault) IterWithAttributes(ctx context.Context, dir string, yield func(objstore.IterObjectAttributes) error, o ...objstore.IterOption) error {
	return f.run("list", dir, func() error { return f.Bucket.IterWithAttributes(ctx, dir, yield, o...) })
}

// hub opens the place for one hub.
func (p *place) hub(t testing.TB, name string, change ...func(*Options)) *Bucket {
	t.Helper()
	o := Options{Hub: name, CacheDir: filepath.Join(t.TempDir(), "cache"), Backoff: time.Millisecond}
	for _, c := range change {
		c(&o)
	}
	b, err := Open([]byte(p.config), o)
	if err != nil {
		t.Fatal(err)
	}
	if p.alter != nil {
		f := &fault{Bucket: b.store}
		p.alter(f)
		b.store = f
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// objects are the names of all files of the place.
func (p *place) objects(t testing.TB, below string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(p.files, below), func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(p.files, path)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// damage flips a bit in the middle of an object, where it lies.
func (p *place) damage(t testing.TB, object string, at int64) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(p.files, object), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func (p *place) delete(t testing.TB, object string) {
	t.Helper()
	if err := os.Remove(filepath.Join(p.files, object)); err != nil {
		t.Fatal(err)
	}
}

// testStart is when the records of the tests begin: noon, UTC.
var testStart = time.Date(2024, 6, 10, 12, 0, 0, 0, time.UTC)

// traceID of the nth trace.
func traceID(n int) (id ids.TraceID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)*0x9e3779b97f4a7c15)
	id[15] = 1
	return id
}

// seal writes a segment of rows records, two for each trace from first on, the
// first at start and one each millisecond.
func seal(t testing.TB, path string, seed uint64, start time.Time, first, rows int) segment.Summary {
	t.Helper()
	e, err := record.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	d, err := record.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b, err := segment.NewBuilder(path, segment.BuilderOptions{Seed: seed, Writer: fmt.Sprint("test ", seed)})
	if err != nil {
		t.Fatal(err)
	}
	edges := []*telemetryv1.Edge{{Source: &telemetryv1.Identity{Service: "productpage"}, Destination: &telemetryv1.Identity{Service: "reviews"}}}
	random := rand.New(rand.NewPCG(1, 2))
	for at := 0; at < rows; at += 1000 {
		rs := make([]record.Record, min(1000, rows-at))
		for i := range rs {
			rs[i] = record.Record{
				Start: start.Add(time.Duration(at+i) * time.Millisecond), Duration: time.Duration(random.Int64N(1e8)), TraceID: traceID(first + (at+i)/2),
				Protocol: "http", Method: "GET", Path: fmt.Sprintf("/reviews/%d", random.IntN(1000)), Code: 200, BytesOut: uint64(random.IntN(5000)),
			}
			binary.BigEndian.PutUint64(rs[i].SpanID[:], random.Uint64())
		}
		c, err := d.Decode(e.Append(nil, record.BlockOf(rs)), len(rs))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(c, edges, "productpage-1"); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.Seal()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sealed is the path of a new segment.
func sealed(t testing.TB, start time.Time, first, rows int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "1.parquet")
	seal(t, path, 7, start, first, rows)
	return path
}

// oneLog is the log of that number.
func oneLog(hub string, number uint64) Log { return Log{hub, number, number} }

// upload seals and uploads a segment.
func upload(t testing.TB, b *Bucket, log Log, start time.Time, first, rows int) Meta {
	t.Helper()
	m, err := b.Upload(t.Context(), sealed(t, start, first, rows), log)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustOpen(t testing.TB, b *Bucket, m Meta) *segment.Segment {
	t.Helper()
	s, err := b.Open(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mustFind finds the two records of a trace.
func mustFind(t testing.TB, s *segment.Segment, trace int) {
	t.Helper()
	found, err := s.Find(t.Context(), traceID(trace).String(), 100)
	if err != nil || len(found) != 2 {
		t.Errorf("found %d records of trace %d, want 2: %v", len(found), trace, err)
	}
}

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *clock) option(o *Options) { o.Now = c.Now }
