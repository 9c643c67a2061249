package http1

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestResponses lets an upstream give each answer, at once and byte by byte.
// What a client of net/http makes of the same bytes says whether it is an answer
// at all, and every difference has a reason in the table.
func TestResponses(t *testing.T) {
	script := make(chan func(net.Conn) bool, 1)
	got := make(chan asked, 16)
	address := rawUpstream(t, func(n int, c *net.TCPConn) {
		for in := newReader(c); ; {
			a, ok := in.next(n)
			if !ok {
				return
			}
			got <- a
			if answer := <-script; !answer(c) {
				return
			}
		}
	})
	for group, cases := range map[string][]responseCase{
		"relayed": relayedAnswers, "interim": interimAnswers, "chunks": chunkedAnswers, "nonsense": nonsenseAnswers,
	} {
		for i := range cases {
			c := &cases[i]
			t.Run(group+"/"+c.name, func(t *testing.T) {
				c.run(t, address, script, got, false)
				if len(c.answer) < 500 && !c.excess {
					c.run(t, address, script, got, true)
				}
				c.compare(t)
			})
		}
	}
}

func (rc *responseCase) run(t *testing.T, address string, script chan func(net.Conn) bool, got chan asked, slowly bool) {
	t.Helper()
	r := newRig(t, address, nil) // without a kept connection
	defer r.stop()
	ask := rc.ask
	if ask == "" {
		ask = get()
	}
	c := r.dial()
	defer c.Close()
	script <- func(up net.Conn) bool { return rc.play(up, slowly) }
	c.send(ask)
	method, _, _ := strings.Cut(ask, " ")
	switch {
	case rc.status != 0:
		c.want(rc.want)
		if status := c.status(method); status != rc.status {
			t.Fatalf("status %d, want %d", status, rc.status)
		}
	case rc.want == "":
		c.want(rc.answer)
	default:
		c.want(rc.want)
	}
	if rc.closed {
		c.closed()
	}
	first := take(t, got).connection
	if rec := r.record(); rec.Flags != rc.flag {
		t.Errorf("flag %q (%s), want %q", rec.Flags, rec.Detail, rc.flag)
	}
	if rc.closed {
		c.Close()
		c = r.dial()
		defer c.Close()
	}
	script <- func(up net.Conn) bool { _, err := io.WriteString(up, okAnswer); return err == nil }
	c.send(get())
	c.want(okAnswer)
	if fresh := take(t, got).connection != first; fresh != rc.fresh {
		t.Errorf("a fresh upstream connection: %v, want %v", fresh, rc.fresh)
	}
	r.record()
}

// play gives the answer, and reports whether the connection stays.
func (rc *responseCase) play(up net.Conn, slowly bool) bool {
	if slowly {
		for i := range len(rc.answer) {
			if _, err := io.WriteString(up, rc.answer[i:i+1]); err != nil {
				return false // it was refused before its end
			}
		}
		return !rc.ends
	}
	_, err := io.WriteString(up, rc.answer)
	return err == nil && !rc.ends
}

// compare asks net/http about the same bytes.
func (rc *responseCase) compare(t *testing.T) {
	t.Helper()
	method, _, _ := strings.Cut(rc.ask, " ")
	in := bufio.NewReader(strings.NewReader(rc.answer))
	var err error
	for status := 100; err == nil && status/100 == 1; {
		var resp *http.Response
		if resp, err = http.ReadResponse(in, &http.Request{Method: method}); err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if status = resp.StatusCode; status == 101 {
				break
			}
		}
	}
	if same := (err == nil) == (rc.flag == ""); same != (rc.differs == "") {
		t.Errorf("net/http says %v, our flag is %q; the reason in the table is %q", err, rc.flag, rc.differs)
	}
}
