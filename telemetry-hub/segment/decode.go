package segment

import (
	"fmt"
	"hash/crc32"
	"runtime"

	"github.com/klauspost/compress/zstd"

	"github.com/telemesh/telemesh/internal/varint"
)

// Decoder holds what reading needs memory for. One serves all segments of a
// process; it is safe for concurrent use.
type Decoder struct {
	zstd *zstd.Decoder
	free chan *memory
}

// maxPageBytes bounds the memory that a page can claim.
const maxPageBytes = 256 << 20

// NewDecoder returns a decoder for as many concurrent readers as there are
// processors; more wait for one another. Close releases it.
func NewDecoder() (*Decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxPageBytes))
	if err != nil {
		return nil, fmt.Errorf("create zstd decoder: %w", err)
	}
	return &Decoder{zstd: z, free: make(chan *memory, 2*runtime.GOMAXPROCS(0))}, nil
}

// Close releases the decoder.
func (d *Decoder) Close() { d.zstd.Close() }

// page is one decompressed page.
type page struct {
	header pageHeader
	body   []byte
}

// page reads a page that fills b. Its body is b's or m's.
func (d *Decoder) page(m *memory, b []byte, compressed bool) (p page, ok bool) {
	r := thriftReader{varint.Reader{B: b}}
	p.header = r.pageHeader()
	h := &p.header
	if r.Bad || h.size != int64(len(r.B)) || h.raw < 0 || h.raw > maxPageBytes || h.values < 0 {
		return p, false
	}
	p.body = r.B
	if compressed {
		var err error
		// A byte more, because without any capacity the library takes its own.
		if p.body, err = d.zstd.DecodeAll(p.body, m.bytes(int(h.raw) + 1)[:0]); err != nil {
			return p, false
		}
	}
	return p, int64(len(p.body)) == h.raw
}

// pageSums compares the pages of a chunk with the CRCs in their own headers. A
// look-up does not: the sum of the whole chunk says the same.
func pageSums(b []byte, c chunk) bool {
	for _, p := range [...][]byte{b[:c.dictLen], b[c.dictLen:]} {
		if len(p) == 0 {
			continue
		}
		r := thriftReader{varint.Reader{B: p}}
		if h := r.pageHeader(); r.Bad || h.hasSum && uint32(h.sum) != crc32.ChecksumIEEE(r.B) {
			return false
		}
	}
	return true
}

// pageHeader is what a reader needs of format.PageHeader.
type pageHeader struct {
	kind      int64 // 0 data, 2 dictionary
	raw, size int64
	sum       int64
	hasSum    bool
	values    int64
	encoding  int64
}

// thriftReader reads the compact protocol (Thrift, compact protocol
// specification), as far as a page header needs it: a look-up reads a hundred
// of them, and reflection would take longer than all else.
type thriftReader struct{ varint.Reader }

// Types of the compact protocol.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftStruct = 12
)

// fields calls each for every field of a struct; each reads or skips it.
func (r *thriftReader) fields(each func(id int64, kind byte)) {
	id := int64(0)
	for !r.Bad {
		b := r.Byte()
		if b == 0 {
			return
		}
		if delta := int64(b >> 4); delta != 0 {
			id += delta
		} else {
			id = r.Varint()
		}
		each(id, b&0x0f)
	}
}

func (r *thriftReader) pageHeader() (h pageHeader) {
	r.fields(func(id int64, kind byte) {
		switch {
		case id == 1:
			h.kind = r.Varint()
		case id == 2:
			h.raw = r.Varint()
		case id == 3:
			h.size = r.Varint()
		case id == 4:
			h.sum, h.hasSum = r.Varint(), true
		case (id == 5 || id == 7) && kind == thriftStruct:
			r.fields(func(id int64, kind byte) {
				switch id {
				case 1:
					h.values = r.Varint()
				case 2:
					h.encoding = r.Varint()
				default:
					r.skip(kind, 0)
				}
			})
		default:
			r.skip(kind, 0)
		}
	})
	return h
}

// skip passes over a value. Nesting is bounded: we write two levels.
func (r *thriftReader) skip(kind byte, depth int) {
	switch {
	case depth > 8:
		r.Fail()
	case kind == thriftTrue || kind == thriftFalse:
	case kind == thriftByte:
		r.Byte()
	case kind <= thriftI64:
		r.Varint()
	case kind == thriftDouble:
		r.Bytes(8)
	case kind == thriftBinary:
		r.Bytes(r.Uvarint())
	case kind == thriftList || kind == thriftSet:
		head := r.Byte()
		n := uint64(head >> 4)
		if n == 15 {
			n = r.Uvarint()
		}
		for range min(n, uint64(len(r.B))+1) {
			if element := head & 0x0f; element <= thriftFalse {
				r.Byte() // in a list a bool is a byte
			} else {
				r.skip(element, depth+1)
			}
		}
	case kind == thriftStruct:
		r.fields(func(_ int64, kind byte) { r.skip(kind, depth+1) })
	default:
		r.Fail()
	}
}
