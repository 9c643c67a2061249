package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// answered is a connection whose other end reads a head, sends answer in pieces
// and then, unless it stays, ends. It returns what the other end read.
func answered(t *testing.T, stays bool, pieces ...string) (*netio.Conn, <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		var head []byte
		for b := make([]byte, 4096); !bytes.HasSuffix(head, []byte("\r\n\r\n")); {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			head = append(head, b[:n]...)
		}
		asked <- string(head)
		for _, p := range pieces {
			if _, err := io.WriteString(c, p); err != nil {
				return
			}
		}
		if stays {
			_, _ = io.Copy(io.Discard, c) // until the test ends
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); l.Close(); <-ended })
	return netio.New(c, nil), asked
}

func TestConnectSendsTheFieldsAndKeepsWhatComesBehindTheAnswer(t *testing.T) {
	c, asked := answered(t, true, "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nX-Peer: b\r\n\r\n220 he", "llo\r\n")
	fields := []exchange.Field{{Name: "x-request-id", Value: "r"}, {Name: "x-peer", Value: "a\r\nevil: 1"}}
	status, header, err := Connect(t.Context(), c, "db:5432", fields, 4096)
	if err != nil || status != 200 || header.Get("x-peer") != "b" || header.Get("link") != "" {
		t.Fatalf("status %d, x-peer %q, %v", status, header.Get("x-peer"), err)
	}
	want := "CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\nx-request-id: r\r\nx-peer: a  evil: 1\r\n\r\n"
	if got := <-asked; got != want {
		t.Errorf("asked %q\nwant %q", got, want)
	}
	b := make([]byte, len("220 hello\r\n"))
	if _, err := io.ReadFull(c, b); string(b) != "220 hello\r\n" || err != nil {
		t.Errorf("the tunnel begins with %q, %v", b, err)
	}
	if header.Set("x-peer", "c"); header.Get("x-peer") != "c" {
		t.Error("the header is not the caller's")
	}
}

func TestConnectReadsAnAnswerByteByByte(t *testing.T) {
	answer := "HTTP/1.1 403 Forbidden\r\nx-verdict: denied\r\n\r\n"
	c, _ := answered(t, true, strings.Split(answer, "")...)
	status, header, err := Connect(t.Context(), c, "db:1", nil, 4096)
	if err != nil || status != 403 || header.Get("x-verdict") != "denied" {
		t.Errorf("status %d, %v", status, err)
	}
}

func TestConnectRefusesWhatIsNoAnswer(t *testing.T) {
	for name, answer := range map[string]string{
		"another protocol":  "220 who are you\r\n",
		"a greeting of TLS": "\x15\x03\x01\x00\x02\x02\x28",
		"half of HTTP":      "HTTP/1.1 2x0 OK\r\n\r\n",
		"an upgrade":        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"a bad field":       "HTTP/1.1 200 OK\r\nbad field\r\n\r\n",
		"two lengths":       "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
		"a long head":       "HTTP/1.1 200 OK\r\nx: " + strings.Repeat("x", 40<<10) + "\r\n\r\n",
		"no end of a head":  "HTTP/1.1 200 OK\r\nx: " + strings.Repeat("x", 40<<10),
		"too many hints":    strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100),
	} {
		c, _ := answered(t, true, answer)
		if status, _, err := Connect(t.Context(), c, "db:1", nil, 32<<10); !IsMalformed(err) {
			t.Errorf("%s: status %d, error %v; want a malformed answer", name, status, err)
		}
	}
}

func TestConnectTellsAnEndFromAnAnswer(t *testing.T) {
	for _, answer := range []string{"", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\n"} {
		c, _ := answered(t, false, answer)
		status, _, err := Connect(t.Context(), c, "db:1", nil, 4096)
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %q: status %d, error %v; want an end", answer, status, err)
		}
	}
}

func TestConnectEndsWithItsContext(t *testing.T) {
	c, asked := answered(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, _, err := Connect(ctx, c, "db:1", nil, 4096); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

func TestConnectAsksForNoNonsense(t *testing.T) {
	c, _ := answered(t, false)
	for _, authority := range []string{"", "db:1 HTTP/1.1\r\nx: y", "db /:1", "user@db:1"} {
		if _, _, err := Connect(t.Context(), c, authority, nil, 4096); !IsMalformed(err) {
			t.Errorf("authority %q: error %v", authority, err)
		}
	}
}
