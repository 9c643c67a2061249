package varint

import (
	"encoding/binary"
	"math"
	"testing"
)

func written() []byte {
	b := binary.AppendUvarint(nil, math.MaxUint64)
	b = binary.AppendVarint(b, math.MinInt64)
	b = append(b, 7)
	b = binary.LittleEndian.AppendUint32(b, 1<<31+5)
	b = binary.LittleEndian.AppendUint64(b, 1<<63+9)
	b = append(binary.AppendUvarint(b, 2), "xy"...)
	return append(binary.AppendUvarint(b, 3), "abc"...)
}

func read(r *Reader) (all bool) {
	ok := r.Uvarint() == math.MaxUint64
	ok = r.Varint() == math.MinInt64 && ok
	ok = r.Byte() == 7 && ok
	ok = r.U32() == 1<<31+5 && ok
	ok = r.U64() == 1<<63+9 && ok
	ok = r.Text() == "xy" && ok
	ok = r.Count(1) == 3 && ok
	return string(r.Bytes(3)) == "abc" && ok
}

func TestReaderYieldsWhatWasWritten(t *testing.T) {
	r := Reader{B: written()}
	if !read(&r) || r.Bad || len(r.B) != 0 {
		t.Errorf("bad %v, %d bytes left", r.Bad, len(r.B))
	}
}

func TestAShortReaderIsBadAndStaysSo(t *testing.T) {
	for n := range written() {
		r := Reader{B: written()[:n]}
		if read(&r) || !r.Bad {
			t.Errorf("%d bytes are taken for whole", n)
		}
		if r.Uvarint() != 0 || r.Varint() != 0 || r.Byte() != 0 || r.U32() != 0 || r.U64() != 0 || r.Text() != "" || r.Bytes(1) != nil || !r.Bad {
			t.Errorf("%d bytes: something is read behind the fault", n)
		}
	}
}

func TestACountThatItsBytesCannotHoldIsBad(t *testing.T) {
	for _, c := range []struct {
		count uint64
		size  int
		want  int
	}{{4, 2, 4}, {5, 2, 0}, {8, 1, 8}, {math.MaxUint64, 1, 0}} {
		r := Reader{B: append(binary.AppendUvarint(nil, c.count), make([]byte, 8)...)}
		if got := r.Count(c.size); got != c.want || r.Bad != (c.want == 0) {
			t.Errorf("%d items of %d bytes in 8: %d, bad %v", c.count, c.size, got, r.Bad)
		}
	}
	if r := (Reader{B: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}}); r.Uvarint() != 0 || !r.Bad {
		t.Error("a varint of more than 64 bits is taken")
	}
}
