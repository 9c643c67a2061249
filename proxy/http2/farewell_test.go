package http2

import (
	"errors"
	"io"
	"testing"

	xhttp2 "golang.org/x/net/http2"
)

// TestACallerThatSaysGoAwayIsNotReset: what it sends behind its GOAWAY meets a
// connection that is being closed. It is a race, so it is tried many times.
func TestACallerThatSaysGoAwayIsNotReset(t *testing.T) {
	r := newRig(t, newDecider("127.0.0.1:1"))
	for range 300 {
		p := r.dial(t)
		_ = p.fr.WriteGoAway(0, xhttp2.ErrCodeNo, nil)
		_ = p.fr.WritePing(false, [8]byte{1}) // the connection may have ended, but in order
		for {
			_, err := p.fr.ReadFrame()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v, want an orderly end", err)
			}
		}
		_ = p.c.Close() // read to its end
	}
}
