package engine

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
)

func TestAnUpgradedConnectionCarriesBytesBothWays(t *testing.T) {
	r := newRig(t, app(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Upgrade") != "websocket" {
			w.WriteHeader(400)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(c, "echo "+line)
	}))
	// The first frame comes with the head.
	got := r.raw("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello\n")
	want(t, got, "101 Switching Protocols", "X-Seen: yes", "Upgrade: websocket", "echo hello\n")
	if rec := r.record(); rec.Code != 101 || rec.Flags != "" || rec.BytesIn < 6 || rec.BytesOut < uint64(len(got)) {
		t.Errorf("record = %+v, want 101 with %d bytes out", rec, len(got))
	}
	if r.handler.answered != 1 {
		t.Errorf("Respond was called %d times, want once", r.handler.answered)
	}
	r.once(1)
}

// connect opens a tunnel.
func connect(r *rig) (*net.TCPConn, *bufio.Reader) {
	r.t.Helper()
	c, in := r.dial()
	fmt.Fprintf(c, "CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n")
	var head strings.Builder
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = in.ReadString('\n'); err != nil {
			r.t.Fatalf("head of the answer: %v", err)
		}
		head.WriteString(line)
	}
	want(r.t, head.String(), "HTTP/1.1 200 OK\r\n")
	if strings.Contains(strings.ToLower(head.String()), "transfer-encoding") {
		r.t.Errorf("the answer to CONNECT announces a body:\n%s", head.String())
	}
	return c, in
}

func TestATunnelPassesHalfClosesOn(t *testing.T) {
	r := newRig(t, rawApp(t, func(c net.Conn) {
		b, _ := io.ReadAll(c) // until the caller half-closes
		fmt.Fprintf(c, "read %d bytes", len(b))
	}))
	c, in := connect(r)
	io.WriteString(c, strings.Repeat("x", 100_000))
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(in)
	if err != nil || string(got) != "read 100000 bytes" {
		t.Errorf("got %q, %v", got, err)
	}
	rec := r.record()
	if rec.Code != 200 || rec.Protocol != "tcp" || rec.Flags != "" || rec.BytesIn < 100_000 || rec.BytesOut < 17 || rec.Attempts != 1 {
		t.Errorf("record = %+v", rec)
	}
	r.once(1)
}

func TestCONNECTOverHTTP2IsRefusedWithAReason(t *testing.T) {
	r := newRig(t, "127.0.0.1:1")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodConnect, "http://"+r.address, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := h2c(t)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotImplemented {
		t.Errorf("status %d, want 501", resp.StatusCode)
	}
	if rec := r.record(); rec.Flags != vocab.FlagDownstreamProtocol {
		t.Errorf("record = %+v, want DPE", rec)
	}
	client.CloseIdleConnections()
	r.once(1)
}

func TestRunLetsRequestsFinish(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	r := newRig(t, app(t, func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		io.WriteString(w, "done")
	}))
	c, in := r.dial()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-arrived
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	// New connections are refused while the old request is still served.
	for {
		other, err := net.Dial("tcp", r.address)
		if err != nil {
			break
		}
		other.Close()
	}
	close(release)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(b) != "done" {
		t.Errorf("body %q, want done", b)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
	r.record()
	r.once(1)
}

func TestRunClosesWhatIsLeftAfterItsGrace(t *testing.T) {
	r := newRigWithGrace(t, rawApp(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), time.Millisecond)
	c, in := connect(r)
	if err := r.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := in.ReadByte(); err == nil {
		t.Error("the tunnel outlives the engine")
	}
	c.Close()
	r.record()
	r.once(1)
}

func TestMalformedInputIsRefusedAndCounted(t *testing.T) {
	r := newRig(t, "127.0.0.1:1")
	check := func(name, input, status, reason string) {
		t.Helper()
		if got := r.raw("%s", input); !strings.HasPrefix(got, "HTTP/1.1 "+status) {
			t.Errorf("%s: got %q, want %s", name, got, status)
		}
		select {
		case got := <-r.refused:
			if got != reason {
				t.Errorf("%s: reason %q, want %q", name, got, reason)
			}
		case <-time.After(patience):
			t.Errorf("%s is not counted", name)
		}
	}
	check("not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS greeting\r\n\r\n", "400", "request_line")
	check("a short line", "GARBAGE\r\n\r\n", "400", "request_line")
	check("a short line like HTTP/2's preface", "PRI\r\n\r\n", "400", "request_line")
	check("a line like the preface's first letter", "PATCH\r\n\r\n", "400", "request_line")
	check("a bad header", "GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", "400", "field_name")
	check("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400", "host")
	check("a bad length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400", "content_length")
	check("a coding that is not chunked at last", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "400", "transfer_encoding")
	check("an unknown coding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "501", "transfer_encoding")
	check("a future version", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505", "version")
	check("a long head", "GET / HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 20<<10)+"\r\n\r\n", "431", "header_too_large")
	r.once(0)
	if len(r.refused) != 0 {
		t.Errorf("%d refusals too many are counted", len(r.refused))
	}
}
