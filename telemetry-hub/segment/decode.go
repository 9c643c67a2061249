package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/telemesh/telemesh/internal/varint"
)

// Decoder holds what reading needs memory for. One serves all segments of a
// process; it is safe for concurrent use.
type Decoder struct{ zstd *zstd.Decoder }

// maxPageBytes bounds the memory that a page can claim.
const maxPageBytes = 256 << 20

// NewDecoder returns a decoder for as many concurrent readers as there are
// processors; more wait for one another. Close releases it.
func NewDecoder() (*Decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxPageBytes))
	if err != nil {
		return nil, fmt.Errorf("create zstd decoder: %w", err)
	}
	return &Decoder{z}, nil
}

// Close releases the decoder.
func (d *Decoder) Close() { d.zstd.Close() }

// page is one decompressed page.
type page struct {
	header pageHeader
	body   []byte
}

// page reads a page that fills b.
func (d *Decoder) page(b []byte, compressed bool) (p page, ok bool) {
	r := thriftReader{varint.Reader{B: b}}
	p.header = r.pageHeader()
	h := &p.header
	if r.Bad || h.size != int64(len(r.B)) || h.raw < 0 || h.raw > maxPageBytes || h.values < 0 {
		return p, false
	}
	p.body = r.B
	if h.hasSum && uint32(h.sum) != crc32.ChecksumIEEE(p.body) {
		return p, false
	}
	if compressed {
		var err error
		if p.body, err = d.zstd.DecodeAll(p.body, make([]byte, 0, h.raw)); err != nil {
			return p, false
		}
	}
	return p, int64(len(p.body)) == h.raw
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

// hybrid walks a sequence in the RLE and bit-packing hybrid of width bits a
// value.
type hybrid struct {
	varint.Reader
	width int
}

// run is a stretch of it: n times the value of bytes, or n values packed.
type run struct {
	n      int
	packed bool
	bytes  []byte
}

func (h *hybrid) next() (run, bool) {
	head := h.Uvarint()
	n := head >> 1
	if h.Bad || n == 0 {
		return run{}, false
	}
	if head&1 == 0 {
		b := h.Bytes(uint64(h.width+7) / 8)
		return run{n: int(min(n, 1<<31)), bytes: b}, b != nil
	}
	if n > uint64(len(h.B)) { // width is at least a bit, so eight take a byte
		return run{}, false
	}
	b := h.Bytes(n * uint64(h.width))
	return run{n: int(n) * 8, packed: true, bytes: b}, b != nil
}

// at is the value at a place of the run.
func (r *run) at(i, width int) uint32 {
	if r.packed {
		return uint32(bitsAt(r.bytes, i*width, width))
	}
	var v uint32
	for i, b := range r.bytes {
		v |= uint32(b) << (8 * i)
	}
	return v
}

// bitsAt reads width <= 56 bits, least significant first.
func bitsAt(b []byte, bit, width int) uint64 {
	at := bit >> 3
	var v uint64
	if at+8 <= len(b) {
		v = binary.LittleEndian.Uint64(b[at:])
	} else {
		for i, x := range b[at:] {
			v |= uint64(x) << (8 * i)
		}
	}
	return v >> (bit & 7) & (1<<width - 1)
}

// decodeHybrid reads n values, each below limit.
func decodeHybrid(dst []uint32, src []byte, width, n int, limit uint32) ([]uint32, bool) {
	if width < 1 || width > 32 {
		return nil, false
	}
	h := hybrid{varint.Reader{B: src}, width}
	dst = slices.Grow(dst[:0], n)[:n]
	for i := 0; i < n; {
		r, ok := h.next()
		if !ok {
			return nil, false
		}
		m := min(r.n, n-i)
		if !unpackRun(dst[i:i+m], &r, width, limit) {
			return nil, false
		}
		i += m
	}
	return dst, true
}

func unpackRun(dst []uint32, r *run, width int, limit uint32) bool {
	if !r.packed {
		v := r.at(0, width)
		for i := range dst {
			dst[i] = v
		}
		return v < limit
	}
	top := uint32(0)
	for i := range dst {
		v := uint32(bitsAt(r.bytes, i*width, width))
		dst[i] = v
		top = max(top, v)
	}
	return top < limit
}

// pickHybrid reads the values at the places of rows, which rise.
func pickHybrid(dst []uint32, src []byte, width int, rows []int32, limit uint32) ([]uint32, bool) {
	if width < 1 || width > 32 {
		return nil, false
	}
	h := hybrid{varint.Reader{B: src}, width}
	dst = dst[:0]
	at := 0
	for len(rows) > 0 {
		r, ok := h.next()
		if !ok {
			return nil, false
		}
		for len(rows) > 0 && int(rows[0]) < at+r.n {
			v := r.at(int(rows[0])-at, width)
			if v >= limit {
				return nil, false
			}
			dst = append(dst, v)
			rows = rows[1:]
		}
		at += r.n
	}
	return dst, true
}

// decodeDelta reads n values in DELTA_BINARY_PACKED.
func decodeDelta(dst []int64, src []byte, n int) ([]int64, bool) {
	r := varint.Reader{B: src}
	block, minis, total := r.Uvarint(), r.Uvarint(), r.Uvarint()
	first := r.Varint()
	if r.Bad || total != uint64(n) || minis == 0 || minis > 64 || block > 1<<16 || block%(minis*8) != 0 || block == 0 {
		return nil, false
	}
	dst = slices.Grow(dst[:0], n)
	if n == 0 {
		return dst, true
	}
	dst = append(dst, first)
	perMini := int(block / minis)
	last := first
	for len(dst) < n {
		low := r.Varint()
		widths := r.Bytes(minis)
		for _, width := range widths {
			if len(dst) == n {
				break // what is left of the block has no body
			}
			b := r.Bytes(uint64(perMini) * uint64(width) / 8)
			if r.Bad || width > 64 {
				return nil, false
			}
			for i := range min(perMini, n-len(dst)) {
				last += low + int64(wideBitsAt(b, i*int(width), int(width)))
				dst = append(dst, last)
			}
		}
		if r.Bad {
			return nil, false
		}
	}
	return dst, true
}

// wideBitsAt is bitsAt for up to 64 bits.
func wideBitsAt(b []byte, bit, width int) uint64 {
	if width <= 56 {
		return bitsAt(b, bit, width)
	}
	low := bitsAt(b, bit, 32)
	return low | bitsAt(b, bit+32, width-32)<<32
}
