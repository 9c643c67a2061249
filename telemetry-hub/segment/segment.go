package segment

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Range reads parts of a sealed file, wherever it is kept.
type Range interface {
	// ReadRange fills p with what stands from offset on. It may be called
	// concurrently. A file that ends before is an error.
	ReadRange(ctx context.Context, p []byte, offset int64) error
}

// LocalRange reads a file of this machine.
type LocalRange struct{ R io.ReaderAt }

// ReadRange implements Range.
func (l LocalRange) ReadRange(_ context.Context, p []byte, offset int64) error {
	if n, err := l.R.ReadAt(p, offset); n < len(p) {
		if errors.Is(err, io.EOF) { // a local file does not end early for a while
			return fmt.Errorf("%w: it ends before %d", ErrCorrupt, offset+int64(len(p)))
		}
		return fmt.Errorf("read %d bytes at %d: %w", len(p), offset, err)
	}
	return nil
}

// Options of Open.
type Options struct {
	Name    string // of the segment, in errors
	Decoder *Decoder
}

// Segment is an open segment. In memory it has of a million rows about 80 kB of
// page offsets and 3 kB of fences; everything else is read when it is asked
// for. It is safe for concurrent use, and there is nothing to close but what it
// was given.
type Segment struct {
	data    Range
	index   io.ReaderAt
	name    string
	decoder *Decoder

	header   header
	hash     hashes
	version  uint64
	columns  []column
	leaf     [numColumns]int // place of a column in this file, -1 if it has none
	groups   []byte          // the part, read an entry at a time
	fences   []uint64
	services *serviceSets // nil if they say nothing
	damaged  []error
}

// Open opens a segment. The index, of size bytes, is read here as far as it
// stays in memory and later a block at a time, so it should be near: a local
// file, whose pages the kernel keeps as it would those of a mapping, without a
// fault that no error can tell of. Of data nothing is read yet.
//
// An index whose header, schema or page offsets are damaged is of no use and
// an error that wraps ErrCorrupt: Reindex makes a new one from the data. What
// other damage costs is told by Damaged.
func Open(data Range, index io.ReaderAt, size int64, o Options) (*Segment, error) {
	s := &Segment{data: data, index: index, name: o.Name, decoder: o.Decoder}
	if err := s.open(size); err != nil {
		return nil, fmt.Errorf("open segment %s: %w", o.Name, err)
	}
	return s, nil
}

func (s *Segment) open(size int64) error {
	head := make([]byte, min(size, headerFixed+maxParts*partEntry+4))
	if _, err := s.index.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read index: %w", err)
	}
	var err error
	if s.header, err = readHeader(head, size); err != nil {
		return err
	}
	s.hash.seed = s.header.seed
	schema, err := s.part(partSchema)
	if err != nil {
		return err
	}
	var ok bool
	if s.version, s.columns, ok = readSchema(schema); !ok {
		return fmt.Errorf("%w: index: schema", ErrCorrupt)
	}
	s.resolve()
	return s.openParts()
}

// resolve finds today's columns among those of the file. One of another kind
// than today's would be another column.
func (s *Segment) resolve() {
	for c := range s.leaf {
		s.leaf[c] = -1
		for i, have := range s.columns {
			if have == (column{specs[c].name, specs[c].kind}) {
				s.leaf[c] = i
			}
		}
	}
}

func (s *Segment) openParts() error {
	p := s.header.part(partGroups)
	if p.length != int64(s.header.groups)*int64(s.entrySize()) {
		return fmt.Errorf("%w: index: %d bytes for %d row groups", ErrCorrupt, p.length, s.header.groups)
	}
	s.groups = make([]byte, p.length)
	if err := s.readIndex(s.groups, p.offset); err != nil {
		return err
	}
	for i := range s.header.groups {
		if _, err := s.group(i); err != nil {
			s.damaged = append(s.damaged, err)
		}
	}
	fences, err := s.part(partFences)
	if blocks := s.blocks(); err == nil && len(fences) != blocks*8 {
		err = fmt.Errorf("%w: index: %d bytes of fences for %d blocks", ErrCorrupt, len(fences), blocks)
	}
	if err != nil {
		s.damaged = append(s.damaged, err)
		fences = nil
	}
	for ; len(fences) > 0; fences = fences[8:] {
		s.fences = append(s.fences, binary.LittleEndian.Uint64(fences))
	}
	services, err := s.part(partServices)
	if err == nil {
		var ok bool
		if s.services, ok = readServices(services, s.header.groups); !ok {
			err = fmt.Errorf("%w: index: services", ErrCorrupt)
		}
	}
	if err != nil {
		s.damaged = append(s.damaged, err)
	}
	return nil
}

// Damaged lists what Open found damaged and works without: a row group whose
// entry cannot be read is passed over by all functions, without fences or sets
// of services more is read.
func (s *Segment) Damaged() []error { return s.damaged }

// Rows counts the records.
func (s *Segment) Rows() int { return int(s.header.rows) }

// Size is the length of the Parquet file.
func (s *Segment) Size() int64 { return s.header.size }

// readIndex fills p from the index file.
func (s *Segment) readIndex(p []byte, offset int64) error {
	if n, err := s.index.ReadAt(p, offset); n < len(p) {
		return fmt.Errorf("read index at %d: %w", offset, err)
	}
	return nil
}

// part reads a part and checks it.
func (s *Segment) part(kind uint32) ([]byte, error) {
	p := s.header.part(kind)
	b := make([]byte, p.length)
	if err := s.readIndex(b, p.offset); err != nil {
		return nil, err
	}
	if crc32.Checksum(b, castagnoli) != p.sum {
		return nil, fmt.Errorf("%w: index: checksum of the %s", ErrCorrupt, partNames[kind])
	}
	return b, nil
}

func (s *Segment) entrySize() int { return groupFixed + len(s.columns)*chunkEntry + 4 }

// maxRows of a row group that we read; ours have groupRows.
const maxRows = 1 << 20

// group reads the entry of a row group.
func (s *Segment) group(i int) (group, error) {
	n := s.entrySize()
	g, ok := readGroup(s.groups[i*n:(i+1)*n], len(s.columns))
	if !ok || g.rows <= 0 || g.rows > maxRows || g.offset < 0 || g.size() > s.header.size || g.offset > s.header.size-g.size() {
		return g, fmt.Errorf("%w: index: entry of row group %d", ErrCorrupt, i)
	}
	return g, nil
}

// corrupt names a chunk that cannot be read.
func (s *Segment) corrupt(group, leaf int) error {
	column := s.columns[leaf].name
	return &Damage{
		Part: PartColumn, Group: group, Column: column,
		Err: fmt.Errorf("%w: segment %s: row group %d, column %s", ErrCorrupt, s.name, group, column),
	}
}

// groupData is a row group as far as it has been read from the file.
type groupData struct {
	segment *Segment
	number  int
	group
	at    []int64 // offset of each leaf in the file, and the end
	spans []span
	mem   *memory // of spans and pages, until release
}

// release ends the use of the group and of all that was handed out of it but
// texts, IDs and numbers.
func (d *groupData) release() {
	d.segment.decoder.giveBack(d.mem)
	d.mem, d.spans = nil, nil
}

// span is a piece of the file.
type span struct {
	offset int64
	b      []byte
}

func (s *Segment) groupData(number int) (*groupData, error) {
	g, err := s.group(number)
	if err != nil {
		return nil, fmt.Errorf("segment %s: %w", s.name, err)
	}
	d := &groupData{segment: s, number: number, group: g, at: make([]int64, 0, len(g.chunks)+1), mem: s.decoder.borrow()}
	at := g.offset
	for _, c := range g.chunks {
		d.at = append(d.at, at)
		at += int64(c.dictLen) + int64(c.dataLen)
	}
	d.at = append(d.at, at)
	return d, nil
}

// readAll reads the whole row group in one go.
func (d *groupData) readAll(ctx context.Context) error {
	return d.readSpan(ctx, d.at[0], d.at[len(d.at)-1])
}

func (d *groupData) readSpan(ctx context.Context, from, to int64) error {
	b := d.mem.bytes(int(to - from))
	if err := d.segment.data.ReadRange(ctx, b, from); err != nil {
		return fmt.Errorf("segment %s: row group %d: %w", d.segment.name, d.number, err)
	}
	d.spans = append(d.spans, span{from, b})
	return nil
}

// maxGap between two columns is read along rather than asked for apart.
const maxGap = 16 << 10

// read reads the leaves of the columns that are not there yet, neighbours
// together.
func (d *groupData) read(ctx context.Context, columns []Column) error {
	want := make([]bool, len(d.chunks))
	for _, c := range columns {
		if leaf := d.segment.leaf[c]; leaf >= 0 && d.bytes(leaf) == nil {
			want[leaf] = true
		}
	}
	from, to := int64(-1), int64(0)
	for leaf := range d.chunks {
		if !want[leaf] {
			continue
		}
		if from >= 0 && d.at[leaf]-to > maxGap {
			if err := d.readSpan(ctx, from, to); err != nil {
				return err
			}
			from = -1
		}
		if from < 0 {
			from = d.at[leaf]
		}
		to = d.at[leaf+1]
	}
	if from < 0 {
		return nil
	}
	return d.readSpan(ctx, from, to)
}

// bytes of a leaf, nil if they have not been read.
func (d *groupData) bytes(leaf int) []byte {
	from, to := d.at[leaf], d.at[leaf+1]
	for _, s := range d.spans {
		if from >= s.offset && to <= s.offset+int64(len(s.b)) {
			return s.b[from-s.offset : to-s.offset]
		}
	}
	return nil
}

// column opens a column that has been read. One that the file lacks is absent
// and no error.
func (d *groupData) column(c Column) (e encoded, present bool, err error) {
	leaf := d.segment.leaf[c]
	if leaf < 0 {
		return e, false, nil
	}
	e, ok := d.segment.decoder.decode(d.mem, d.bytes(leaf), d.chunks[leaf], d.segment.columns[leaf].kind, d.rows, true)
	if !ok {
		return e, false, d.segment.corrupt(d.number, leaf)
	}
	return e, true, nil
}

// corrupt is the error of a column whose values cannot be read.
func (d *groupData) corrupt(c Column) error {
	return d.segment.corrupt(d.number, d.segment.leaf[c])
}
