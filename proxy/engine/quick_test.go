package engine

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// ask sends a request on a kept connection, in the given parts, and reads its answer.
func ask(t *testing.T, c net.Conn, r *bufio.Reader, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if _, err := io.WriteString(c, p); err != nil {
			t.Fatal(err)
		}
	}
	answer(t, r)
}

func answer(t *testing.T, r *bufio.Reader) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "ok" || resp.StatusCode != 200 {
		t.Fatalf("answer %d %q, %v", resp.StatusCode, body, err)
	}
}

// A connection is quick or slow, holds memory or not, by how its requests follow
// each other; the answers must not show it.
func TestAKeptConnectionServesRequestsAtAnyPace(t *testing.T) {
	r := newRig(t, app(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body) // an error shows at the client
		if req.URL.Path == "/slow" {
			time.Sleep(20 * time.Millisecond)
		}
		_, _ = io.WriteString(w, "ok")
	}))
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(c)
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	slow := "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
	post := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
	for _, pause := range []time.Duration{0, 0, 0, 70 * time.Millisecond, 0, 0, 0, 700 * time.Millisecond, 0, 0, 0} {
		time.Sleep(pause)
		ask(t, c, in, get)
	}
	ask(t, c, in, post+"body")
	ask(t, c, in, post, "bo", "dy")
	ask(t, c, in, "GET / HTTP", "/1.1\r\nHost: a\r\n", "\r\n")
	ask(t, c, in, get)
	ask(t, c, in, get+get+get) // pipelined
	answer(t, in)
	answer(t, in)
	for range 3 { // the second arrives while the first is under way
		if _, err := io.WriteString(c, slow); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
		ask(t, c, in, get)
		answer(t, in)
	}
	time.Sleep(700 * time.Millisecond)
	ask(t, c, in, get)
}

// The end of a caller's direction can come with its last request, where no read
// shows it.
func TestAnEndTogetherWithTheLastRequestIsSeen(t *testing.T) {
	r := newRig(t, app(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	for range 6 {
		c, err := net.Dial("tcp", r.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		in := bufio.NewReader(c)
		const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
		ask(t, c, in, get)
		ask(t, c, in, get)
		if _, err := io.WriteString(c, get); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite() // a failure shows below
		answer(t, in)
		if n, err := in.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%d bytes and %v after the last answer, want the end", n, err)
		}
		_ = c.Close() // it has ended
	}
}
