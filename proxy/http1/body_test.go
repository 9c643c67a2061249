package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	address, _ := answering(t, func(a asked) string {
		path := strings.Fields(a.raw)[1]
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s", len(path)+len(a.body), path, a.body)
	})
	r := newRig(t, address, nil)
	c := r.dial()
	c.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" +
		"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" +
		"POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nde" +
		"\r\nGET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\nHost: a\r\n\r\n")
	for _, want := range []string{"/1", "/2abc", "/3de", "/4"} {
		if _, body := c.answer("GET"); body != want {
			t.Errorf("got %q, want %q", body, want)
		}
		r.record()
	}
	c.closed()
}

// A request that begins while a chunked body is read lies behind that body.
func TestARequestBehindAChunkedBodyThatCameLater(t *testing.T) {
	address, got := answering(t, alwaysOK)
	r := newRig(t, address, nil)
	c := r.dial()
	c.send(post("5\r\nhel"))
	c.send("lo\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n")
	c.want(okAnswer + okAnswer)
	if a := take(t, got); a.body != "hello" {
		t.Errorf("body %q", a.body)
	}
	take(t, got)
}

func TestExpectIsTheUpstreamsToAnswer(t *testing.T) {
	address := rawUpstream(t, func(n int, c *net.TCPConn) {
		in := newReader(c)
		req, err := http.ReadRequest(in.in)
		if err != nil {
			return
		}
		if req.URL.Path == "/refused" {
			io.WriteString(c, "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
			return
		}
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		b, _ := io.ReadAll(req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
	})
	r := newRig(t, address, nil)
	const head = " HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	c := r.dial()
	c.send("POST /" + head)
	c.want("HTTP/1.1 100 Continue\r\n\r\n")
	c.send("hello")
	c.want("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	if rec := r.record(); rec.Flags != "" || rec.Code != 200 {
		t.Errorf("record = %+v", rec)
	}
	c = r.dial()
	c.send("POST /refused" + head)
	c.want("HTTP/1.1 413 No\r\nContent-Length: 0\r\nconnection: close\r\n\r\n")
	c.closed()
	if rec := r.record(); rec.Code != 413 {
		t.Errorf("record = %+v", rec)
	}
}

// The answer comes while the body is still sent: it goes down whole, and the
// connection ends, because nobody reads the rest.
func TestAnEarlyAnswerEndsTheBody(t *testing.T) {
	address := rawUpstream(t, func(n int, c *net.TCPConn) {
		if _, err := http.ReadRequest(newReader(c).in); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
		_, _ = io.Copy(io.Discard, c)
	})
	r := newRig(t, address, nil)
	c := r.dial()
	c.send("POST /path HTTP/1.1\r\nHost: host\r\nUser-Agent: agent\r\nContent-Length: 1000000000\r\n\r\n")
	stop := make(chan struct{})
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for junk := []byte(strings.Repeat("x", 32<<10)); ; {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := c.Write(junk); err != nil {
				return
			}
		}
	}()
	if status := c.status("POST"); status != 413 {
		t.Errorf("status %d", status)
	}
	rec := r.record()
	close(stop)
	c.Close()
	<-sent
	// Its texts lie where linger could have read the rest of the body to.
	if rec.Method != "POST" || rec.Path != "/path" || rec.Host != "host" || rec.UserAgent != "agent" || rec.Code != 413 || rec.Flags != "" {
		t.Errorf("record = %+v", rec)
	}
}

// The handler answers itself while a body comes.
func TestAReplyToARequestWithABodyIsNotLost(t *testing.T) {
	r := newRig(t, "127.0.0.1:1", nil)
	r.handler.reply = &exchange.Reply{Status: 403, Body: "no"}
	c := r.dial()
	c.send("POST /path HTTP/1.1\r\nHost: host\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 100000))
	if _, body := c.answer("POST"); body != "no" {
		t.Errorf("body %q", body)
	}
	c.send(strings.Repeat("x", 1000))
	if rec := r.record(); rec.Path != "/path" || rec.Host != "host" || rec.Code != 403 || rec.Duration > lingerTime {
		t.Errorf("record = %+v", rec)
	}
	c.closed()
}

// Half a close may wait for its answer.
func TestAHalfCloseBeforeTheAnswer(t *testing.T) {
	release := make(chan struct{})
	address, _ := answering(t, func(asked) string { <-release; return okAnswer })
	r := newRig(t, address, nil)
	c := r.dial()
	c.send(get())
	_ = c.CloseWrite()
	time.Sleep(2 * sweepEvery) // the sweep may have looked
	close(release)
	c.want(okAnswer)
	c.closed()
	if rec := r.record(); rec.Flags != "" {
		t.Errorf("record = %+v", rec)
	}
}

func TestADownstreamThatLeaves(t *testing.T) {
	for name, send := range map[string]string{
		"in a body": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhel", "in a chunk": post("5\r\nhel"),
	} {
		address := rawUpstream(t, func(n int, c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
		r := newRig(t, address, nil)
		c := r.dial()
		c.send(send)
		c.Close()
		if rec := r.record(); rec.Flags != vocab.FlagDownstreamTermination || rec.Code != 0 {
			t.Errorf("%s: record = %+v, want DC", name, rec)
		}
	}
}

// Malformed chunks are refused whether the upstream has got a part or not.
func TestMalformedChunksInTheMiddle(t *testing.T) {
	address := rawUpstream(t, func(n int, c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	r := newRig(t, address, nil)
	c := r.dial()
	c.send(post("5\r\nhello\r\n"))
	c.send("zz\r\n")
	if status := c.status("POST"); status != 400 {
		t.Errorf("status %d", status)
	}
	c.closed()
	if rec, reason := r.record(), r.reason(); rec.Flags != vocab.FlagDownstreamProtocol || rec.Code != 400 || reason != "chunk_size" {
		t.Errorf("reason %s, record = %+v", reason, rec)
	}
}

// Large bodies pass in either direction through memory of a fixed size.
func TestLargeBodiesTakeNoMemory(t *testing.T) {
	const size = 64 << 20
	address := rawUpstream(t, func(n int, c *net.TCPConn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		read, _ := io.Copy(io.Discard, req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Read: %d\r\nContent-Length: %d\r\n\r\n", read, size)
		_, _ = io.CopyN(c, zeros{}, size)
	})
	r := newRig(t, address, nil)
	c := r.dial()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", size))
	if _, err := io.CopyN(struct{ io.Writer }{c}, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if err != nil || n != size || resp.Header.Get("X-Read") != fmt.Sprint(size) {
		t.Errorf("%d bytes down, %s up: %v", n, resp.Header.Get("X-Read"), err)
	}
	runtime.ReadMemStats(&after)
	if grew := after.TotalAlloc - before.TotalAlloc; grew > 4<<20 {
		t.Errorf("%d bytes are allocated for bodies of %d", grew, size)
	}
	if rec := r.record(); rec.BytesIn < size || rec.BytesOut < size {
		t.Errorf("record = %+v", rec)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A head may be as large as the limit and no larger.
func TestHeadsAtTheirLimit(t *testing.T) {
	for _, limit := range []int{64 << 10, 1 << 20} {
		address, got := answering(t, alwaysOK)
		r := newRig(t, address, func(o *Options) { o.MaxHeaderBytes = limit })
		fill := limit - len(get("X: "))
		c := r.dial()
		send := get("X: " + strings.Repeat("x", fill))
		c.send(send)
		c.want(okAnswer)
		if a := take(t, got); a.raw != send {
			t.Errorf("a head of %d bytes is changed to one of %d", len(send), len(a.raw))
		}
		c = r.dial()
		_, err := io.WriteString(c, get("X: "+strings.Repeat("x", fill+1)))
		if status := c.status("GET"); status != 431 || err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("one byte more: status %d, %v", status, err)
		}
		if reason := r.reason(); reason != "header_too_large" {
			t.Errorf("reason %q", reason)
		}
	}
}
