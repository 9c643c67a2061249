package http1

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestRequests sends each request at once and byte by byte: what becomes of it
// must not depend on how it arrives. A server of net/http says what it makes of
// the same bytes, and every difference has a reason in the table.
func TestRequests(t *testing.T) {
	address, got := answering(t, alwaysOK)
	r := newRig(t, address, nil)
	oracle := netHTTP(t)
	for group, cases := range map[string][]requestCase{
		"request line": requestLines, "host": hosts, "fields": fields, "hop": hops,
		"content length": lengths, "transfer encoding": codings, "chunks": chunkedBodies,
	} {
		for i := range cases {
			c := &cases[i]
			t.Run(group+"/"+c.name, func(t *testing.T) {
				c.run(t, r, got, false)
				if len(c.send) < 1000 {
					c.run(t, r, got, true)
				}
				c.compare(t, oracle)
			})
		}
	}
}

func (rc *requestCase) run(t *testing.T, r *rig, got chan asked, slowly bool) {
	t.Helper()
	r.t = t
	c := r.dial()
	defer rc.drain(r, got)
	defer c.Close()
	if slowly {
		for i := range len(rc.send) {
			if _, err := io.WriteString(c, rc.send[i:i+1]); err != nil {
				break // it was refused before its end
			}
		}
	} else {
		_, _ = io.WriteString(c, rc.send) // may be refused before its end
	}
	method, _, _ := strings.Cut(strings.TrimLeft(rc.send, "\r\n"), " ")
	if status := c.status(method); status != rc.status {
		t.Fatalf("status %d, want %d (slowly: %v)", status, rc.status, slowly)
	}
	if rc.reason != "" {
		if reason := r.reason(); reason != rc.reason {
			t.Errorf("reason %q, want %q", reason, rc.reason)
		}
	} else {
		rc.checkForwarded(t, got)
		r.record()
	}
	if rc.closed {
		c.closed()
	} else {
		c.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
		c.want(okAnswer)
		takeWhole(t, got)
		r.record()
	}
}

func (rc *requestCase) checkForwarded(t *testing.T, got chan asked) {
	t.Helper()
	want := rc.forwarded
	if want == "" {
		want = rc.send
	}
	if a := takeWhole(t, got); a.raw != want || a.err != nil {
		t.Errorf("upstream got %q (%v)\nwant %q", a.raw, a.err, want)
	}
}

// takeWhole waits for a request that came to its end. Others are what was passed
// on of a body before it proved malformed.
func takeWhole(t *testing.T, got chan asked) asked {
	t.Helper()
	for {
		if a := take(t, got); a.err == nil {
			return a
		}
	}
}

// drain forgets the exchanges that began before their bodies proved malformed.
// What came upstream of them must be incomplete.
func (rc *requestCase) drain(r *rig, got chan asked) {
	for {
		select {
		case a := <-got:
			if a.err == nil {
				r.t.Errorf("upstream got %q", a.raw)
			}
		case <-r.handler.ended:
		case reason := <-r.refused:
			if !r.t.Failed() {
				r.t.Errorf("%s is counted too", reason)
			}
		default:
			return
		}
	}
}

// compare asks net/http about the same bytes.
func (rc *requestCase) compare(t *testing.T, oracle string) {
	t.Helper()
	c, err := net.Dial("tcp", oracle)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	go func() { // ends with the connection
		_, _ = io.WriteString(c, rc.send)
		_ = c.(*net.TCPConn).CloseWrite() // nothing more comes that it could wait for
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	status := 0
	if err == nil {
		status = resp.StatusCode
		resp.Body.Close()
	}
	same := status == rc.status || err != nil && rc.status != 200
	if same != (rc.differs == "") {
		t.Errorf("net/http says %d, we say %d; the reason in the table is %q", status, rc.status, rc.differs)
	}
}

// netHTTP serves with net/http and reads every body.
func netHTTP(t *testing.T) string {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(400)
		}
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}
