package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/delta"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pages encodes the pages of one column chunk after another. Its buffers are
// used again. Not safe for concurrent use.
type pages struct {
	out    []byte // the row group so far
	base   int64  // offset of out in the file
	zstd   *zstd.Encoder
	body   []byte
	packed []byte
	levels []byte
	thrift thrift.CompactProtocol
	delta  delta.BinaryPackedEncoding
	err    error // the first
}

func newPages() (*pages, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("create zstd encoder: %w", err)
	}
	return &pages{zstd: z}, nil
}

// chunk is where the pages of one column and row group stand.
type chunk struct {
	dictLen, dataLen uint32 // bytes, with the page headers; dictLen 0 without a dictionary
	compressed       bool
	sum              uint32 // CRC-32C of both pages
}

// chunkMeta is what the footer says of a chunk besides.
type chunkMeta struct {
	chunk
	offset int64
	raw    int64 // bytes uncompressed, with headers
	values int64
	nulls  int64
	low    []byte // statistics, plain encoded; nil if there are none
	high   []byte
}

func (p *pages) begin(compressed bool) (m chunkMeta) {
	m.offset, m.compressed = p.base+int64(len(p.out)), compressed
	return m
}

func (p *pages) end(m *chunkMeta) {
	m.sum = crc32.Checksum(p.out[m.offset-p.base:], castagnoli)
}

// dictionary writes the dictionary page: body is its n values, plain.
func (p *pages) dictionary(m *chunkMeta, n int, body []byte) {
	m.dictLen = p.page(m, format.PageHeader{
		Type:                 format.DictionaryPage,
		DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{NumValues: int32(n), Encoding: format.Plain}),
	}, body)
}

// data writes the data page of n values, nulls included.
func (p *pages) data(m *chunkMeta, n int, encoding format.Encoding, body []byte) {
	m.values = int64(n)
	m.dataLen = p.page(m, format.PageHeader{
		Type: format.DataPage,
		DataPageHeader: thrift.New(format.DataPageHeader{
			NumValues: int32(n), Encoding: encoding,
			DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE,
		}),
	}, body)
}

func (p *pages) page(m *chunkMeta, h format.PageHeader, body []byte) uint32 {
	h.UncompressedPageSize = int32(len(body))
	if m.compressed {
		p.packed = p.zstd.EncodeAll(body, p.packed[:0])
		body = p.packed
	}
	h.CompressedPageSize, h.CRC = int32(len(body)), int32(crc32.ChecksumIEEE(body))
	header, err := thrift.Marshal(&p.thrift, &h)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("encode page header: %w", err)
	}
	p.out = append(append(p.out, header...), body...)
	m.raw += int64(len(header)) + int64(h.UncompressedPageSize)
	return uint32(len(header) + len(body))
}

// longs writes a column of integers.
func (p *pages) longs(v []int64) chunkMeta {
	m := p.begin(false)
	body, err := p.delta.EncodeInt64(p.body[:0], v)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("encode integers: %w", err)
	}
	p.body = body
	p.data(&m, len(v), format.DeltaBinaryPacked, body)
	p.end(&m)
	low, high := v[0], v[0]
	for _, n := range v {
		low, high = min(low, n), max(high, n)
	}
	m.low, m.high = binary.LittleEndian.AppendUint64(nil, uint64(low)), binary.LittleEndian.AppendUint64(nil, uint64(high))
	return m
}

// plain writes a column of fixed width.
func (p *pages) plain(n int, b []byte) chunkMeta {
	m := p.begin(false)
	p.data(&m, n, format.Plain, b)
	p.end(&m)
	return m
}

// bools writes a column of bits.
func (p *pages) bools(v []int64) chunkMeta {
	m := p.begin(true)
	p.body = append(p.body[:0], make([]byte, (len(v)+7)/8)...)
	for i, b := range v {
		p.body[i/8] |= byte(b) << (i % 8)
	}
	p.data(&m, len(v), format.Plain, p.body)
	p.end(&m)
	return m
}

// coded is a dictionary column of one row group.
type coded struct {
	entries int
	dict    []byte // plain encoded
	codes   []int32
	// levels of a column that is not required, else nil. There is a code for
	// each definition level of one.
	repetition, definition []int32
	compressed             bool
}

// dictionaryColumn writes both pages.
func (p *pages) dictionaryColumn(c coded) chunkMeta {
	m := p.begin(c.compressed)
	p.dictionary(&m, c.entries, c.dict)
	p.body = p.body[:0]
	values := len(c.codes)
	if c.repetition != nil {
		p.appendLevels(c.repetition)
	}
	if c.definition != nil {
		values = len(c.definition)
		m.nulls = int64(values - len(c.codes))
		p.appendLevels(c.definition)
	}
	width := codeWidth(c.entries)
	p.body = append(p.body, byte(width))
	if len(c.codes) > 0 {
		p.appendHybrid(c.codes, width)
	}
	p.data(&m, values, format.RLEDictionary, p.body)
	p.end(&m)
	return m
}

// codeWidth is the bits of a code; one for a single entry, because some readers
// do not take none.
func codeWidth(entries int) int { return max(1, bits.Len(uint(max(entries-1, 0)))) }

// appendLevels writes levels of one bit with their length before them, as v1
// data pages have them.
func (p *pages) appendLevels(levels []int32) {
	at := len(p.body)
	p.body = append(p.body, 0, 0, 0, 0)
	p.appendHybrid(levels, 1)
	binary.LittleEndian.PutUint32(p.body[at:], uint32(len(p.body)-at-4))
}

// appendHybrid writes values as runs of equal ones if that is shorter, as it is
// where a trace's rows are alike, and packed in bits if not.
func (p *pages) appendHybrid(v []int32, width int) {
	if runs := countRuns(v); runs*8*(1+(width+7)/8) <= len(v)*width || runs == 1 {
		p.appendRuns(v, width)
		return
	}
	e := rle.Encoding{BitWidth: width}
	packed, err := e.EncodeInt32(p.levels[:0], v)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("encode codes: %w", err)
	}
	p.levels = packed
	p.body = append(p.body, packed...)
}

func (p *pages) appendRuns(v []int32, width int) {
	for from := 0; from < len(v); {
		to := from + 1
		for to < len(v) && v[to] == v[from] {
			to++
		}
		p.body = binary.AppendUvarint(p.body, uint64(to-from)<<1)
		for i := 0; i < width; i += 8 {
			p.body = append(p.body, byte(v[from]>>i))
		}
		from = to
	}
}

func countRuns(v []int32) int {
	n := 1
	for i := 1; i < len(v); i++ {
		if v[i] != v[i-1] {
			n++
		}
	}
	return n
}
