package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/telemesh/telemesh/internal/varint"
)

// The index file; all numbers are little-endian.
//
//	header = magic(8) version(4) parts(4) seed(8) rows(8) size(8) footer(8) sum(4) groups(4)
//	         (kind(4) crc(4) offset(8) length(8))*parts crc(4)
//
// size is that of the Parquet file, footer the offset of its last part, sum that
// part's CRC. All CRCs are CRC-32C. Parts stand without gaps in the order of the
// header; a reader passes over kinds it does not know. The whole is specified in
// the package comment.
const (
	indexMagic   = "TMSEGIDX"
	indexVersion = 1
	headerFixed  = 56
	partEntry    = 24
	maxParts     = 32
)

// Kinds of parts.
const (
	partSchema     = 1
	partGroups     = 2
	partFences     = 3
	partHashes     = 4
	partServices   = 5
	partAggregates = 6
)

var partNames = map[uint32]string{
	partSchema: "schema", partGroups: "row groups", partFences: "fences", partHashes: "hashes", partServices: "services", partAggregates: "aggregates",
}

// The hash part is cut into blocks, each with a CRC of its own, because a
// look-up reads one.
const (
	blockBytes   = 4096
	blockHeader  = 8 // crc(4) entries(4)
	blockEntries = (blockBytes - blockHeader) / 8
)

const (
	groupFixed = 8 + 4 + 4 + 4*8 // offset, rows, flags, statistics
	chunkEntry = 12              // dictionary length, data length and flag, crc
	// flagCompressed stands in the data length of a chunk whose pages are
	// compressed.
	flagCompressed = 1 << 31
	// maxFooter bounds the memory that a damaged length can claim: 4 kB for each
	// of 65,536 row groups.
	maxFooter  = 1 << 28
	flagFailed = 1 // of a group: a request in it failed
)

// column is one leaf of a file.
type column struct {
	name string
	kind kind
}

// group is what the index says about a row group.
type group struct {
	offset int64
	rows   int
	stats  groupStats
	chunks []chunk // by leaf
}

// size is the length of the row group in the file.
func (g *group) size() (n int64) {
	for _, c := range g.chunks {
		n += int64(c.dictLen) + int64(c.dataLen)
	}
	return n
}

// header of an index file.
type header struct {
	version         uint32
	seed, rows      uint64
	size, footer    int64
	footerSum       uint32
	groups          int
	parts           []part
	indexSize, body int64 // of the index file; where its parts begin
}

type part struct {
	kind, sum      uint32
	offset, length int64
}

// indexBuilder collects what the index says while row groups are written, or
// read again.
type indexBuilder struct {
	hashes
	schemaVersion uint64
	columns       []column
	rows          uint64
	groups        []group
	entries       []uint64
	services      *serviceSets
	aggregates    *aggregator
}

func newIndexBuilder(seed uint64, version uint64, columns []column) *indexBuilder {
	return &indexBuilder{hashes: hashes{seed}, schemaVersion: version, columns: columns, services: newServiceSets(), aggregates: newAggregator()}
}

// schemaColumns are the columns of today's files.
func schemaColumns() []column {
	list := make([]column, numColumns)
	for c := range list {
		list[c] = column{specs[c].name, specs[c].kind}
	}
	return list
}

// add takes a row group in; g.stats are taken from f.
func (x *indexBuilder) add(f *groupFacts, g group) {
	g.stats = statsOf(f)
	x.entries = x.appendEntries(x.entries, f, len(x.groups))
	x.services.add(f)
	x.aggregates.add(f)
	x.groups = append(x.groups, g)
	x.rows += uint64(f.rows)
}

// encode writes the index of a Parquet file of size bytes whose footer is tail.
func (x *indexBuilder) encode(size int64, tail []byte) []byte {
	slices.Sort(x.entries)
	x.entries = slices.Compact(x.entries)
	bodies := []struct {
		kind uint32
		body []byte
	}{
		{partSchema, x.encodeSchema()},
		{partGroups, x.encodeGroups()},
		{partFences, x.encodeFences()},
		{partHashes, x.encodeHashes()},
		{partServices, x.encodeServices()},
		{partAggregates, x.aggregates.appendTo(nil)},
	}
	w := writer{[]byte(indexMagic)}
	w.u32(indexVersion)
	w.u32(uint32(len(bodies)))
	w.u64(x.seed)
	w.u64(x.rows)
	w.u64(uint64(size))
	w.u64(uint64(size - int64(len(tail))))
	w.u32(crc32.Checksum(tail, castagnoli))
	w.u32(uint32(len(x.groups)))
	offset := uint64(headerFixed + len(bodies)*partEntry + 4)
	for _, p := range bodies {
		w.u32(p.kind)
		w.u32(crc32.Checksum(p.body, castagnoli))
		w.u64(offset)
		w.u64(uint64(len(p.body)))
		offset += uint64(len(p.body))
	}
	w.u32(crc32.Checksum(w.b, castagnoli))
	for _, p := range bodies {
		w.b = append(w.b, p.body...)
	}
	return w.b
}

func (x *indexBuilder) encodeSchema() []byte {
	var w writer
	w.uvarint(x.schemaVersion)
	w.uvarint(uint64(len(x.columns)))
	for _, c := range x.columns {
		w.text(c.name)
		w.b = append(w.b, byte(c.kind))
	}
	return w.b
}

func (x *indexBuilder) encodeGroups() []byte {
	var w writer
	for i := range x.groups {
		g := &x.groups[i]
		at := len(w.b)
		w.u64(uint64(g.offset))
		w.u32(uint32(g.rows))
		flags := uint32(0)
		if g.stats.anyFailed {
			flags |= flagFailed
		}
		w.u32(flags)
		for _, v := range []int64{g.stats.minStart, g.stats.maxStart, g.stats.maxDuration, g.stats.maxCode} {
			w.u64(uint64(v))
		}
		for _, c := range g.chunks {
			w.u32(c.dictLen)
			length := c.dataLen
			if c.compressed {
				length |= flagCompressed
			}
			w.u32(length)
			w.u32(c.sum)
		}
		w.u32(crc32.Checksum(w.b[at:], castagnoli))
	}
	return w.b
}

// encodeFences writes the first entry of each block of hashes.
func (x *indexBuilder) encodeFences() []byte {
	var w writer
	for i := 0; i < len(x.entries); i += blockEntries {
		w.u64(x.entries[i])
	}
	return w.b
}

func (x *indexBuilder) encodeHashes() []byte {
	b := make([]byte, 0, (len(x.entries)/blockEntries+1)*blockBytes)
	for block := range slices.Chunk(x.entries, blockEntries) {
		at := len(b)
		b = append(b, 0, 0, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(block)))
		for _, e := range block {
			b = binary.LittleEndian.AppendUint64(b, e)
		}
		binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli))
	}
	return b
}

// encodeServices writes uvarint(names) (uvarint(length) bytes)*, then for each
// group three bitmaps of ceil(names/8) bytes. With too many names there are no
// bitmaps, and no names.
func (x *indexBuilder) encodeServices() []byte {
	var w writer
	s := x.services
	if len(s.names) > maxServices {
		w.uvarint(0)
		return w.b
	}
	w.uvarint(uint64(len(s.names)))
	for _, name := range s.names {
		w.text(name)
	}
	width := (len(s.names) + 7) / 8
	for _, sets := range s.groups {
		for _, set := range sets {
			w.b = append(w.b, set...)
			w.b = append(w.b, make([]byte, width-len(set))...)
		}
	}
	return w.b
}

// ErrCorrupt marks bytes that are not what was written.
var ErrCorrupt = errors.New("corrupt segment")

// readHeader reads the fixed part of an index file and its list of parts from
// the file's first bytes.
func readHeader(b []byte, size int64) (header, error) {
	r := varint.Reader{B: b}
	if string(r.Bytes(8)) != indexMagic {
		return header{}, fmt.Errorf("%w: index: no magic", ErrCorrupt)
	}
	h := header{version: r.U32(), indexSize: size}
	n := int(r.U32())
	if r.Bad || n > maxParts {
		return header{}, fmt.Errorf("%w: index: %d parts", ErrCorrupt, n)
	}
	h.body = int64(headerFixed + n*partEntry + 4)
	if h.body > int64(len(b)) || binary.LittleEndian.Uint32(b[h.body-4:]) != crc32.Checksum(b[:h.body-4], castagnoli) {
		return header{}, fmt.Errorf("%w: index: checksum of the header", ErrCorrupt)
	}
	if h.version != indexVersion {
		return header{}, fmt.Errorf("index is of version %d, this program reads %d: use a newer one", h.version, indexVersion)
	}
	h.seed, h.rows, h.size, h.footer = r.U64(), r.U64(), int64(r.U64()), int64(r.U64())
	h.footerSum, h.groups = r.U32(), int(r.U32())
	at := h.body
	for range n {
		p := part{kind: r.U32(), sum: r.U32(), offset: int64(r.U64()), length: int64(r.U64())}
		if p.offset != at || p.length < 0 || p.length > size-at {
			return header{}, fmt.Errorf("%w: index: part %d reaches outside of the file", ErrCorrupt, p.kind)
		}
		at += p.length
		h.parts = append(h.parts, p)
	}
	if h.footer < 0 || h.footer > h.size || h.size-h.footer > maxFooter {
		return header{}, fmt.Errorf("%w: index: a footer from %d to %d", ErrCorrupt, h.footer, h.size)
	}
	if at != size || h.groups > maxGroups {
		return header{}, fmt.Errorf("%w: index: it has %d bytes, its header says %d", ErrCorrupt, size, at)
	}
	return h, nil
}

// part finds a part; a length of 0 if the file has none.
func (h *header) part(kind uint32) part {
	for _, p := range h.parts {
		if p.kind == kind {
			return p
		}
	}
	return part{kind: kind}
}

// readSchema reads the part of that kind.
func readSchema(b []byte) (version uint64, columns []column, ok bool) {
	r := varint.Reader{B: b}
	version = r.Uvarint()
	columns = make([]column, r.Count(2))
	for i := range columns {
		columns[i] = column{name: r.Text(), kind: kind(r.Byte())}
	}
	return version, columns, !r.Bad && len(r.B) == 0
}

// readGroup reads a row group's entry.
func readGroup(b []byte, columns int) (g group, ok bool) {
	end := len(b) - 4
	if end < 0 || binary.LittleEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
		return g, false
	}
	r := varint.Reader{B: b[:end]}
	g.offset, g.rows = int64(r.U64()), int(r.U32())
	g.stats.anyFailed = r.U32()&flagFailed != 0
	for _, v := range []*int64{&g.stats.minStart, &g.stats.maxStart, &g.stats.maxDuration, &g.stats.maxCode} {
		*v = int64(r.U64())
	}
	g.chunks = make([]chunk, columns)
	for i := range g.chunks {
		c := &g.chunks[i]
		c.dictLen, c.dataLen = r.U32(), r.U32()
		c.compressed, c.dataLen = c.dataLen&flagCompressed != 0, c.dataLen&^flagCompressed
		c.sum = r.U32()
	}
	return g, !r.Bad && len(r.B) == 0
}

// readServices reads the part of that kind; nil if it says nothing.
func readServices(b []byte, groups int) (*serviceSets, bool) {
	r := varint.Reader{B: b}
	s := newServiceSets()
	n := r.Count(1)
	for range n {
		s.names = append(s.names, r.Text())
		s.index[s.names[len(s.names)-1]] = len(s.names) - 1
	}
	if n == 0 {
		return nil, !r.Bad && len(r.B) == 0
	}
	width := (n + 7) / 8
	if r.Bad || len(r.B) != groups*numSets*width {
		return nil, false
	}
	s.groups = make([][numSets][]byte, groups)
	for i := range s.groups {
		for j := range s.groups[i] {
			s.groups[i][j] = r.Bytes(uint64(width))
		}
	}
	return s, true
}
