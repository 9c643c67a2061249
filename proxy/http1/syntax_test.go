package http1

import (
	"bytes"
	"testing"
)

func TestIsValueFindsEveryByteAtEveryPlace(t *testing.T) {
	for size := range 20 {
		for at := range size {
			for c := range 256 {
				for _, around := range []byte{' ', 'a', '~', 0x80, 0xff, '\t'} {
					b := bytes.Repeat([]byte{around}, size)
					b[at] = byte(c)
					if got, want := isValue(b), all(b, valueByte); got != want {
						t.Fatalf("isValue(%q) = %v, want %v", b, got, want)
					}
				}
			}
		}
	}
}

// TestUsualLine: what the quick way accepts, the other reads in the same way.
func TestUsualLine(t *testing.T) {
	for c := range 256 {
		for _, template := range []string{"name:value of some length\r\n", "n:  v\r\n", "a-longer-name: v \r\nnext: \r\n", "n:\r\n"} {
			for at := range len(template) {
				b := []byte(template)
				b[at] = byte(c)
				for _, whole := range [][]byte{b, b[:len(b)-1], append(b[:len(b):len(b)], "\r\n"...)} {
					var quick, slow [4]int
					var err error
					quick[0], quick[1], quick[2], quick[3] = usualLine(whole, 0)
					slow[0], slow[1], slow[2], slow[3], err = anyLine(whole, 0)
					if quick[3] != 0 && (err != nil || quick != slow) {
						t.Errorf("%q: %v, but %v, %v", whole, quick, slow, err)
					}
				}
			}
		}
	}
	if _, _, _, next := usualLine([]byte("name: v\xfflue; q=0.5 \r\n"), 0); next == 0 {
		t.Error("a usual line goes the long way")
	}
}
