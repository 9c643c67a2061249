package http1

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

// A kept connection that its upstream closed is no failure: the request goes out
// once more, on a new connection, and not again if that fails too.
func TestAKeptConnectionThatWasClosedIsRetriedOnce(t *testing.T) {
	for _, again := range []bool{true, false} {
		got := make(chan asked, 16)
		address := rawUpstream(t, func(n int, c *net.TCPConn) {
			in := newReader(c)
			for i := 0; ; i++ {
				a, ok := in.next(n)
				if !ok {
					return
				}
				got <- a
				if n == 0 && i == 1 || n > 0 && !again {
					return // it has read the request and does not answer
				}
				io.WriteString(c, okAnswer)
			}
		})
		r := newRig(t, address, nil)
		c := r.dial()
		c.send(get())
		c.want(okAnswer)
		r.record()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
		want := 200
		if !again {
			want = 503
		}
		if status := c.status("POST"); status != want {
			t.Errorf("status %d, want %d", status, want)
		}
		if rec := r.record(); rec.Attempts != 2 || (rec.Flags == "") != again {
			t.Errorf("record = %+v", rec)
		}
		if len(got) != 3 {
			t.Errorf("%d requests came upstream, want 3", len(got))
		}
		if len(r.handler.failures) != (want-200)/303 {
			t.Errorf("the handler was asked %d times", len(r.handler.failures))
		}
	}
}

// A body that left cannot be sent again.
func TestABodyThatLeftIsNotRetried(t *testing.T) {
	address := rawUpstream(t, func(n int, c *net.TCPConn) {
		in := newReader(c)
		if _, ok := in.next(n); ok {
			io.WriteString(c, okAnswer)
			_, _ = http.ReadRequest(in.in)
		}
	})
	r := newRig(t, address, nil)
	r.handler.retries = 5
	c := r.dial()
	c.send(get())
	c.want(okAnswer)
	r.record()
	c.send(post("5\r\nhel"))
	if status := c.status("POST"); status != 503 {
		t.Errorf("status %d", status)
	}
	if rec := r.record(); rec.Attempts != 1 || rec.Flags != vocab.FlagUpstreamTermination || len(r.handler.failures) != 0 {
		t.Errorf("record = %+v, %d retries", rec, len(r.handler.failures))
	}
	c.closed()
}

// An upstream that refuses a large body with an answer and closes is heard.
func TestAnUpstreamThatDiesInABody(t *testing.T) {
	address := rawUpstream(t, func(n int, c *net.TCPConn) {
		_, _ = http.ReadRequest(newReader(c).in)
		_ = c.SetLinger(0) // a reset
	})
	r := newRig(t, address, nil)
	c := r.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhello")
	if status := c.status("POST"); status != 503 {
		t.Errorf("status %d", status)
	}
	if rec := r.record(); rec.Flags != vocab.FlagUpstreamTermination {
		t.Errorf("record = %+v", rec)
	}
	c.closed()
}

func TestASlowHeadIsAnsweredWith408(t *testing.T) {
	r := newRig(t, "127.0.0.1:1", func(o *Options) { o.HeadTimeout = time.Millisecond })
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHo")
	if status := c.status("GET"); status != 408 {
		t.Errorf("status %d", status)
	}
	if reason := r.reason(); reason != "head_timeout" {
		t.Errorf("reason %q", reason)
	}
	c.closed()
}

func TestASilentConnectionIsClosedWithoutAWord(t *testing.T) {
	r := newRig(t, "127.0.0.1:1", func(o *Options) { o.DownstreamIdle = time.Millisecond })
	r.dial().closed()
	if len(r.refused) != 0 {
		t.Error("silence is counted")
	}
}

func TestASilentStreamEnds(t *testing.T) {
	for ask, want := range map[string]int{get(): 504, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel": 408} {
		address := rawUpstream(t, func(n int, c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
		r := newRig(t, address, func(o *Options) { o.StreamIdle = time.Millisecond })
		c := r.dial()
		c.send(ask)
		if status := c.status("GET"); status != want {
			t.Errorf("status %d, want %d", status, want)
		}
		if rec := r.record(); rec.Flags != vocab.FlagStreamIdle {
			t.Errorf("record = %+v, want SI", rec)
		}
		c.closed()
	}
}

// The time of a try is its head's; the body may take longer.
func TestTheTimeOfATryEndsWithTheHead(t *testing.T) {
	const try = 300 * time.Millisecond
	hang := make(chan struct{})
	address := rawUpstream(t, func(n int, c *net.TCPConn) {
		a, ok := newReader(c).next(n)
		if !ok {
			return
		}
		if strings.HasPrefix(a.raw, "GET /slow") {
			<-hang
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
		time.Sleep(try * 3 / 2)
		io.WriteString(c, "lf")
	})
	r := newRig(t, address, nil)
	r.handler.target.Timeouts.PerTry = try
	c := r.dial()
	c.send(get())
	c.want("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhalf")
	if rec := r.record(); rec.Flags != "" {
		t.Errorf("record = %+v", rec)
	}
	c.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	if status := c.status("GET"); status != 504 {
		t.Errorf("status %d", status)
	}
	close(hang)
	if rec := r.record(); rec.Flags != vocab.FlagUpstreamTimeout {
		t.Errorf("record = %+v, want UT", rec)
	}
	if len(r.handler.failures) != 1 || r.handler.failures[0].Failure != exchange.Timeout {
		t.Errorf("failures %+v", r.handler.failures)
	}
}

func TestDrainTellsWithTheNextAnswer(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{})
	address, _ := answering(t, func(asked) string { close(arrived); <-release; return okAnswer })
	r := newRig(t, address, nil)
	c := r.dial()
	c.send(get())
	<-arrived
	r.server.Drain(time.Second)
	close(release)
	c.want("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: close\r\n\r\nok")
	c.closed()
}

// Whatever a connection is at, it ends with the context.
func TestAnAbortEndsARequestThatIsStillDialling(t *testing.T) {
	dialling := make(chan struct{})
	address := rawUpstream(t, func(n int, c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	var r *rig
	r = newRig(t, address, func(o *Options) {
		o.Dial = func(context.Context, exchange.Target) (net.Conn, error) {
			close(dialling)
			r.cancel()
			for r.server.firedOnes() == 0 {
				time.Sleep(time.Millisecond)
			}
			return net.Dial("tcp", address)
		}
	})
	c := r.dial()
	c.send(get())
	<-dialling
	if rec := r.record(); rec.Flags != vocab.FlagDownstreamTermination {
		t.Errorf("record = %+v", rec)
	}
	r.stop()
}

// firedOnes counts the connections that were told to end.
func (s *Server) firedOnes() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.timer.fired() {
			n++
		}
	}
	return n
}

// What the handler reads of the answer's head in End is what came, whatever the
// body has done to the buffer.
func TestTheAnswersHeadStaysUntilTheEnd(t *testing.T) {
	address, _ := answering(t, func(asked) string {
		return "HTTP/1.1 200 OK\r\nX-Mark: mark\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("z", 100000)
	})
	r := newRig(t, address, nil)
	end := &ending{decider: r.handler}
	r.server.o.Handler = end
	c := r.dial()
	c.send(get())
	c.answer("GET")
	r.record()
	if end.mark != "mark" {
		t.Errorf("X-Mark is %q", end.mark)
	}
}

type ending struct {
	*decider
	mark string
}

func (e *ending) End(x *exchange.Exchange) {
	e.mark = strings.Clone(x.Response.Get("x-mark"))
	e.decider.End(x)
}

// An upstream may end its direction between two requests and still read: the
// next request goes out on another connection.
func TestAKeptConnectionThatWasHalfClosed(t *testing.T) {
	address := rawUpstream(t, func(n int, c *net.TCPConn) {
		for in := newReader(c); ; {
			if _, ok := in.next(n); !ok {
				return
			}
			io.WriteString(c, okAnswer)
			if n == 0 {
				_ = c.CloseWrite()
				_, _ = io.Copy(io.Discard, c)
				return
			}
		}
	})
	r := newRig(t, address, nil)
	c := r.dial()
	for range 2 {
		c.send(get())
		c.want(okAnswer)
		if rec := r.record(); rec.Code != 200 || rec.Flags != "" {
			t.Errorf("record = %+v", rec)
		}
	}
}

// Half a close may wait for the answer, but not for ever.
func TestAHalfClosedDownstreamIsGivenUp(t *testing.T) {
	address := rawUpstream(t, func(n int, c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) })
	r := newRig(t, address, func(o *Options) { o.HalfClose = time.Millisecond })
	c := r.dial()
	c.send(get())
	_ = c.CloseWrite()
	if rec := r.record(); rec.Flags != vocab.FlagDownstreamTermination || rec.Code != 0 {
		t.Errorf("record = %+v, want DC", rec)
	}
	c.closed()
}

// The handler's retries stop where it says so, and each attempt is told to it.
func TestRetriesAreTheHandlersToGrant(t *testing.T) {
	address := rawUpstream(t, func(int, *net.TCPConn) {}) // closes at once
	r := newRig(t, address, nil)
	r.handler.retries = 2
	c := r.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
	if status := c.status("POST"); status != 503 {
		t.Errorf("status %d", status)
	}
	if rec := r.record(); rec.Attempts != 3 || rec.Flags != vocab.FlagUpstreamTermination || len(r.handler.failures) != 3 {
		t.Errorf("record = %+v, failures %+v", rec, r.handler.failures)
	}
	c.send(get())
	c.status("GET") // its connection goes on
}

// An answer that the policy wants another for is not seen downstream, whatever its
// framing; the last one is.
func TestAnAnswerThatThePolicyNamesIsGivenUp(t *testing.T) {
	for name, refusal := range map[string]string{
		"with a length": "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy",
		"chunked":       "HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n",
		"to the end":    "HTTP/1.1 503 Service Unavailable\r\n\r\nbusy",
		"cut":           "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 400\r\n\r\nbusy",
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			var mu sync.Mutex
			address := rawUpstream(t, func(_ int, c *net.TCPConn) {
				for in := newReader(c); ; {
					if _, ok := in.next(0); !ok {
						return
					}
					mu.Lock()
					asked++
					first := asked == 1
					mu.Unlock()
					answer := okAnswer
					if first {
						answer = refusal
					}
					if _, err := io.WriteString(c, answer); err != nil || first && name == "to the end" {
						return
					}
				}
			})
			r := newRig(t, address, nil)
			r.handler.retries = 1
			c := r.dial()
			c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + get())
			c.want(okAnswer + okAnswer)
			if rec := r.record(); rec.Attempts != 2 || rec.Code != 200 || rec.Flags != "" {
				t.Errorf("record = %+v, want the second attempt's", rec)
			}
			if rec := r.record(); rec.Attempts != 1 || len(r.handler.failures) != 1 || r.handler.failures[0].Status != 503 {
				t.Errorf("record = %+v, failures %+v", rec, r.handler.failures)
			}
		})
	}
}

func TestAnAnswerThatThePolicyDoesNotNameGoesDown(t *testing.T) {
	const refusal = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
	address := rawUpstream(t, func(_ int, c *net.TCPConn) { io.WriteString(c, refusal); io.Copy(io.Discard, c) })
	r := newRig(t, address, nil)
	c := r.dial()
	c.send(get())
	if status := c.status("GET"); status != 503 {
		t.Errorf("status %d, want the upstream's", status)
	}
	if rec := r.record(); rec.Attempts != 1 || rec.Code != 503 || rec.Flags != "" {
		t.Errorf("record = %+v", rec)
	}
}

func TestDrainEndsSilentConnections(t *testing.T) {
	address, _ := answering(t, alwaysOK)
	r := newRig(t, address, nil)
	c := r.dial()
	c.send(get())
	c.want(okAnswer)
	r.server.Drain(time.Second)
	c.closed()
}

// A hand-over must not close a connection whose next request may be on its way.
func TestDrainAnswersAConnectionThatIsSilentForLess(t *testing.T) {
	address, _ := answering(t, alwaysOK)
	r := newRig(t, address, nil)
	c := r.dial()
	c.send(get())
	c.want(okAnswer)
	r.server.Drain(time.Hour)
	time.Sleep(2 * sweepEvery) // the sweep has had its chance
	c.send(get())
	c.want("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: close\r\n\r\nok")
	c.closed()
}
