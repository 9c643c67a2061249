package http1

import (
	"errors"
	"strings"
	"testing"
)

func TestChunkedBodiesAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want error
	}{
		"many trailers":              {"0\r\n" + strings.Repeat("x: "+strings.Repeat("y", 1000)+"\r\n", 80) + "\r\n", errTrailer},
		"a trailer without an end":   {"0\r\nx: " + strings.Repeat("y", maxTrailers+1), errTrailer},
		"a size line without an end": {"5" + strings.Repeat(" ", maxChunkLine+1), errChunkExt},
		"a size of zeros":            {strings.Repeat("0", 16), errChunkSize},
		// net/http refuses this; what RFC 9112 lets a recipient accept goes on
		// as it is, and the upstream decides.
		"a space before an extension": {"5 ;a=b\r\nhello\r\n0\r\n\r\n", nil},
	} {
		if _, _, done, err := chunked([]byte(c.body), nil); !errors.Is(err, c.want) || done != (c.want == nil) {
			t.Errorf("%s: %v, %v; want %v", name, done, err, c.want)
		}
	}
}

func TestTrailersAreShown(t *testing.T) {
	var got []string
	c := chunks{onTrailer: func(name, value []byte) { got = append(got, string(name)+"="+string(value)) }}
	for _, b := range []byte("1;x\r\na\r\n0\r\nGrpc-Status: 5 \r\nempty:\r\n\r\n") {
		if _, _, err := c.next([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if s := strings.Join(got, " "); s != "Grpc-Status=5 empty=" {
		t.Errorf("trailers %q", s)
	}
}
