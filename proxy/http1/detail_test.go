package http1

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// ended is what is left of an exchange for those that keep its details.
type ended struct {
	request, response string
	forms             [2]exchange.HeadForm
	tries             []exchange.Try
}

// details has the rig's handler tell of each exchange that ends.
func (r *rig) details() <-chan ended {
	got := make(chan ended, 16)
	r.handler.end = func(x *exchange.Exchange) {
		e := ended{tries: slices.Clone(x.Tries)}
		for i, h := range []exchange.Header{x.Request, x.Response} {
			if h == nil {
				continue
			}
			b, form, whole := h.AppendHead(nil, 8<<10)
			if !whole {
				r.t.Errorf("head of %d bytes is not whole", len(b))
			}
			e.forms[i] = form
			if i == 0 {
				e.request = string(b)
			} else {
				e.response = string(b)
			}
		}
		got <- e
	}
	return got
}

// The heads are those that came, whatever the handler and the relay did to them:
// bodies, chunks and what is read behind them must not run over them.
func TestTheEndSeesTheHeadsAsTheyCame(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nServer: a\r\nTransfer-Encoding: chunked\r\nConnection: x-gone\r\nX-Gone: b\r\n\r\n"
	body := strings.Repeat("x", 100_000)
	address, _ := answering(t, func(asked) string { return answer + "186a0\r\n" + body + "\r\n0\r\n\r\n" })
	r := newRig(t, address, nil)
	r.handler.begin = func(x *exchange.Exchange) { x.Request.Del("cookie"); x.Request.Set("x-request-id", "mine") }
	got := r.details()
	c := r.dial()
	const head = "POST /p?q HTTP/1.1\r\nHost: a\r\nCookie: b=c\r\nTransfer-Encoding: chunked\r\n\r\n"
	c.send(head + "186a0\r\n" + body + "\r\n0\r\n\r\n")
	if _, b := c.answer("POST"); len(b) != len(body) {
		t.Fatalf("%d bytes of the body", len(b))
	}
	e := <-got
	if e.request != head || e.response != answer || e.forms != [2]exchange.HeadForm{exchange.HeadLines, exchange.HeadLines} {
		t.Errorf("request %q\nresponse %q", e.request, e.response)
	}
	if len(e.tries) != 1 || e.tries[0].Upstream != address || e.tries[0].Status != 200 || e.tries[0].Failure != exchange.Success ||
		e.tries[0].Connect <= 0 || e.tries[0].FirstByte <= 0 || e.tries[0].Duration < e.tries[0].FirstByte {
		t.Errorf("tries %+v", e.tries)
	}
	c.send(get())
	c.answer("GET")
	if e = <-got; len(e.tries) != 1 || e.tries[0].Connect != 0 {
		t.Errorf("over a kept connection: %+v", e.tries)
	}
}

func TestTheEndSeesEachAttempt(t *testing.T) {
	address := rawUpstream(t, func(int, *net.TCPConn) {}) // closes at once
	r := newRig(t, address, nil)
	r.handler.retries = 2
	got := r.details()
	c := r.dial()
	c.send(get())
	if status := c.status("GET"); status != 503 {
		t.Errorf("status %d", status)
	}
	e := <-got
	if len(e.tries) != 3 {
		t.Fatalf("tries %+v", e.tries)
	}
	for i, one := range e.tries {
		if one.Failure != exchange.Reset || one.Status != 0 || !strings.Contains(one.Detail, "connection_termination") || i > 0 && one.Start <= e.tries[i-1].Start {
			t.Errorf("try %d: %+v", i, one)
		}
	}
	if e.forms[1] != exchange.HeadList || !strings.Contains(e.response, "content-type") {
		t.Errorf("the sidecar's own answer: form %d %q", e.forms[1], e.response)
	}
}

// A connection that was closed meanwhile is asked once more, which is an attempt.
func TestTheEndSeesAStaleConnection(t *testing.T) {
	closing := make(chan struct{})
	address := rawUpstream(t, func(n int, c *net.TCPConn) {
		in := make([]byte, 1<<10)
		if _, err := c.Read(in); err == nil {
			_, _ = io.WriteString(c, okAnswer)
		}
		if n == 0 {
			_, _ = c.Read(in) // takes the second request, and answers nothing
			return
		}
		<-closing
	})
	defer close(closing)
	r := newRig(t, address, nil)
	got := r.details()
	c := r.dial()
	c.send(get())
	c.status("GET")
	<-got
	c.send(get())
	if status := c.status("GET"); status != 200 {
		t.Errorf("status %d", status)
	}
	select {
	case e := <-got:
		if len(e.tries) != 2 || e.tries[0].Failure != exchange.Reset || e.tries[1].Status != 200 {
			t.Errorf("tries %+v", e.tries)
		}
	case <-time.After(patience):
		t.Fatal("no end")
	}
}
