package record

import (
	"encoding/binary"
	"slices"
	"unsafe"
)

// appendNumbers writes a column of numbers: body, or first if all rows are the
// same. It leaves out one that is zero in every row.
func appendNumbers(dst []byte, number int, first uint64, body []byte) []byte {
	switch {
	case len(body) > 0:
		return appendColumn(dst, number, kindUvarint, nil, body)
	case first == 0:
		return dst
	}
	var one [binary.MaxVarintLen64]byte
	return appendColumn(dst, number, kindSame, binary.AppendUvarint(one[:0], first))
}

// texts is a column of texts while it grows: each text once, and for each row
// its place among them. As long as all rows are the same it has no codes.
type texts struct {
	dict  []byte // (uvarint(len) bytes)*
	codes []byte // one for each row: a byte up to maxNarrow texts, else a uvarint
	at    place  // of the row before
	index map[string]place
}

// place of a text: its number, and where its bytes are in dict.
type place struct{ code, from, to uint32 }

// maxNarrow is how many texts codes of one byte can tell apart.
const maxNarrow = 256

// keptBytes of a dictionary stay after a reset; more is of unusual texts.
const keptBytes = 16 << 10

// find makes s the text of the next row, and returns a copy that lasts until the
// reset.
func (c *texts) find(row int, s string) string {
	p, ok := c.index[s]
	if !ok {
		p = c.learn(row, s)
	}
	c.at = p
	return c.text(p)
}

// repeat gives the next row the text that was found last.
func (c *texts) repeat() {
	if len(c.index) <= maxNarrow {
		c.codes = append(c.codes, byte(c.at.code))
	} else {
		c.codes = binary.AppendUvarint(c.codes, uint64(c.at.code))
	}
}

// text is a view of dict, whose bytes stay as they are until the reset.
func (c *texts) text(p place) string {
	return unsafe.String(unsafe.SliceData(c.dict[p.from:]), int(p.to-p.from))
}

// learn adds a new text.
func (c *texts) learn(row int, s string) place {
	if c.index == nil {
		c.index = make(map[string]place)
	}
	n := len(c.index)
	c.dict = binary.AppendUvarint(c.dict, uint64(len(s)))
	p := place{code: uint32(n), from: uint32(len(c.dict))}
	c.dict = append(c.dict, s...)
	p.to = uint32(len(c.dict))
	c.index[c.text(p)] = p // the reset empties the index too
	switch n {
	case 1: // the rows so far had the first
		for range row {
			c.codes = append(c.codes, 0)
		}
	case maxNarrow:
		c.widen()
	}
	return p
}

// widen turns codes of a byte into uvarints, from the last to the first, in the
// memory that they have: a block with many texts is followed by another one.
func (c *texts) widen() {
	narrow := len(c.codes)
	more := 0
	for _, code := range c.codes {
		more += int(code >> 7) // these need a second byte
	}
	c.codes = slices.Grow(c.codes, more)[:narrow+more]
	for from, to := narrow-1, narrow+more; from >= 0; from-- {
		code := c.codes[from]
		if code >= 0x80 { // its low byte is itself: the top bit says that more follows
			to--
			c.codes[to] = code >> 7
		}
		to--
		c.codes[to] = code
	}
}

// append leaves out a column that is empty in every row.
func (c *texts) append(dst []byte, number int) []byte {
	n := len(c.index)
	if n == 0 || n == 1 && c.at.from == c.at.to {
		return dst
	}
	var count [binary.MaxVarintLen64]byte
	return appendColumn(dst, number, kindDict, binary.AppendUvarint(count[:0], uint64(n)), c.dict, c.codes)
}

func (c *texts) reset() {
	clear(c.index)
	if c.dict, c.codes = c.dict[:0], c.codes[:0]; cap(c.dict) > keptBytes {
		c.dict = nil
	}
	c.at = place{}
}
