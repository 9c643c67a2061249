package http2

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// goneFor reads until the GOAWAY and returns its code. It writes nothing: another
// goroutine does.
func (p *peer) goneFor() xhttp2.ErrCode {
	p.t.Helper()
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			p.t.Fatalf("waiting for GOAWAY: %v", err)
		}
		if g, ok := f.(*xhttp2.GoAwayFrame); ok {
			return g.ErrCode
		}
	}
}

func TestFloodsEndTheConnection(t *testing.T) {
	cases := []struct {
		name, reason string
		flood        func(p *peer)
	}{
		{"rapid reset", "rapid_reset", func(p *peer) {
			for id := uint32(1); id < 4*resetBudget; id += 2 {
				p.get(id, false)
				p.fr.WriteRSTStream(id, xhttp2.ErrCodeCancel)
			}
		}},
		{"pings", "control_flood", func(p *peer) {
			for range controlBudget + 1000 {
				p.fr.WritePing(false, [8]byte{})
			}
		}},
		{"settings", "control_flood", func(p *peer) {
			for range controlBudget + 1000 {
				p.fr.WriteSettings()
			}
		}},
		{"empty data", "control_flood", func(p *peer) {
			p.get(1, false)
			for range controlBudget + 1000 {
				p.fr.WriteData(1, false, nil)
			}
		}},
		{"continuation", "continuation_flood", func(p *peer) {
			p.fr.AllowIllegalWrites = true
			p.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1})
			for range maxContinuations {
				p.fr.WriteContinuation(1, false, nil)
			}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			address := upstream(t, func(_ int, p *peer) { p.drainFrames() })
			r := newRig(t, newDecider(address))
			p := r.dial(t)
			var flood sync.WaitGroup
			flood.Go(func() { c.flood(p) }) // its writes fail when the relay has had enough
			if code := p.goneFor(); code != xhttp2.ErrCodeEnhanceYourCalm {
				t.Errorf("GOAWAY %v", code)
			}
			if got := r.reason(); got != c.reason {
				t.Errorf("reason %s, want %s", got, c.reason)
			}
			p.c.Close()
			flood.Wait()
		})
	}
}

func TestHeaderListBeyondTheLimitIsAnswered(t *testing.T) {
	r := newRig(t, newDecider("unused:1"))
	p := r.dial(t)
	// A bomb: one table entry, named again and again.
	p.get(1, true, "x-bomb", strings.Repeat("b", 3000))
	p.bb.Reset()
	for range 200 {
		p.en.WriteField(hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("b", 3000)})
	}
	p.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 3, BlockFragment: p.bb.Bytes(), EndHeaders: true, EndStream: true})
	if status := p.head(3); status != "431" {
		t.Errorf("status %s", status)
	}
	if got := r.reason(); got != "header_list_size" {
		t.Errorf("reason %s", got)
	}
	// The table is as it should be: the connection goes on.
	p.get(5, true, "x-bomb", strings.Repeat("b", 3000))
	if status := p.head(5); status != "503" {
		t.Errorf("status %s", status)
	}
}

func TestRepliesOfTheSidecar(t *testing.T) {
	d := newDecider("unused:1")
	d.reply = &exchange.Reply{Status: http.StatusTooManyRequests, ContentType: "text/plain", Body: "slow down: 100%\n", Headers: []exchange.Field{{Name: "Retry-After", Value: "1"}}}
	r := newRig(t, d)
	resp, err := r.client().Post(url("/a"), "text/plain", bytes.NewReader(make([]byte, 100_000)))
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	body.ReadFrom(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 429 || body.String() != "slow down: 100%\n" || resp.Header.Get("Retry-After") != "1" || resp.Header.Get("X-Answered") != "yes" {
		t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body.String())
	}
	if rec := r.record(); rec.Code != 429 || rec.Attempts != 0 || rec.BytesOut == 0 {
		t.Errorf("record %+v", rec)
	}
	p := r.dial(t)
	p.get(1, true, "content-type", "application/grpc")
	p.until(func(f xhttp2.Frame) bool {
		h, ok := f.(*xhttp2.MetaHeadersFrame)
		if !ok {
			return false
		}
		got := map[string]string{}
		for _, f := range h.Fields {
			got[f.Name] = f.Value
		}
		if !h.StreamEnded() || got[":status"] != "200" || got["grpc-status"] != "8" || got["grpc-message"] != "slow down: 100%25" {
			t.Errorf("answer %v", got)
		}
		return true
	})
	if rec := r.record(); rec.GRPCStatus != 9 || rec.Code != 200 {
		t.Errorf("record %+v", rec)
	}
}

func TestMalformedRequestsAreResetAndCounted(t *testing.T) {
	head := []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"}
	with := func(more ...string) []string { return append(append([]string(nil), head...), more...) }
	cases := []struct {
		name, reason string
		fields       []string
	}{
		{"capital in a name", reasonName, with("X-Up", "1")},
		{"space in a name", reasonName, with("x up", "1")},
		{"empty name", reasonName, with("", "1")},
		{"line feed in a value", reasonValue, with("x", "a\nb")},
		{"NUL in a value", reasonValue, with("x", "a\x00b")},
		{"space around a value", reasonValue, with("x", " a")},
		{"pseudo-header after a field", reasonPseudo, []string{":method", "GET", "x", "1", ":scheme", "http", ":path", "/"}},
		{"pseudo-header twice", reasonPseudo, with(":path", "/")},
		{"unknown pseudo-header", reasonPseudo, with(":other", "1")},
		{"no path", reasonPseudo, []string{":method", "GET", ":scheme", "http"}},
		{"path in absolute form", reasonPseudo, []string{":method", "GET", ":scheme", "http", ":path", "http://b/"}},
		{"space in the path", reasonPseudo, []string{":method", "GET", ":scheme", "http", ":path", "/a b"}},
		{"user in the authority", reasonPseudo, []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "u@a"}},
		{"host beside another authority", reasonPseudo, with("host", "b")},
		{"protocol without CONNECT", reasonPseudo, with(":protocol", "websocket")},
		{"CONNECT with a path", reasonPseudo, []string{":method", "CONNECT", ":authority", "a:1", ":path", "/"}},
		{"connection", reasonHopByHop, with("connection", "close")},
		{"transfer-encoding", reasonHopByHop, with("transfer-encoding", "chunked")},
		{"te other than trailers", reasonHopByHop, with("te", "gzip")},
		{"signed content-length", reasonLength, with("content-length", "+0")},
		{"two content-lengths", reasonLength, with("content-length", "0", "content-length", "1")},
		{"content-length of a body that does not come", reasonLength, with("content-length", "1")},
	}
	r := newRig(t, newDecider("unused:1"))
	p := r.dial(t)
	for i, c := range cases {
		id := uint32(2*i + 1)
		p.headers(id, true, c.fields...)
		if code := p.rst(id); code != xhttp2.ErrCodeProtocol {
			t.Errorf("%s: reset with %v", c.name, code)
		}
		if got := r.reason(); got != c.reason {
			t.Errorf("%s: reason %s, want %s", c.name, got, c.reason)
		}
	}
	if n := r.handler.began.Load(); n != 0 {
		t.Errorf("%d exchanges of malformed requests", n)
	}
}
