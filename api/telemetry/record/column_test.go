package record

import (
	"fmt"
	"testing"
)

func TestABlockOfManyTextsKeepsNoMoreMemoryEachTime(t *testing.T) {
	e, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var b Block
	for round := range 40 {
		const rows = 1000
		for i := range rows {
			b.Add(&Record{Path: fmt.Sprint("/", (i*7+round)%(rows/2))})
		}
		c, err := d.Decode(e.Append(nil, &b), rows)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			if got, want := c.Record(i).Path, fmt.Sprint("/", (i*7+round)%(rows/2)); got != want {
				t.Fatalf("round %d, row %d: path %s, want %s", round, i, got, want)
			}
		}
		for i := range b.texts {
			if n := cap(b.texts[i].codes); n > 16*rows {
				t.Fatalf("round %d: %d bytes of codes are kept for blocks of %d rows", round, n, rows)
			}
		}
		b.Reset()
	}
}
