package engine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// brokenPeer is an upstream of either version that begins as what says and then
// fails: with "dies", before an answer; with "stops", in the middle of one; with
// "talks", by what is not its protocol; with "waits", by no answer at all; with
// "refuses", by HTTP/2's REFUSED_STREAM.
func brokenPeer(t *testing.T, version exchange.Protocol, what string) string {
	return rawApp(t, func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(patience))
		// To close with the request's end unread would take the answer back.
		defer func() { _ = c.(*net.TCPConn).CloseWrite(); _, _ = io.Copy(io.Discard, c) }()
		if version == exchange.HTTP2 {
			breakHTTP2(c, what)
		} else {
			breakHTTP1(c, what)
		}
	})
}

func breakHTTP1(c net.Conn, what string) {
	in := bufio.NewReader(c)
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = in.ReadString('\n'); err != nil {
			return
		}
	}
	switch what {
	case "stops":
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
	case "talks":
		fmt.Fprint(c, "220 mail.example.com\r\n")
	case "waits":
		_, _ = io.Copy(io.Discard, in)
	}
}

func breakHTTP2(c net.Conn, what string) {
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	fr := http2.NewFramer(c, c)
	_ = fr.WriteSettings()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		if f.Header().Type != http2.FrameHeaders {
			continue
		}
		switch what {
		case "dies":
			return
		case "stops":
			var head strings.Builder
			enc := hpack.NewEncoder(&head)
			_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.Header().StreamID, BlockFragment: []byte(head.String()), EndHeaders: true})
			_ = fr.WriteData(f.Header().StreamID, false, []byte("only this"))
			return
		case "talks":
			fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			return
		case "refuses":
			_ = fr.WriteRSTStream(f.Header().StreamID, http2.ErrCodeRefusedStream)
		}
	}
}

// TestBridgeFailures: what becomes of a request whose upstream fails.
func TestBridgeFailures(t *testing.T) {
	for _, tt := range []struct {
		what   string
		code   int
		flag   string
		detail string
	}{
		{"dies", 503, "UC", "connection_termination"},
		{"stops", 200, "UC", "connection_termination"},
		{"talks", 502, "UPE", "protocol_error"},
		{"waits", 504, "UT", "upstream_response_timeout"},
		{"refuses", 503, "UR", "remote_refused_stream_reset"},
		{"absent", 503, "UF", "connection_failure"},
	} {
		for _, up := range []exchange.Protocol{exchange.HTTP2, exchange.HTTP1} {
			if tt.what == "refuses" && up == exchange.HTTP1 {
				continue
			}
			t.Run(fmt.Sprintf("%s/http%d", tt.what, up), func(t *testing.T) {
				tt := tt
				c := newCrossing(t, up, false, nil)
				c.handler.target = brokenPeer(t, up, tt.what)
				switch tt.what {
				case "waits":
					c.handler.timeouts.Request = 50 * time.Millisecond
				case "absent":
					c.handler.target = unused(t)
				case "talks":
					if up == exchange.HTTP2 {
						tt.code, tt.flag, tt.detail = 503, "UC", "connection_termination" // a connection's fault ends it
					}
				}
				for n, body := range []string{"", "a body"} {
					req, _ := http.NewRequestWithContext(t.Context(), "POST", c.url+"/", strings.NewReader(body))
					if resp, err := c.client.Do(req); err == nil {
						_, err := io.Copy(io.Discard, resp.Body)
						if tt.what == "stops" && err == nil {
							t.Error("a part of an answer passed for a whole one")
						}
						resp.Body.Close()
						if resp.StatusCode != tt.code {
							t.Errorf("%d: status %d, want %d", n, resp.StatusCode, tt.code)
						}
					} else if tt.what != "stops" {
						t.Error(err)
					}
					if rec := c.record(); int(rec.Code) != tt.code || rec.Flags != tt.flag || !strings.Contains(rec.Detail, tt.detail) {
						t.Errorf("%d: record %d %q %s, want %d %q %s", n, rec.Code, rec.Flags, rec.Detail, tt.code, tt.flag, tt.detail)
					}
				}
				c.once(2)
			})
		}
	}
}

// unused is an address where nobody listens.
func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestBridgeLosesTheDownstream: a caller that leaves ends the request at the
// application too.
func TestBridgeLosesTheDownstream(t *testing.T) {
	for _, head := range []bool{false, true} {
		began, left := make(chan struct{}, 1), make(chan struct{}, 1)
		h := func(w http.ResponseWriter, r *http.Request) {
			if head {
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
			}
			began <- struct{}{}
			<-r.Context().Done()
			left <- struct{}{}
		}
		crossings(t, h, func(t *testing.T, c *crossing) {
			leave := c.call()
			<-began
			leave()
			<-left
			if rec := c.record(); rec.Flags != "DC" || rec.Code != 0 && !head {
				t.Errorf("record %d %q %s", rec.Code, rec.Flags, rec.Detail)
			}
			c.once(1)
		})
	}
}

// call sends a request, and returns what has its caller leave.
func (c *crossing) call() (leave func()) {
	if c.major == 1 {
		conn, _ := c.dial()
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		return func() {
			_ = conn.SetLinger(0) // or it could have closed its own direction only
			conn.Close()
		}
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", c.url+"/", nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := c.client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}()
	return func() { cancel(); <-done }
}

// TestBridgeCarriesAnEarlyAnswer: an application may answer before it has read
// what it is asked.
func TestBridgeCarriesAnEarlyAnswer(t *testing.T) {
	h := func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "too much", http.StatusRequestEntityTooLarge)
	}
	crossings(t, h, func(t *testing.T, c *crossing) {
		body, w := io.Pipe() // never ends by itself
		go func() {
			for {
				if _, err := w.Write(make([]byte, 16<<10)); err != nil {
					return
				}
			}
		}()
		defer body.Close()
		req, _ := http.NewRequestWithContext(t.Context(), "POST", c.url+"/", body)
		resp, err := c.client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		rec := c.record()
		// HTTP/1's clients may see the end of the connection before the answer.
		if err == nil && resp.StatusCode != 413 || err != nil && c.major == 2 {
			t.Errorf("%v %v", resp, err)
		}
		if rec.Code != 413 {
			t.Errorf("record %d %q %s", rec.Code, rec.Flags, rec.Detail)
		}
		body.Close()
		c.once(1)
	})
}

// TestBridgeIsBounded: a caller that does not read holds its application back.
func TestBridgeIsBounded(t *testing.T) {
	const size = 64 << 20
	wrote := make(chan int, 1)
	h := func(w http.ResponseWriter, r *http.Request) {
		n := 0
		for chunk := make([]byte, 64<<10); n < size; n += len(chunk) {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			if _, err := w.Write(chunk); err != nil || r.Context().Err() != nil {
				break
			}
		}
		wrote <- n
	}
	crossings(t, h, func(t *testing.T, c *crossing) {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", c.url+"/", nil)
		resp, err := c.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if n := <-wrote; n >= size {
			t.Errorf("the application wrote all %d bytes to nobody", n)
		}
		resp.Body.Close()
		c.record()
		c.once(1)
	})
}
