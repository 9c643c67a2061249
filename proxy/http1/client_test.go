package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// streamServer is a server with nothing but upstream connections.
func streamServer(t *testing.T) *Server {
	t.Helper()
	s := NewServer(Options{
		Gauges: &exchange.Gauges{},
		Dial: func(ctx context.Context, t exchange.Target) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", t.Address)
		},
	})
	t.Cleanup(s.Close)
	return s
}

// scripted is an upstream that answers the n-th request of each connection with
// what answer says, and closes after "".
func scripted(t *testing.T, answer func(conn, n int, r *http.Request, body string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var conns atomic.Int32
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // a hang fails as an error
			conns.Add(1)
			in := bufio.NewReader(c)
			for n := 0; ; n++ {
				r, err := http.ReadRequest(in)
				if err != nil {
					break
				}
				body, _ := io.ReadAll(r.Body)
				text := answer(int(conns.Load()), n, r, string(body))
				if text == "" {
					break
				}
				if _, err := io.WriteString(c, text); err != nil {
					break
				}
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func streamHead(method string, more ...exchange.Field) []exchange.Field {
	return append([]exchange.Field{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "api:80"}, {Name: ":path", Value: "/a?b"},
	}, more...)
}

// askStream makes a request with a body, unless that is empty, and tells all of its
// answer, read in pieces of a few bytes.
func askStream(t *testing.T, s *Server, address, method, body string, trailers []exchange.Field, more ...exchange.Field) (string, error) {
	t.Helper()
	cs, err := s.Open(t.Context(), exchange.Target{Address: address}, streamHead(method, more...), body == "" && trailers == nil)
	if err != nil {
		return "", err
	}
	defer cs.Close()
	if body != "" {
		if _, err := cs.Write([]byte(body)); err != nil {
			return "", err
		}
	}
	if body != "" || trailers != nil {
		if err := cs.End(trailers); err != nil {
			return "", err
		}
	}
	var out strings.Builder
	for status := 0; status < 200; {
		var fields []exchange.Field
		if fields, status, err = cs.Head(); err != nil {
			return out.String(), err
		}
		for _, f := range fields {
			fmt.Fprintf(&out, "%s=%s ", f.Name, f.Value)
		}
	}
	if cs.Ended() {
		out.WriteString("ended ")
	}
	var got bytes.Buffer
	for p := make([]byte, 3); err == nil; {
		var n int
		n, err = cs.Read(p)
		got.Write(p[:n])
	}
	fmt.Fprintf(&out, "[%s]", got.String())
	for _, f := range cs.Trailers() {
		fmt.Fprintf(&out, " %s=%s", f.Name, f.Value)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return out.String(), err
}

func TestClientStreamReadsAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		method, answer, want string
		failure              exchange.Failure
	}{
		"length":        {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: B\r\n\r\nhello", ":status=200 content-length=5 x-a=B [hello]", 0},
		"in pieces":     {"GET", "HTTP/1.1 2|00 OK\r\nContent-Le|ngth: 5\r\n\r|\nhe|llo", ":status=200 content-length=5 [hello]", 0},
		"none":          {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ":status=200 content-length=0 ended []", 0},
		"head":          {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", ":status=200 content-length=5 ended []", 0},
		"no content":    {"GET", "HTTP/1.1 204 No\r\n\r\n", ":status=204 ended []", 0},
		"chunked":       {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhel|lo\r\n1\r\n!\r\n0\r\n\r\n", ":status=200 [hello!]", 0},
		"trailers":      {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n|\r\n", ":status=200 [hi] x-sum=1", 0},
		"close":         {"GET", "HTTP/1.1 200 OK\r\nKeep-Alive: 3\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\nall of it", ":status=200 [all of it]", 0},
		"interim":       {"GET", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", ":status=103 link=a :status=200 content-length=1 [x]", 0},
		"folded":        {"GET", "HTTP/1.1 200 OK\r\n x\r\n\r\n", "", exchange.ProtocolFailure},
		"cut":           {"GET", "HTTP/1.1 200 OK\r\nX-Strength: 9\r\n", "", exchange.Reset},
		"bad chunks":    {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelzz\r\nZ\r\n", ":status=200 [helzz]", exchange.ProtocolFailure},
		"not HTTP":      {"GET", "220 smtp\r\n", "", exchange.ProtocolFailure},
		"unasked 101":   {"GET", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "", exchange.ProtocolFailure},
		"two framings":  {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "", exchange.ProtocolFailure},
		"cut body":      {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", ":status=200 content-length=9 [hello]", exchange.Reset},
		"cut chunks":    {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ":status=200 [hello]", exchange.Reset},
		"nothing":       {"GET", "", "", exchange.Reset},
		"large, length": {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n" + strings.Repeat("x", 40000), ":status=200 content-length=40000 [" + strings.Repeat("x", 40000) + "]", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := askStream(t, streamServer(t), says(t, tt.answer), tt.method, "", nil)
			var failed *exchange.StreamError
			if errors.As(err, &failed) != (tt.failure != 0) || failed != nil && failed.Failure != tt.failure {
				t.Errorf("error %v (%T), want failure %d", err, err, tt.failure)
			}
			if got != tt.want {
				t.Errorf("got %.200q, want %.200q", got, tt.want)
			}
		})
	}
}

// says is an upstream that says its text once, in pieces between bars, and closes.
func says(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			for piece := range strings.SplitSeq(text, "|") {
				_, _ = io.WriteString(c, piece) // the stream may have heard enough
			}
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func TestClientStreamWritesRequests(t *testing.T) {
	address := scripted(t, func(_, _ int, r *http.Request, body string) string {
		told := fmt.Sprintf("%s %s %s %v %s %v %q %v", r.Method, r.RequestURI, r.Host, r.TransferEncoding, r.Header.Get("Content-Length"), r.Header["Cookie"], body, r.Trailer)
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(told), told)
	})
	s := streamServer(t)
	for _, tt := range []struct {
		method, body string
		trailers     []exchange.Field
		more         []exchange.Field
		want         string
	}{
		{"GET", "", nil, nil, `GET /a?b api:80 []  [] "" map[]`},
		{"POST", "", nil, nil, `POST /a?b api:80 [] 0 [] "" map[]`},
		{"GET", "", nil, []exchange.Field{{Name: "cookie", Value: "a=1"}, {Name: "cookie", Value: "b=2"}}, `GET /a?b api:80 []  [a=1; b=2] "" map[]`},
		{"POST", "hello", nil, []exchange.Field{{Name: "content-length", Value: "5"}}, `POST /a?b api:80 [] 5 [] "hello" map[]`},
		{"POST", "hello", nil, nil, `POST /a?b api:80 [chunked]  [] "hello" map[]`},
		{"POST", "hello", []exchange.Field{{Name: "x-sum", Value: "1"}}, []exchange.Field{{Name: "trailer", Value: "x-sum"}}, `POST /a?b api:80 [chunked]  [] "hello" map[X-Sum:[1]]`},
	} {
		got, err := askStream(t, s, address, tt.method, tt.body, tt.trailers, tt.more...)
		if err != nil || !strings.HasSuffix(got, "["+tt.want+"]") {
			t.Errorf("%v; got %s, want %s", err, got, tt.want)
		}
	}
	if _, n := s.Saturation(); n != 1 || s.o.Gauges.PoolOpen.Load() != 1 {
		t.Errorf("%d idle connections, want the one that carried all", n)
	}
}

// TestClientStreamAsksAgain: a kept connection that its upstream has closed says
// nothing of the upstream.
func TestClientStreamAsksAgain(t *testing.T) {
	address := scripted(t, func(conn, n int, _ *http.Request, _ string) string {
		if conn == 1 && n == 1 {
			return ""
		}
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%d %d", conn, n)
	})
	s := streamServer(t)
	for _, want := range []string{"[1 0]", "[2 0]", "[2 1]"} {
		if got, err := askStream(t, s, address, "GET", "", nil); err != nil || !strings.HasSuffix(got, want) {
			t.Errorf("%q %v, want %s", got, err, want)
		}
	}
}

// TestClientStreamCloses from outside, whatever it waits for.
func TestClientStreamCloses(t *testing.T) {
	began, release := make(chan struct{}, 8), make(chan struct{})
	address := scripted(t, func(int, int, *http.Request, string) string { began <- struct{}{}; <-release; return "" })
	s := streamServer(t)
	cs, err := s.Open(t.Context(), exchange.Target{Address: address}, streamHead("GET"), true)
	if err != nil {
		t.Fatal(err)
	}
	<-began
	go cs.Close()
	if _, _, err := cs.Head(); err == nil {
		t.Error("a closed stream had an answer")
	}
	cs.Close()
	if _, err := cs.Write([]byte("x")); !errors.Is(err, errStreamClosed) {
		t.Errorf("error %v", err)
	}
	close(release)
	if n := s.o.Gauges.PoolOpen.Load(); n != 0 {
		t.Errorf("%d connections in use", n)
	}
}
