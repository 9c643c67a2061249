package segment

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/telemesh/telemesh/internal/varint"
)

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

func soundWidth(width int) bool { return width >= 1 && width <= 32 }

// decodeHybrid reads n values, each below limit.
func decodeHybrid(dst []uint32, src []byte, width, n int, limit uint32) ([]uint32, bool) {
	if !soundWidth(width) {
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
	top, at, b := uint32(0), 0, r.bytes
	if mask := uint32(1)<<width - 1; width <= 8 { // one load has eight values
		for ; at+8 <= len(dst) && len(b) >= 8; at, b = at+8, b[width:] {
			word := binary.LittleEndian.Uint64(b)
			for i := range 8 {
				v := uint32(word) & mask
				dst[at+i] = v
				top = max(top, v)
				word >>= width
			}
		}
	}
	for i := at; i < len(dst); i++ {
		v := uint32(bitsAt(r.bytes, i*width, width))
		dst[i] = v
		top = max(top, v)
	}
	return top < limit
}

// pickHybrid reads the values at the places of rows, which rise.
func pickHybrid(dst []uint32, src []byte, width int, rows []int32, limit uint32) ([]uint32, bool) {
	if !soundWidth(width) {
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

// selectHybrid appends the places, among n values, of those that are hit. Runs
// are not taken apart, and nothing is written for what is not hit.
func selectHybrid(dst []int32, src []byte, width, n int, hit []bool) ([]int32, bool) {
	if !soundWidth(width) {
		return nil, false
	}
	h := hybrid{varint.Reader{B: src}, width}
	for at := 0; at < n; {
		r, ok := h.next()
		if !ok {
			return nil, false
		}
		m := min(r.n, n-at)
		if r.packed {
			dst, ok = selectPacked(dst, r.bytes, width, at, m, hit)
		} else {
			v := r.at(0, width)
			if ok = int64(v) < int64(len(hit)); ok && hit[v] {
				for i := range m {
					dst = append(dst, int32(at+i))
				}
			}
		}
		if !ok {
			return nil, false
		}
		at += m
	}
	return dst, true
}

func selectPacked(dst []int32, b []byte, width, at, n int, hit []bool) ([]int32, bool) {
	if width == 1 && len(hit) == 2 {
		return selectBits(dst, b, at, n, hit), true
	}
	for i := range n {
		v := bitsAt(b, i*width, width)
		if v >= uint64(len(hit)) {
			return nil, false
		}
		if hit[v] {
			dst = append(dst, int32(at+i))
		}
	}
	return dst, true
}

// selectBits looks at a byte at a time, of which most have nothing.
func selectBits(dst []int32, b []byte, at, n int, hit []bool) []int32 {
	for i := 0; i < n; i += 8 {
		x, hits := b[i/8], byte(0)
		if hit[1] {
			hits |= x
		}
		if hit[0] {
			hits |= ^x
		}
		if n-i < 8 {
			hits &= 1<<(n-i) - 1
		}
		for ; hits != 0; hits &= hits - 1 {
			dst = append(dst, int32(at+i+bits.TrailingZeros8(hits)))
		}
	}
	return dst
}

// decodeDelta reads the first upTo of n values in DELTA_BINARY_PACKED.
func decodeDelta(dst []int64, src []byte, n, upTo int) ([]int64, bool) {
	r := varint.Reader{B: src}
	block, minis, total := r.Uvarint(), r.Uvarint(), r.Uvarint()
	last := r.Varint()
	if r.Bad || total != uint64(n) || minis == 0 || minis > 64 || block > 1<<16 || block%(minis*8) != 0 || block == 0 {
		return nil, false
	}
	dst = slices.Grow(dst[:0], upTo)[:upTo]
	if upTo == 0 {
		return dst, true
	}
	dst[0] = last
	perMini := int(block / minis)
	for at := 1; at < upTo; {
		low := r.Varint()
		for _, width := range r.Bytes(minis) {
			m := min(perMini, upTo-at)
			if m == 0 {
				break // what is left of the block has no body, or is not wanted
			}
			from := r.B
			if r.Bytes(uint64(perMini) * uint64(width) / 8); r.Bad || width > 64 {
				return nil, false
			}
			last = unpackDeltas(dst[at:at+m], from, int(width), low, last)
			at += m
		}
		if r.Bad {
			return nil, false
		}
	}
	return dst, true
}

// unpackDeltas reads differences to the value before. b goes on behind them, so
// that mostly eight bytes can be loaded for each.
func unpackDeltas(dst []int64, b []byte, width int, low, last int64) int64 {
	if width > 56 || (len(dst)*width)>>3+8 > len(b) {
		for i := range dst {
			last += low + int64(wideBitsAt(b, i*width, width))
			dst[i] = last
		}
		return last
	}
	mask, bit := uint64(1)<<width-1, 0
	for i := range dst {
		last += low + int64(binary.LittleEndian.Uint64(b[bit>>3:])>>(bit&7)&mask)
		dst[i] = last
		bit += width
	}
	return last
}

// wideBitsAt is bitsAt for up to 64 bits.
func wideBitsAt(b []byte, bit, width int) uint64 {
	if width <= 56 {
		return bitsAt(b, bit, width)
	}
	low := bitsAt(b, bit, 32)
	return low | bitsAt(b, bit+32, width-32)<<32
}
