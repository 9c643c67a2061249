package http2

import "golang.org/x/net/http2/hpack"

// encoder writes header blocks (RFC 7541). It differs from x/net's in what a
// relay needs: most fields of a block are those of the block before, and it finds
// them again with one comparison of texts, which are mostly the same memory. It
// does not use Huffman's code: what repeats is an index anyhow, and the rest is
// ids.
//
// The zero value has a dynamic table of no size. Not safe for concurrent use.
type encoder struct {
	table   []pair // oldest first
	evicted uint64 // entries that were before table[0]
	size    int    // of the table, as RFC 7541, section 4.1 counts it
	limit   int
	resized bool // the peer has not been told of limit
	memo    [memoSize]memo
}

const memoSize = 64

// memo is where a pair was found.
type memo struct {
	pair
	static int    // its index, or 0
	entry  uint64 // else its number among all that the dynamic table ever had
}

const entryOverhead = 32

// resize sets the dynamic table's greatest size. The next block tells the peer.
// Of several calls before it the lowest counts: to lower and raise a table in one
// block is allowed, but x/net's decoder takes it only for an empty one.
func (e *encoder) resize(limit int) {
	if e.resized {
		limit = min(limit, e.limit)
	}
	e.limit, e.resized = limit, true
	e.evict(0)
}

// evict makes room for an entry of the size.
func (e *encoder) evict(size int) {
	n := 0
	for ; n < len(e.table) && e.size+size > e.limit; n++ {
		e.size -= len(e.table[n].name) + len(e.table[n].value) + entryOverhead
	}
	if n > 0 {
		e.table = append(e.table[:0], e.table[n:]...)
		e.evicted += uint64(n)
	}
}

// begin writes what must come before a block's first field.
func (e *encoder) begin(dst []byte) []byte {
	if !e.resized {
		return dst
	}
	e.resized = false
	return appendInt(dst, 0x20, 5, uint64(e.limit))
}

// field appends one field. Names are in lower case.
func (e *encoder) field(dst []byte, f *hpack.HeaderField) []byte {
	m := &e.memo[slot(f.Name, f.Value)]
	if m.value == f.Value && m.name == f.Name && f.Name != "" && !f.Sensitive {
		if m.static > 0 {
			return appendInt(dst, 0x80, 7, uint64(m.static))
		}
		if m.entry >= e.evicted {
			return e.index(dst, m.entry)
		}
	}
	switch {
	case f.Sensitive:
		return literal(dst, 0x10, 4, f)
	case volatile(f.Name), len(f.Name)+len(f.Value)+entryOverhead > e.limit/2:
		return literal(dst, 0, 4, f)
	}
	p := pair{f.Name, f.Value}
	if i := staticPairs[p]; i > 0 {
		*m = memo{pair: p, static: i}
		return appendInt(dst, 0x80, 7, uint64(i))
	}
	for i := range e.table { // two pairs may share a memo
		if e.table[i] == p {
			*m = memo{pair: p, entry: e.evicted + uint64(i)}
			return e.index(dst, m.entry)
		}
	}
	e.insert(p)
	*m = memo{pair: p, entry: e.evicted + uint64(len(e.table)) - 1}
	return literal(dst, 0x40, 6, f)
}

func (e *encoder) insert(p pair) {
	size := len(p.name) + len(p.value) + entryOverhead
	e.evict(size)
	e.table = append(e.table, p)
	e.size += size
}

// index appends a reference to the dynamic table's entry of a number.
func (e *encoder) index(dst []byte, entry uint64) []byte {
	newest := e.evicted + uint64(len(e.table)) - 1
	return appendInt(dst, 0x80, 7, uint64(len(staticTable))+1+newest-entry)
}

// slot spreads pairs over the memos by what is cheap to look at.
func slot(name, value string) uint32 {
	h := uint32(len(name))*31 + uint32(len(value))*131
	if n := len(name); n > 0 {
		h += uint32(name[n-1])*7 + uint32(name[n/2])*17
	}
	if n := len(value); n > 0 {
		h += uint32(value[n-1])*13 + uint32(value[n/2])*29
	}
	return (h ^ h>>6) % memoSize
}

// literal appends a field that is no index, its name as one if it can be.
func literal(dst []byte, kind byte, bits uint, f *hpack.HeaderField) []byte {
	if i := staticNames[f.Name]; i > 0 {
		dst = appendInt(dst, kind, bits, uint64(i))
	} else {
		dst = appendText(append(dst, kind), f.Name)
	}
	return appendText(dst, f.Value)
}

func appendText(dst []byte, s string) []byte {
	return append(appendInt(dst, 0, 7, uint64(len(s))), s...)
}

// appendInt appends an integer in the low bits of its first byte and what it
// needs beyond (RFC 7541, section 5.1).
func appendInt(dst []byte, high byte, bits uint, n uint64) []byte {
	most := uint64(1)<<bits - 1
	if n < most {
		return append(dst, high|byte(n))
	}
	dst = append(dst, high|byte(most))
	for n -= most; n >= 128; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}
