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
	single  bool   // every row has the only entry; there is no body
	body    []byte // of the data page, behind the levels
	width   int    // of a code

	repetition, definition []byte // levels, nil of a required column
}

// decode opens a chunk. b is all of it; what is opened is b's or m's. Of a
// column that has one value in every row, lazily, the data page is not.
func (d *Decoder) decode(m *memory, b []byte, c chunk, k kind, rows int, lazily bool) (e encoded, ok bool) {
	if uint64(len(b)) != uint64(c.dictLen)+uint64(c.dataLen) || crc32.Checksum(b, castagnoli) != c.sum {
		return e, false
	}
	e.kind, e.rows = k, rows
	if c.dictLen > 0 {
		p, ok := d.page(m, b[:c.dictLen], c.compressed)
		if !ok || p.header.kind != 2 || p.header.values > int64(len(p.body)) {
			return e, false
		}
		e.dict, e.entries = p.body, int(p.header.values)
		if lazily && e.entries == 1 && (k == kindInt || k == kindUUID || k == kindText) {
			e.values, e.single = rows, true
			return e, e.soundDictionary()
		}
	}
	p, ok := d.page(m, b[c.dictLen:], c.compressed)
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
	switch e.kind {
	case kindTime, kindLong:
		return encoding == encodingDelta
	case kindBool:
		return encoding == encodingPlain && len(e.body) >= (e.rows+7)/8
	case kindID:
		return encoding == encodingPlain && len(e.body) == 8*e.rows
	}
	if encoding != encodingCodes || len(e.body) == 0 || !e.soundDictionary() {
		return false
	}
	e.width, e.body = int(e.body[0]), e.body[1:]
	return true
}

// soundDictionary checks the length of entries of fixed width.
func (e *encoded) soundDictionary() bool {
	switch e.kind {
	case kindInt, kindNullInt:
		return len(e.dict) == 4*e.entries
	case kindUUID:
		return len(e.dict) == 16*e.entries
	}
	return true
}

// texts are the entries of the dictionary.
func (e *encoded) texts() ([]string, bool) {
	all := string(e.dict)
	list := make([]string, 0, min(e.entries, len(all)/4))
	at := uint64(0)
	for range e.entries {
		from, to, ok := e.text(at)
		if !ok {
			return nil, false
		}
		list = append(list, all[from:to])
		at = to
	}
	return list, true
}

// text is where the text in the dictionary is whose length stands at at.
func (e *encoded) text(at uint64) (from, to uint64, ok bool) {
	if at+4 > uint64(len(e.dict)) {
		return 0, 0, false
	}
	from = at + 4
	to = from + uint64(binary.LittleEndian.Uint32(e.dict[at:]))
	return from, to, to <= uint64(len(e.dict))
}

// find looks for a text in the dictionary.
func (e *encoded) find(text string) (code int, found, ok bool) {
	at := uint64(0)
	for code := range e.entries {
		from, to, ok := e.text(at)
		if !ok {
			return 0, false, false
		}
		if string(e.dict[from:to]) == text {
			return code, true, true
		}
		at = to
	}
	return 0, false, true
}

// codes of all n values that are not null.
func (e *encoded) codes(dst []uint32, n int) ([]uint32, bool) {
	if n == 0 || e.single {
		dst = slices.Grow(dst[:0], n)[:n]
		clear(dst)
		return dst, true
	}
	return decodeHybrid(dst, e.body, e.width, n, uint32(e.entries))
}

// pick reads the codes of some rows of a required column.
func (e *encoded) pick(dst []uint32, rows []int32) ([]uint32, bool) {
	if e.single {
		return e.codes(dst, len(rows))
	}
	return pickHybrid(dst, e.body, e.width, rows, uint32(e.entries))
}

// selectRows appends the rows of a required column whose code is hit.
func (e *encoded) selectRows(dst []int32, hit []bool) ([]int32, bool) {
	if e.single {
		for row := range e.rows {
			if hit[0] {
				dst = append(dst, int32(row))
			}
		}
		return dst, true
	}
	return selectHybrid(dst, e.body, e.width, e.rows, hit)
}

// pickTexts reads the texts of some rows.
func (e *encoded) pickTexts(m *memory, rows []int32) ([]string, bool) {
	codes, ok := e.pick(m.codes, rows)
	if !ok {
		return nil, false
	}
	m.codes = codes
	return e.textsOf(m, codes)
}

// textsOf makes a string of each different code.
func (e *encoded) textsOf(m *memory, codes []uint32) ([]string, bool) {
	m.levels[0] = append(m.levels[0][:0], codes...)
	slices.Sort(m.levels[0])
	distinct := slices.Compact(m.levels[0])
	known := make([]string, 0, len(distinct))
	at := uint64(0)
	for code := uint32(0); len(known) < len(distinct); code++ {
		from, to, ok := e.text(at)
		if !ok {
			return nil, false
		}
		if code == distinct[len(known)] {
			known = append(known, string(e.dict[from:to]))
		}
		at = to
	}
	out := make([]string, len(codes))
	for i, c := range codes {
		place, _ := slices.BinarySearch(distinct, c)
		out[i] = known[place]
	}
	return out, true
}

// ints reads a column of numbers; a null is 0 and the others of a nullable
// column are one above the value, as on the wire. Memory for codes is m's.
func (e *encoded) ints(dst []int64, m *memory) ([]int64, bool) {
	dst = slices.Grow(dst[:0], e.rows)[:e.rows]
	switch e.kind {
	case kindTime, kindLong:
		return decodeDelta(dst, e.body, e.rows, e.rows)
	case kindBool:
		for i := range dst {
			dst[i] = int64(e.body[i/8] >> (i % 8) & 1)
		}
		return dst, true
	case kindInt:
		codes, ok := e.codes(m.codes, e.rows)
		if !ok {
			return nil, false
		}
		m.codes = codes
		table := e.numbers()
		for i, c := range codes {
			dst[i] = table[c]
		}
		return dst, true
	case kindNullInt:
		return dst, e.nullable(dst, m)
	}
	return nil, false
}

// numbers are the entries of the dictionary.
func (e *encoded) numbers() []int64 {
	table := make([]int64, e.entries)
	for c := range table {
		table[c] = e.small(uint32(c))
	}
	return table
}

func (e *encoded) small(code uint32) int64 {
	return int64(int32(binary.LittleEndian.Uint32(e.dict[4*code:])))
}

func (e *encoded) nullable(dst []int64, m *memory) bool {
	if e.entries == 0 {
		clear(dst)
		return true
	}
	levels, ok := decodeHybrid(m.levels[0], e.definition, 1, e.values, 2)
	if !ok {
		return false
	}
	m.levels[0] = levels
	codes, ok := e.codes(m.codes, sum(levels))
	if !ok {
		return false
	}
	m.codes = codes
	for i, l := range levels {
		dst[i] = 0
		if l == 1 {
			dst[i], codes = e.small(codes[0])+1, codes[1:]
		}
	}
	return true
}

// pickInts reads the numbers of some rows.
func (e *encoded) pickInts(m *memory, rows []int32) ([]int64, bool) {
	out := make([]int64, len(rows))
	if len(rows) == 0 {
		return out, true
	}
	var ok bool
	switch e.kind {
	case kindInt:
		m.codes, ok = e.pick(m.codes, rows)
		for i, c := range m.codes {
			out[i] = e.small(c)
		}
		return out, ok
	case kindTime, kindLong: // each value is the sum of those before it
		m.longs, ok = decodeDelta(m.longs, e.body, e.rows, int(rows[len(rows)-1])+1)
	default:
		m.longs, ok = e.ints(m.longs, m)
	}
	if !ok {
		return nil, false
	}
	for i, row := range rows {
		out[i] = m.longs[row]
	}
	return out, true
}

func sum(levels []uint32) (n int) {
	for _, l := range levels {
		n += int(l)
	}
	return n
}

// lists reads one leaf of a map column: a code for each value, and for each row
// where its own begin among them; the last entry is the end.
func (e *encoded) lists(codes []uint32, starts []int32, m *memory) ([]uint32, []int32, bool) {
	for i, levels := range [...][]byte{e.repetition, e.definition} {
		var ok bool
		if m.levels[i], ok = decodeHybrid(m.levels[i], levels, 1, e.values, 2); !ok {
			return nil, nil, false
		}
	}
	starts = starts[:0]
	n := int32(0)
	definition := m.levels[1]
	for i, r := range m.levels[0] {
		if r == 0 {
			starts = append(starts, n)
		}
		if i == 0 && r != 0 || r == 1 && (definition[i] == 0 || definition[i-1] == 0) {
			return nil, nil, false
		}
		n += int32(definition[i])
	}
	codes, ok := e.codes(codes, int(n))
	return codes, append(starts, n), ok && len(starts) == e.rows
}
