package http2

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// FuzzFrames sends arbitrary bytes from a downstream and from an upstream. The
// relay must end, with every exchange ended once and nothing held.
func FuzzFrames(f *testing.F) {
	f.Add(seedRequest(f), seedAnswer(f))
	f.Add([]byte{0, 0, 0, 1, 0x25, 0, 0, 0, 1}, []byte{})
	f.Fuzz(func(t *testing.T, down, up []byte) {
		d := newDecider("up:1")
		d.retries = 1
		gauges := &exchange.Gauges{}
		s := NewServer(Options{Handler: d, Gauges: gauges, MaxHeaderBytes: 4 << 10, MaxConcurrentStreams: 10,
			Dial: func(context.Context, exchange.Target) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go play(theirs, append(settingsFrame(), up...))
				return ours, nil
			}})
		ours, theirs := net.Pipe()
		played := make(chan struct{})
		go func() {
			defer close(played)
			play(theirs, append([]byte(preface), append(settingsFrame(), down...)...))
		}()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.Serve(ctx, netio.New(ours, nil), ConnFacts{Downstream: "fuzz:1"})
		if ctx.Err() != nil {
			t.Error("did not end")
		}
		<-played
		s.Close()
		if b, e := d.began.Load(), d.ended.Load(); b != e {
			t.Errorf("%d began, %d ended", b, e)
		}
		if n := gauges.InFlight.Load() | gauges.PoolOpen.Load() | gauges.PoolIdle.Load() | gauges.Pending.Load(); n != 0 {
			t.Errorf("gauges are not zero: %d", n)
		}
	})
}

// play writes b, gives the other side a moment to answer, and closes.
func play(c net.Conn, b []byte) {
	read := make(chan struct{})
	go func() { defer close(read); io.Copy(io.Discard, c) }()
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	c.Write(b) // the relay may have closed
	time.Sleep(200 * time.Microsecond)
	c.Close()
	<-read
}

func settingsFrame() []byte { return appendFrameHead(nil, 0, frameSettings, 0, 0) }

func seedRequest(t testing.TB) []byte {
	var b, block bytes.Buffer
	en := hpack.NewEncoder(&block)
	fr := xhttp2.NewFramer(&b, nil)
	for id := uint32(1); id < 6; id += 2 {
		block.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/a.B/c"}, {":authority", "a"}, {"content-type", "application/grpc"}, {"te", "trailers"}, {"grpc-timeout", "1S"}} {
			en.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
		fr.WriteDataPadded(id, false, []byte("hello"), make([]byte, 3))
		fr.WriteData(id, true, []byte("hello"))
	}
	fr.WriteRSTStream(1, xhttp2.ErrCodeCancel)
	fr.WriteWindowUpdate(0, 10)
	fr.WritePing(false, [8]byte{})
	if b.Len() == 0 {
		t.Fatal("no seed")
	}
	return b.Bytes()
}

func seedAnswer(t testing.TB) []byte {
	var b, block bytes.Buffer
	en := hpack.NewEncoder(&block)
	fr := xhttp2.NewFramer(&b, nil)
	en.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	fr.WriteData(1, false, []byte("hello"))
	block.Reset()
	en.WriteField(hpack.HeaderField{Name: "grpc-status", Value: "0"})
	fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
	fr.WriteGoAway(1, xhttp2.ErrCodeNo, nil)
	if b.Len() == 0 {
		t.Fatal("no seed")
	}
	return b.Bytes()
}

// FuzzRequestHead gives decoded fields to the checks: what they let through must
// be well-formed for another implementation too.
func FuzzRequestHead(f *testing.F) {
	f.Add([]byte("\x82\x86\x84\x41\x01a"))
	f.Fuzz(func(t *testing.T, block []byte) {
		fields, err := hpack.NewDecoder(4096, nil).DecodeFull(block)
		if err != nil {
			return
		}
		r, reason := parseRequest(fields)
		if reason != "" {
			return
		}
		if r.method == "" || r.path == "" && r.method != "CONNECT" {
			t.Errorf("let through %+v", r)
		}
		l := fieldList{fields: fields}
		l.Set("x-a", "1")
		l.Set("X-A", "2")
		if l.Get("x-A") != "2" {
			t.Error("Set and Get differ")
		}
		if l.Del("x-a"); l.Get("x-a") != "" {
			t.Error("Del left a field")
		}
	})
}
