package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// played is a stream that has its answer ready, or never has one.
type played struct {
	heads    [][]exchange.Field
	body     string
	trailers []exchange.Field
	never    bool

	wrote  bytes.Buffer
	ended  []exchange.Field
	closed chan struct{}
}

func (s *played) Write(p []byte) (int, error) { return s.wrote.Write(p) }
func (s *played) End(trailers []exchange.Field) error {
	s.wrote.WriteString("<end>")
	s.ended = trailers
	return nil
}

func (s *played) Head() ([]exchange.Field, int, error) {
	if s.never {
		<-s.closed
		return nil, 0, errors.New("closed")
	}
	h := s.heads[0]
	s.heads = s.heads[1:]
	status := 0
	for _, c := range h[0].Value {
		status = status*10 + int(c-'0')
	}
	return h, status, nil
}

func (s *played) Ended() bool { return s.body == "" && s.trailers == nil }

func (s *played) Read(p []byte) (int, error) {
	n := copy(p, s.body)
	if s.body = s.body[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (s *played) Trailers() []exchange.Field { return s.trailers }

func (s *played) Close() {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
}

// over is a connection to a played answer, and the head that it was asked with.
func over(t *testing.T, s *played) (*overHTTP2, *[]exchange.Field) {
	t.Helper()
	s.closed = make(chan struct{})
	asked := new([]exchange.Field)
	c := newOverHTTP2(t.Context(), func(_ context.Context, _ exchange.Target, fields []exchange.Field, end bool) (exchange.Stream, error) {
		if *asked = fields; end {
			*asked = append(*asked, exchange.Field{Name: "<end>"})
		}
		return s, nil
	}, exchange.Target{Protocol: exchange.HTTP2})
	t.Cleanup(func() { _ = c.Close() })
	return c, asked
}

func named(name, value string) exchange.Field { return exchange.Field{Name: name, Value: value} }

// TestOverHTTP2Answers: whatever the size of the reads, the same HTTP/1 comes.
func TestOverHTTP2Answers(t *testing.T) {
	ok := []exchange.Field{named(":status", "200"), named("x-a", "b")}
	for name, tt := range map[string]struct {
		method string
		played played
		want   string // with all chunks as one
	}{
		"chunks":   {"GET", played{heads: [][]exchange.Field{ok}, body: "hello, hello, hello"}, "200 OK\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\nhello, hello, hello"},
		"empty":    {"GET", played{heads: [][]exchange.Field{ok}}, "200 OK\r\nx-a: b\r\ncontent-length: 0\r\n\r\n"},
		"length":   {"GET", played{heads: [][]exchange.Field{append(ok, named("content-length", "5"))}, body: "hello"}, "200 OK\r\nx-a: b\r\ncontent-length: 5\r\n\r\nhello"},
		"head":     {"HEAD", played{heads: [][]exchange.Field{append(ok, named("content-length", "5"))}}, "200 OK\r\nx-a: b\r\ncontent-length: 5\r\n\r\n"},
		"trailers": {"GET", played{heads: [][]exchange.Field{ok}, body: "hi", trailers: []exchange.Field{named("x-sum", "1")}}, "200 OK\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\nhi<x-sum: 1>"},
		"announced": {"GET", played{heads: [][]exchange.Field{append(ok, named("content-length", "2"), named("trailer", "x-sum"))}, body: "hi", trailers: []exchange.Field{named("x-sum", "1\r\nx: 2")}},
			"200 OK\r\nx-a: b\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\nhi<x-sum: 1  x: 2>"},
		"interim": {"GET", played{heads: [][]exchange.Field{{named(":status", "103"), named("link", "a")}, ok}}, "103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 0\r\n\r\n"},
	} {
		for _, size := range []int{1, 2, 11, 12, 13, 15, 16 << 10} {
			p := tt.played
			c, _ := over(t, &p)
			if _, err := c.Write([]byte(tt.method + " / HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			var err error
			for buf := make([]byte, size); err == nil; {
				var n int
				n, err = c.Read(buf)
				got.Write(buf[:n])
			}
			if text := unchunked(t, got.String()); !errors.Is(err, io.EOF) || text != "HTTP/1.1 "+tt.want {
				t.Errorf("%s in reads of %d: %v\n%q\nwant\n%q", name, size, err, text, tt.want)
			}
		}
	}
}

// unchunked has the data of a chunked body alone, and its trailers in brackets.
func unchunked(t *testing.T, text string) string {
	head, body, ok := strings.Cut(text, "chunked\r\n\r\n")
	if !ok {
		return text
	}
	var out strings.Builder
	c := chunks{
		onData:    func(p []byte) { out.Write(p) },
		onTrailer: func(name, value []byte) { out.WriteString("<" + string(name) + ": " + string(value) + ">") },
	}
	if n, done, err := c.next([]byte(body)); err != nil || !done || n != len(body) {
		t.Errorf("%q: %d of %d bytes, %v, %v", body, n, len(body), done, err)
	}
	return head + "chunked\r\n\r\n" + out.String()
}

func TestOverHTTP2Requests(t *testing.T) {
	for _, tt := range []struct{ head, body, fields, wrote, trailers string }{
		{"GET /a?b HTTP/1.1\r\nHost: api:80\r\nX-Ab: c\r\n", "", ":method=GET :scheme=http :authority=api:80 :path=/a?b x-ab=c <end>=", "", ""},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n", "hello", ":method=POST :scheme=http :authority=a :path=/ content-length=5", "hello<end>", ""},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n", "5;x\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n", ":method=POST :scheme=http :authority=a :path=/", "hello!<end>", "x-sum=1"},
		{"GET / HTTP/1.1\r\nHost: a\r\nconnection: upgrade\r\nUpgrade: websocket\r\nTE: trailers\r\n", "", ":method=GET :scheme=http :authority=a :path=/ te=trailers <end>=", "", ""},
	} {
		for _, size := range []int{1, 3, 100} {
			s := &played{}
			c, asked := over(t, s)
			text := tt.head + "\r\n"
			parts := []string{text + tt.body[:min(size, len(tt.body))]}
			for rest := tt.body[min(size, len(tt.body)):]; rest != ""; rest = rest[min(size, len(rest)):] {
				parts = append(parts, rest[:min(size, len(rest))])
			}
			for _, part := range parts {
				if n, err := c.Write([]byte(part)); n != len(part) || err != nil {
					t.Errorf("%q: %d %v", part, n, err)
				}
			}
			if got := told(*asked); got != tt.fields || s.wrote.String() != tt.wrote || told(s.ended) != tt.trailers {
				t.Errorf("%q: head %q, body %q, trailers %q", tt.head, got, s.wrote.String(), told(s.ended))
			}
		}
	}
}

func told(fields []exchange.Field) string {
	var out []string
	for _, f := range fields {
		out = append(out, f.Name+"="+f.Value)
	}
	return strings.Join(out, " ")
}

// TestOverHTTP2Deadlines end a wait, set before it or during it.
func TestOverHTTP2Deadlines(t *testing.T) {
	var _ net.Conn = (*overHTTP2)(nil)
	for name, set := range map[string]func(c *netio.Conn){
		"before": func(c *netio.Conn) { _ = c.SetReadDeadline(time.Now().Add(time.Millisecond)) },
		"past":   func(c *netio.Conn) { _ = c.SetDeadline(past) },
		"during": func(c *netio.Conn) {
			go func() { _ = c.SetDeadline(past) }()
		},
	} {
		raw, _ := over(t, &played{never: true})
		c := netio.New(raw, nil)
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		set(c)
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	unasked, _ := over(t, &played{})
	_ = unasked.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := unasked.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("before a request: error %v", err)
	}
	failed := &exchange.StreamError{Failure: exchange.ConnectFailure, Cause: "connection_failure"}
	c := newOverHTTP2(t.Context(), func(context.Context, exchange.Target, []exchange.Field, bool) (exchange.Stream, error) {
		return nil, failed
	}, exchange.Target{})
	defer c.Close()
	_, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	_, again := c.Read(make([]byte, 1))
	if !errors.Is(err, failed) || !errors.Is(again, failed) {
		t.Errorf("errors %v and %v", err, again)
	}
}
