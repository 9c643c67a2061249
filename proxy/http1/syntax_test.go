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
