package netio

import "sync"

// BufferSize is a pooled buffer's size: the usual head and a small body.
const BufferSize = 16 << 10

var pool = sync.Pool{New: func() any { return new([BufferSize]byte) }}

// Buffer is a window of bytes that were read and not yet used. The zero value is
// empty and holds no memory.
type Buffer struct {
	Start, End int // the unread bytes are mem[Start:End]
	mem        []byte
	pooled     *[BufferSize]byte // mem's array, if the pool's
}

// Len is the number of unread bytes.
func (b *Buffer) Len() int { return b.End - b.Start }

// Bytes are the unread bytes, valid until the next Fill, Grow or Free.
func (b *Buffer) Bytes() []byte { return b.mem[b.Start:b.End] }

// Skip takes n bytes as used.
func (b *Buffer) Skip(n int) {
	if b.Start += n; b.Start == b.End {
		b.Start, b.End = 0, 0
	}
}

// Room is the free space behind the unread bytes; it takes memory if there is
// none and moves the bytes to the front if they are at the end. It is empty when
// the buffer is full.
func (b *Buffer) Room() []byte {
	if b.mem == nil {
		b.pooled = pool.Get().(*[BufferSize]byte)
		b.mem = b.pooled[:]
		b.Start, b.End = 0, 0
	}
	if b.End == len(b.mem) && b.Start > 0 {
		b.End = copy(b.mem, b.mem[b.Start:b.End])
		b.Start = 0
	}
	return b.mem[b.End:]
}

// Full reports that the buffer has no room for more.
func (b *Buffer) Full() bool { return b.mem != nil && b.End-b.Start == len(b.mem) }

// Grow makes room for size bytes in all, beyond the pool's size.
func (b *Buffer) Grow(size int) {
	if size <= len(b.mem) {
		return
	}
	mem := make([]byte, size)
	n := copy(mem, b.mem[b.Start:b.End])
	b.Free()
	b.mem, b.Start, b.End = mem, 0, n
}

// Free gives the memory back; what was unread is lost.
func (b *Buffer) Free() {
	if b.pooled != nil {
		pool.Put(b.pooled)
	}
	*b = Buffer{}
}
