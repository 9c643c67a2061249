package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

const (
	// maxWindow is how many rows are sorted together, if nothing less is asked for.
	maxWindow = 1 << 18
	// maxDictBytes of distinct texts end a window early.
	maxDictBytes = 64 << 20
)

// BuilderOptions of a Builder. The zero value is ready.
type BuilderOptions struct {
	// Window is how many rows are sorted together: as many as arrive while the
	// records of one request do. 262,144 if 0, which is also the most.
	Window int
	// Seed of the index's hashes; random if 0.
	Seed uint64
	// Writer names the program and its version in the file.
	Writer string
}

// Builder writes one segment. What it holds in memory is one window of rows
// (about 150 bytes a row and its texts), and of the segment so far: about 9 kB
// of footer for each row group, 8 bytes of index for each trace, each edge
// once, and the aggregates. It is not safe for concurrent use.
type Builder struct {
	path   string
	f      *os.File
	o      BuilderOptions
	window *window
	group  groupEncoder
	footer *footer
	index  *indexBuilder
	err    error // the first, after which nothing is written
}

// NewBuilder begins a segment that Seal will put at path. Until then it is at
// path with ".new" behind it, which is overwritten.
func NewBuilder(path string, o BuilderOptions) (*Builder, error) {
	if o.Window <= 0 || o.Window > maxWindow {
		o.Window = maxWindow
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Writer == "" {
		o.Writer = "telemesh"
	}
	p, err := newPages()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path+newSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	p.out = append(p.out, parquetMagic...)
	return &Builder{
		path: path, f: f, o: o, window: newWindow(), group: groupEncoder{pages: p},
		footer: newFooter(o.Writer), index: newIndexBuilder(o.Seed, schemaVersion, schemaColumns()),
	}, nil
}

// Add takes the records of one batch: c names edges by index, sender is who
// sent it. Neither is changed, and what the builder keeps of them are strings.
// After an error the builder can only be aborted.
func (b *Builder) Add(c *record.Columns, edges []*telemetryv1.Edge, sender string) error {
	if b.err != nil {
		return b.err
	}
	if b.window.rows > 0 && b.window.rows+c.Rows() > maxWindow {
		b.flush()
	}
	b.window.add(c, edges, sender)
	return b.flushFull()
}

// flushFull flushes a window that has its rows, or much text.
func (b *Builder) flushFull() error {
	if b.window.rows >= b.o.Window || b.window.dictBytes() > maxDictBytes {
		b.flush()
	}
	return b.err
}

// addRows takes the selected rows of a row group.
func (b *Builder) addRows(a *absorber, r *Rows) error {
	if b.window.rows > 0 && b.window.rows+len(r.selected) > max(b.o.Window, groupRows) {
		b.flush()
	}
	a.add(b.window, r)
	return b.flushFull()
}

// Rows counts the records added.
func (b *Builder) Rows() int { return int(b.index.rows) + b.window.rows }

// Size is how many bytes of the Parquet file stand; those of the window come on
// top.
func (b *Builder) Size() int64 { return b.group.pages.base }

// flush sorts the window and writes its row groups.
func (b *Builder) flush() {
	rows := b.window.sorted()
	for len(rows) > 0 && b.err == nil {
		n := min(len(rows), groupRows)
		b.writeGroup(rows[:n])
		rows = rows[n:]
	}
	b.window.reset()
}

func (b *Builder) writeGroup(rows []uint64) {
	if len(b.index.groups) == maxGroups {
		b.err = errors.New("segment is full: seal it")
		return
	}
	chunks := b.group.encode(b.window, rows)
	if b.err = b.group.pages.err; b.err != nil {
		return
	}
	g := group{offset: chunks[0].offset, rows: len(rows), chunks: make([]chunk, numColumns)}
	for c := range chunks {
		g.chunks[c] = chunks[c].chunk
	}
	b.footer.add(len(rows), &chunks)
	b.index.add(&b.group.facts, g)
	b.write()
}

// write appends what the encoder has to the file.
func (b *Builder) write() {
	p := b.group.pages
	if _, err := b.f.Write(p.out); err != nil {
		b.err = fmt.Errorf("write segment: %w", err)
		return
	}
	p.base += int64(len(p.out))
	p.out = p.out[:0]
}

// Abort throws the segment away. It may be called at any time; after Seal it
// does nothing.
func (b *Builder) Abort() error {
	if b.f == nil {
		return nil
	}
	err := errors.Join(b.f.Close(), os.Remove(b.f.Name()))
	b.f, b.err = nil, errors.New("segment was aborted or sealed")
	return err
}
