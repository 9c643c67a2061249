package http2

import (
	"io"
	"net"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// BenchmarkUnary is one unary gRPC call after the other through the relay, on
// loopback: the time holds three wake-ups, the allocations are those of relay,
// client and server together, of which the latter two make none. With load:
//
//	h2load -n 100000 -c 8 -m 8 -d body -H 'content-type: application/grpc' -H 'te: trailers' http://address/a.B/c
//
// Conformance, against any relay with an upstream that answers 200:
//
//	go run github.com/summerwind/h2spec/cmd/h2spec@latest -h 127.0.0.1 -p port
func BenchmarkUnary(b *testing.B) {
	address := benchUpstream(b)
	r := newRig(b, newDecider(address))
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, preface)
	fr := xhttp2.NewFramer(c, c)
	fr.SetReuseFrames()
	fr.WriteSettings()
	fr.WriteWindowUpdate(0, 1<<30)
	var block writer
	en := hpack.NewEncoder(&block)
	call := func(id uint32) {
		block = block[:0]
		for _, f := range [...][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/a.B/c"}, {":authority", "a"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
			en.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true})
		fr.WriteData(id, true, benchBody[:])
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				b.Fatal(err)
			}
			if h, ok := f.(*xhttp2.HeadersFrame); ok && h.StreamEnded() {
				return
			}
		}
	}
	call(1)
	b.ReportAllocs()
	id := uint32(3)
	for b.Loop() {
		call(id)
		id += 2
	}
}

var benchBody [1024]byte

type writer []byte

func (w *writer) Write(p []byte) (int, error) { *w = append(*w, p...); return len(p), nil }

// benchUpstream answers every request with a message and trailers.
func benchUpstream(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.ReadFull(c, make([]byte, len(preface)))
		fr := xhttp2.NewFramer(c, c)
		fr.SetReuseFrames()
		fr.WriteSettings()
		fr.WriteWindowUpdate(0, 1<<30)
		var head, tail writer
		hpack.NewEncoder(&head).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		en := hpack.NewEncoder(&tail)
		en.WriteField(hpack.HeaderField{Name: "grpc-status", Value: "0", Sensitive: true})
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			if d, ok := f.(*xhttp2.DataFrame); ok && d.StreamEnded() {
				fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: d.StreamID, BlockFragment: head, EndHeaders: true})
				fr.WriteData(d.StreamID, false, benchBody[:])
				fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: d.StreamID, BlockFragment: tail, EndHeaders: true, EndStream: true})
			}
		}
	}()
	return l.Addr().String()
}
