package segment

import (
	"testing"
)

func TestIntactSeesEveryFlippedBitOfARowGroup(t *testing.T) {
	path := build(t, BuilderOptions{Window: 8192}, bookinfoBatches(t, 4, 20_000)...)
	s, _ := mustOpen(t, path)
	data := readFiles(t, path).data
	if s.SchemaVersion() != schemaVersion {
		t.Errorf("schema %d", s.SchemaVersion())
	}
	for i := range s.header.groups {
		g, err := s.group(i)
		if err != nil {
			t.Fatal(err)
		}
		p := data[g.offset : g.offset+g.size()]
		if !s.Intact(p, g.offset) {
			t.Fatalf("row group %d is said to be damaged", i)
		}
		for at := i; at < len(p); at += 997 {
			p[at] ^= 4
			if s.Intact(p, g.offset) {
				t.Errorf("row group %d: byte %d has changed and is said to be intact", i, at)
			}
			p[at] ^= 4
		}
		// Of a part only the columns that are in it whole can be told.
		first := int64(g.chunks[0].dictLen) + int64(g.chunks[0].dataLen)
		if part := p[1 : first-1]; !s.Intact(part, g.offset+1) {
			t.Error("a part of a column is said to be damaged")
		}
		p[first-1] ^= 1
		if !s.Intact(p[first:], g.offset+first) || s.Intact(p[:first], g.offset) {
			t.Error("a column counts where it is not")
		}
		p[first-1] ^= 1
	}
	if !s.Intact(data[:4], 0) || !s.Intact(data[s.header.footer:], s.header.footer) {
		t.Error("what no row group has is said to be damaged")
	}
}
