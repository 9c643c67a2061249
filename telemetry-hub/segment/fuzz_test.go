package segment

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// useAll calls everything that reads; only a panic, or memory without bound,
// would be a fault.
func useAll(t *testing.T, s *Segment) {
	s.Verify(t.Context())
	s.Find(t.Context(), "order-4711", 100)
	s.Find(t.Context(), "4bf92f35-77b3-4da6-a3ce-929d0e0e4736", 100)
	s.Aggregates()
	q := Query{Destination: "S", Columns: []Column{TraceID, SpanID, Path, Sampled, AttributeKeys, AttributeValues}}
	s.Scan(t.Context(), q, func(r *Rows) bool {
		r.RecordsAt(t.Context(), r.Selected())
		for _, row := range r.Selected() {
			r.TraceID(row)
			r.SpanID(SpanID, row)
			r.List(AttributeKeys, row)
		}
		return true
	})
	s.Scan(t.Context(), Query{Failed: true, MinCode: 1, MinDuration: 1}, func(*Rows) bool { return true })
}

// FuzzIndex opens any index beside a sound file. With fix the checksum of the
// header, and those of the parts, are made to fit, to reach what is behind them.
func FuzzIndex(f *testing.F) {
	golden := readFiles(f, "testdata/v1.parquet")
	d := newTestDecoder(f)
	f.Add(golden.index, false)
	f.Add(golden.index, true)
	f.Fuzz(func(t *testing.T, index []byte, fix bool) {
		if fix {
			index = fixIndex(bytes.Clone(index))
		}
		s, _, err := files{golden.data, index}.open(d)
		if err == nil {
			useAll(t, s)
		}
	})
}

// fixIndex puts right sums where they belong.
func fixIndex(b []byte) []byte {
	if len(b) < headerFixed {
		return b
	}
	n := int(binary.LittleEndian.Uint32(b[12:]))
	if n > maxParts || headerFixed+n*partEntry+4 > len(b) {
		return b
	}
	sum := func(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
	for i := range n {
		entry := b[headerFixed+i*partEntry:]
		offset, length := binary.LittleEndian.Uint64(entry[8:]), binary.LittleEndian.Uint64(entry[16:])
		if offset > uint64(len(b)) || length > uint64(len(b))-offset {
			return b
		}
		part := b[offset : offset+length]
		switch kind := binary.LittleEndian.Uint32(entry); {
		case kind == partHashes && len(part) >= blockHeader:
			binary.LittleEndian.PutUint32(part, sum(part[4:]))
		case kind == partGroups && len(part) > 4:
			binary.LittleEndian.PutUint32(part[len(part)-4:], sum(part[:len(part)-4]))
		}
		binary.LittleEndian.PutUint32(entry[4:], sum(part))
	}
	end := headerFixed + n*partEntry
	binary.LittleEndian.PutUint32(b[end:], sum(b[:end]))
	return b
}

// FuzzSegment reads a damaged file beside a sound index, and with fix an index
// whose sums are those of the damaged file.
func FuzzSegment(f *testing.F) {
	golden := readFiles(f, "testdata/v1.parquet")
	d := newTestDecoder(f)
	f.Add(golden.data, false)
	f.Add(golden.data, true)
	f.Fuzz(func(t *testing.T, data []byte, fix bool) {
		use := files{data, golden.index}
		if fix {
			use.index = fixSums(t, data, golden, d)
		}
		if s, _, err := use.open(d); err == nil {
			useAll(t, s)
		}
		Reindex(t.Context(), LocalRange{bytes.NewReader(data)}, int64(len(data)), 1, Options{Decoder: d})
	})
}

// fixSums is the golden index with the sums of the chunks in data.
func fixSums(t *testing.T, data []byte, golden files, d *Decoder) []byte {
	s, _, err := golden.open(d)
	if err != nil {
		t.Fatal(err)
	}
	index := bytes.Clone(golden.index)
	g, err := s.groupData(0)
	if err != nil || int64(len(data)) < g.at[len(g.at)-1] {
		return index
	}
	entries := index[s.header.part(partGroups).offset:]
	for leaf := range g.chunks {
		at := groupFixed + leaf*chunkEntry + 8
		binary.LittleEndian.PutUint32(entries[at:], crc32.Checksum(data[g.at[leaf]:g.at[leaf+1]], castagnoli))
	}
	return fixIndex(index)
}

// FuzzPage reads pages of every kind without the checksums before them.
func FuzzPage(f *testing.F) {
	golden := readFiles(f, "testdata/v1.parquet")
	d := newTestDecoder(f)
	s, _, err := golden.open(d)
	if err != nil {
		f.Fatal(err)
	}
	g, err := s.groupData(0)
	if err != nil {
		f.Fatal(err)
	}
	for leaf, c := range g.chunks {
		f.Add(golden.data[g.at[leaf]:g.at[leaf+1]], c.dictLen, byte(s.columns[leaf].kind), c.compressed, 2)
	}
	f.Fuzz(func(t *testing.T, b []byte, dictLen uint32, k byte, compressed bool, rows int) {
		if uint64(dictLen) > uint64(len(b)) || rows < 1 || rows > 1<<14 {
			return
		}
		c := chunk{dictLen: dictLen, dataLen: uint32(len(b)) - dictLen, compressed: compressed, sum: crc32.Checksum(b, castagnoli)}
		m := d.borrow()
		defer d.giveBack(m)
		ends := []int32{0, int32(rows - 1)}
		for _, lazily := range []bool{false, true} {
			e, ok := d.decode(m, b, c, kind(k), rows, lazily)
			if !ok {
				continue
			}
			e.sweep(m)
			switch e.kind {
			case kindText:
				e.pickTexts(m, ends)
				e.find("GET")
				e.selectRows(nil, m.hits(e.entries))
			case kindInt:
				e.selectRows(nil, m.hits(e.entries))
			case kindMapKey, kindMapValue:
				e.pickLists(m, ends)
			}
			if e.kind <= kindBool {
				e.pickInts(m, ends)
			}
		}
	})
}
