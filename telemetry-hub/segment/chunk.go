package segment

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/telemesh/telemesh/internal/varint"
)

// Encodings of Parquet that we write.
const (
	encodingPlain = 0
	encodingDelta = 5
	encodingCodes = 8
)

// encoded is a column chunk whose pages are decompressed and checked, and whose
// values are not yet read.
type encoded struct {
	kind    kind
	values  int // with nulls
	rows    int
	dict    []byte
	entries int
	body    []byte // of the data page, behind the levels
	width   int    // of a code

	repetition, definition []byte // levels, nil of a required column
}

// decode opens a chunk. b is all of it.
func (d *Decoder) decode(b []byte, c chunk, k kind, rows int) (e encoded, ok bool) {
	if uint64(len(b)) != uint64(c.dictLen)+uint64(c.dataLen) || crc32.Checksum(b, castagnoli) != c.sum {
		return e, false
	}
	e.kind, e.rows = k, rows
	if c.dictLen > 0 {
		p, ok := d.page(b[:c.dictLen], c.compressed)
		if !ok || p.header.kind != 2 || p.header.values > int64(len(p.body)) {
			return e, false
		}
		e.dict, e.entries = p.body, int(p.header.values)
	}
	p, ok := d.page(b[c.dictLen:], c.compressed)
	if !ok || p.header.kind != 0 || p.header.values > int64(rows)*maxAttributes {
		return e, false
	}
	e.values, e.body = int(p.header.values), p.body
	return e, e.splitLevels() && e.sound(int(p.header.encoding))
}

// splitLevels takes the levels off the body.
func (e *encoded) splitLevels() bool {
	r := varint.Reader{B: e.body}
	switch e.kind {
	case kindMapKey, kindMapValue:
		e.repetition = r.Bytes(uint64(r.U32()))
		e.definition = r.Bytes(uint64(r.U32()))
	case kindNullInt:
		e.definition = r.Bytes(uint64(r.U32()))
	}
	e.body = r.B
	return !r.Bad
}

// sound checks what does not depend on single values.
func (e *encoded) sound(encoding int) bool {
	if e.repetition == nil && e.values != e.rows {
		return false
	}
	width := 0 // of a value
	switch e.kind {
	case kindTime, kindLong:
		return encoding == encodingDelta
	case kindBool:
		return encoding == encodingPlain && len(e.body) >= (e.rows+7)/8
	case kindID:
		return encoding == encodingPlain && len(e.body) == 8*e.rows
	case kindInt, kindNullInt:
		width = 4
	case kindUUID:
		width = 16
	}
	if encoding != encodingCodes || len(e.body) == 0 || width > 0 && len(e.dict) != width*e.entries {
		return false
	}
	e.width, e.body = int(e.body[0]), e.body[1:]
	return true
}

// offsets are where the texts of the dictionary begin, behind their lengths,
// and the end of the last. They are read up to the entry last.
func (e *encoded) offsets(last int) ([]uint32, bool) {
	list := make([]uint32, 0, last+1)
	at := uint64(0)
	for range last + 1 {
		if at+4 > uint64(len(e.dict)) {
			return nil, false
		}
		list = append(list, uint32(at)+4)
		at += 4 + uint64(binary.LittleEndian.Uint32(e.dict[at:]))
	}
	return list, at <= uint64(len(e.dict))
}

// texts are the entries of the dictionary.
func (e *encoded) texts() ([]string, bool) {
	offsets, ok := e.offsets(e.entries - 1)
	if !ok {
		return nil, false
	}
	all := string(e.dict)
	list := make([]string, len(offsets))
	for i, at := range offsets {
		list[i] = all[at : at+binary.LittleEndian.Uint32(e.dict[at-4:])]
	}
	return list, true
}

// codes of all values that are not null.
func (e *encoded) codes(dst []uint32, n int) ([]uint32, bool) {
	if n == 0 {
		return dst[:0], true
	}
	return decodeHybrid(dst, e.body, e.width, n, uint32(e.entries))
}

// pickTexts reads the texts of some rows.
func (e *encoded) pickTexts(rows []int32) ([]string, bool) {
	codes, ok := pickHybrid(nil, e.body, e.width, rows, uint32(e.entries))
	if !ok {
		return nil, false
	}
	last := uint32(0)
	for _, c := range codes {
		last = max(last, c)
	}
	offsets, ok := e.offsets(int(last))
	if !ok {
		return nil, false
	}
	known := make(map[uint32]string, 1)
	out := make([]string, len(codes))
	for i, c := range codes {
		s, ok := known[c]
		if !ok {
			at := offsets[c]
			s = string(e.dict[at : at+binary.LittleEndian.Uint32(e.dict[at-4:])])
			known[c] = s
		}
		out[i] = s
	}
	return out, true
}

// ints reads a column of numbers; a null is 0 and the others of a nullable
// column are one above the value, as on the wire.
func (e *encoded) ints(dst []int64) ([]int64, bool) {
	var scratch []uint32
	return e.intsWith(dst, &scratch)
}

// intsWith is ints with memory for codes that is used again.
func (e *encoded) intsWith(dst []int64, scratch *[]uint32) ([]int64, bool) {
	switch e.kind {
	case kindTime, kindLong:
		return decodeDelta(dst, e.body, e.rows)
	case kindBool:
		dst = dst[:0]
		for i := range e.rows {
			dst = append(dst, int64(e.body[i/8]>>(i%8)&1))
		}
		return dst, true
	case kindInt:
		codes, ok := e.codes(*scratch, e.rows)
		if !ok {
			return nil, false
		}
		*scratch = codes
		table := make([]int64, e.entries)
		for c := range table {
			table[c] = e.small(uint32(c))
		}
		dst = slices.Grow(dst[:0], len(codes))[:len(codes)]
		for i, c := range codes {
			dst[i] = table[c]
		}
		return dst, true
	case kindNullInt:
		return e.nullable(dst)
	}
	return nil, false
}

func (e *encoded) small(code uint32) int64 {
	return int64(int32(binary.LittleEndian.Uint32(e.dict[4*code:])))
}

func (e *encoded) nullable(dst []int64) ([]int64, bool) {
	levels, ok := decodeHybrid(nil, e.definition, 1, e.values, 2)
	if !ok {
		return nil, false
	}
	codes, ok := e.codes(nil, sum(levels))
	dst = dst[:0]
	for _, l := range levels {
		v := int64(0)
		if l == 1 && len(codes) > 0 {
			v, codes = e.small(codes[0])+1, codes[1:]
		}
		dst = append(dst, v)
	}
	return dst, ok
}

// pickInts reads the numbers of some rows.
func (e *encoded) pickInts(rows []int32) ([]int64, bool) {
	if e.kind == kindInt {
		codes, ok := pickHybrid(nil, e.body, e.width, rows, uint32(e.entries))
		out := make([]int64, len(codes))
		for i, c := range codes {
			out[i] = e.small(c)
		}
		return out, ok
	}
	all, ok := e.ints(nil)
	if !ok {
		return nil, false
	}
	out := make([]int64, len(rows))
	for i, row := range rows {
		out[i] = all[row]
	}
	return out, true
}

func sum(levels []uint32) (n int) {
	for _, l := range levels {
		n += int(l)
	}
	return n
}

// lists reads one leaf of a map column: the texts, and for each row where its
// own begin among them; the last entry is the end.
func (e *encoded) lists() (all []string, starts []int32, ok bool) {
	repetition, ok := decodeHybrid(nil, e.repetition, 1, e.values, 2)
	if !ok {
		return nil, nil, false
	}
	definition, ok := decodeHybrid(nil, e.definition, 1, e.values, 2)
	if !ok {
		return nil, nil, false
	}
	for i, r := range repetition {
		if r == 0 {
			starts = append(starts, int32(len(all)))
		}
		if i == 0 && r != 0 || r == 1 && (definition[i] == 0 || definition[i-1] == 0) {
			return nil, nil, false
		}
		if definition[i] == 1 {
			all = append(all, "")
		}
	}
	codes, ok := e.codes(nil, len(all))
	if !ok || len(starts) != e.rows {
		return nil, nil, false
	}
	dict, ok := e.texts()
	if !ok {
		return nil, nil, false
	}
	for i, c := range codes {
		all[i] = dict[c]
	}
	return all, append(starts, int32(len(all))), true
}
