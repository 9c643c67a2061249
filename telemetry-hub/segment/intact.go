package segment

import (
	"encoding/binary"
	"hash/crc32"
	"sort"
)

// SchemaVersion of the table that the segment was written with.
func (s *Segment) SchemaVersion() uint64 { return s.version }

// Intact reports that p, read from the Parquet file at offset, has the
// checksums that the index knows: those of all columns of one row group that
// lie in p whole. Bytes that no row group holds, as those of the footer, are
// intact as far as it can tell. A Range that keeps what it reads asks before
// it does.
func (s *Segment) Intact(p []byte, offset int64) bool {
	n := s.entrySize()
	number := sort.Search(s.header.groups, func(i int) bool {
		return int64(binary.LittleEndian.Uint64(s.groups[i*n:])) > offset
	}) - 1
	if number < 0 {
		return true
	}
	g, err := s.group(number)
	if err != nil {
		return true
	}
	at, end := g.offset, offset+int64(len(p))
	for _, c := range g.chunks {
		next := at + int64(c.dictLen) + int64(c.dataLen)
		if at >= offset && next <= end && crc32.Checksum(p[at-offset:next-offset], castagnoli) != c.sum {
			return false
		}
		at = next
	}
	return true
}
