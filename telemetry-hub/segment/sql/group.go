package sql

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
)

// groups gives each row of a batch the number of its group.
type groups struct {
	keys   []node
	m      *budget
	perRow int // bytes that the aggregates take for a group

	values [][]Value // of the keys, by group
	index  map[string]int32

	codes   []uint32 // of the rows of the batch: the combination of their keys
	table   []int32  // the group of each combination, -1 if it is not known yet
	numbers []int32
	key     []byte
	local   map[uint64]uint32
}

// groupBytes is about what a group takes besides its keys.
const groupBytes = 128

// maxCombinations are as many as are looked up in a table; more are numbered
// anew as they come.
const maxCombinations = 1 << 16

// assign numbers the groups of a batch's rows; the slice is good until the next
// call.
func (g *groups) assign(b *batch) ([]int32, error) {
	g.numbers = slices.Grow(g.numbers[:0], b.n)[:b.n]
	if len(g.keys) == 0 {
		clear(g.numbers)
		return g.numbers, nil
	}
	vectors := make([]*vector, len(g.keys))
	combinations := 1
	g.codes = slices.Grow(g.codes[:0], b.n)[:b.n]
	clear(g.codes)
	for i, k := range g.keys {
		vectors[i] = k.eval(b)
		combinations = g.combine(vectors[i], b.n, combinations)
	}
	g.table = slices.Grow(g.table[:0], combinations)[:combinations]
	for i := range g.table {
		g.table[i] = -1
	}
	for i, code := range g.codes {
		number := g.table[code]
		if number < 0 {
			var err error
			if number, err = g.number(vectors, i); err != nil {
				return nil, err
			}
			g.table[code] = number
		}
		g.numbers[i] = number
	}
	return g.numbers, nil
}

// combine makes the codes tell the values of one more key apart, and returns how
// many there can be now.
func (g *groups) combine(v *vector, n, before int) int {
	text := v.kind == KindText || v.kind == KindMap
	width := len(v.dict) + 1 // the last is null
	if text && before*width <= maxCombinations {
		for i := range n {
			code := v.codes[i]
			if v.null(i) {
				code = uint32(width - 1)
			}
			g.codes[i] = g.codes[i]*uint32(width) + code
		}
		return before * width
	}
	// Number the pairs of code and value as they come. The values of a bigint may
	// be any, so those are numbered first.
	if !text {
		width = g.numberValues(v, n)
	}
	if g.local == nil {
		g.local = make(map[uint64]uint32)
	}
	clear(g.local)
	last, lastCode := uint64(math.MaxUint64), uint32(0)
	for i := range n {
		var code uint32
		switch {
		case !text:
			code = uint32(g.table[i])
		case v.null(i):
			code = uint32(width - 1)
		default:
			code = v.codes[i]
		}
		pair := uint64(g.codes[i])<<32 | uint64(code)
		if pair != last {
			known, ok := g.local[pair]
			if !ok {
				known = uint32(len(g.local))
				g.local[pair] = known
			}
			last, lastCode = pair, known
		}
		g.codes[i] = lastCode
	}
	return len(g.local)
}

// numberValues numbers the values of what is no text, into the table.
func (g *groups) numberValues(v *vector, n int) int {
	g.table = slices.Grow(g.table[:0], n)[:n]
	seen := make(map[uint64]int32)
	null := int32(-1)
	last, lastNumber := uint64(0), int32(-1)
	next := int32(0)
	for i := range n {
		if v.kind == KindNull || v.null(i) {
			if null < 0 {
				null, next = next, next+1
			}
			g.table[i] = null
			continue
		}
		var bits uint64
		if v.kind == KindFloat {
			bits = floatBits(v.floats[i])
		} else {
			bits = uint64(v.ints[i])
		}
		if lastNumber < 0 || bits != last {
			known, ok := seen[bits]
			if !ok {
				known, next = next, next+1
				seen[bits] = known
			}
			last, lastNumber = bits, known
		}
		g.table[i] = lastNumber
	}
	return int(next)
}

// floatBits are the same for values that are equal.
func floatBits(f float64) uint64 {
	if f == 0 || math.IsNaN(f) {
		f = math.Abs(f) // -0 is 0
	}
	return math.Float64bits(f)
}

// number is the group with the keys of a row, a new one if there is none.
func (g *groups) number(keys []*vector, row int) (int32, error) {
	g.key = g.key[:0]
	for _, v := range keys {
		g.key = appendKey(g.key, v.at(row))
	}
	if number, ok := g.index[string(g.key)]; ok {
		return number, nil
	}
	if g.index == nil {
		g.index = make(map[string]int32)
	}
	if err := g.m.take(2*len(g.key) + groupBytes + len(keys)*valueBytes + g.perRow); err != nil {
		return 0, err
	}
	number := int32(len(g.values))
	values := make([]Value, len(keys))
	for i, v := range keys {
		values[i] = v.at(row)
		values[i].Text = strings.Clone(values[i].Text) // the dictionary is not kept for it
	}
	g.values = append(g.values, values)
	g.index[string(g.key)] = number
	return number, nil
}

// count of groups; without keys there is one, though no row may be in it.
func (g *groups) count() int {
	if len(g.keys) == 0 {
		return 1
	}
	return len(g.values)
}

// appendKey writes a value so that different ones, and different rows of them,
// differ.
func appendKey(dst []byte, v Value) []byte {
	dst = append(dst, byte(v.Kind))
	switch v.Kind {
	case KindNull:
	case KindText, KindMap:
		dst = binary.AppendUvarint(dst, uint64(len(v.Text)))
		dst = append(dst, v.Text...)
	case KindFloat:
		dst = binary.LittleEndian.AppendUint64(dst, floatBits(v.Float))
	default:
		dst = binary.LittleEndian.AppendUint64(dst, uint64(v.Int))
	}
	return dst
}
