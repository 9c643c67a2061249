// Package varint reads the numbers and texts of our binary formats from bytes:
// varints as in Protocol Buffers, where signed ones are zigzag, and
// little-endian numbers of fixed width.
package varint

import "encoding/binary"

// Reader walks B. What does not fit sets Bad and empties B, after which all
// methods yield zeros, so a caller looks at Bad once behind many reads. It
// allocates nothing but texts. The zero value is at its end; not safe for
// concurrent use.
type Reader struct {
	B   []byte // what is left
	Bad bool
}

// Fail marks what is read as damaged.
func (r *Reader) Fail() { r.B, r.Bad = nil, true }

// Bytes takes n bytes, which are those of B and not copied; nil if there are
// fewer.
func (r *Reader) Bytes(n uint64) []byte {
	if n > uint64(len(r.B)) {
		r.Fail()
		return nil
	}
	v := r.B[:n:n]
	r.B = r.B[n:]
	return v
}

// Byte takes one byte.
func (r *Reader) Byte() byte {
	if len(r.B) == 0 {
		r.Fail()
		return 0
	}
	v := r.B[0]
	r.B = r.B[1:]
	return v
}

// U32 takes four bytes, the least significant first.
func (r *Reader) U32() uint32 {
	if b := r.Bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// U64 takes eight bytes, the least significant first.
func (r *Reader) U64() uint64 {
	if b := r.Bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// Uvarint takes an unsigned varint; one of more than 64 bits is damaged.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.B)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.B = r.B[n:]
	return v
}

// Varint takes a signed varint.
func (r *Reader) Varint() int64 {
	v, n := binary.Varint(r.B)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.B = r.B[n:]
	return v
}

// Count takes an unsigned varint that says how many items follow, each of at
// least size bytes: more than there is room for is damaged, so a count claims
// no memory that its bytes do not pay for.
func (r *Reader) Count(size int) int {
	n := r.Uvarint()
	if n > uint64(len(r.B)/size) {
		r.Fail()
		return 0
	}
	return int(n)
}

// Text takes an unsigned varint and as many bytes.
func (r *Reader) Text() string { return string(r.Bytes(r.Uvarint())) }
