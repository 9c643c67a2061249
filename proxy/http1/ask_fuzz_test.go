package http1

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/telemesh/telemesh/proxy/netio"
)

// canned is a connection that answers with fixed bytes, a few at a time.
type canned struct {
	net.Conn
	answer *bytes.Reader
	few    int
}

func (c canned) Write(p []byte) (int, error) { return len(p), nil }

func (c canned) Read(p []byte) (int, error) { return c.answer.Read(p[:min(len(p), c.few)]) }

// FuzzAnswerToConnect: whatever comes, it is refused within bounds, or head and
// tunnel together are what came.
func FuzzAnswerToConnect(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\n\r\n220 hello", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\ncontent-length: 3\r\n\r\nno\n",
		"HTTP/1.0 200\r\nConnection: x-a\r\nX-A: b\r\n\r\n", "220 hello\r\n", "HTTP/1.1 101 \r\n\r\n", "HTTP/1.1 200 OK\n\n",
	} {
		f.Add([]byte(seed), uint8(255))
		f.Add([]byte(seed), uint8(1))
	}
	f.Fuzz(func(t *testing.T, answer []byte, few uint8) {
		const most = 1 << 10
		c := netio.New(canned{answer: bytes.NewReader(answer), few: int(few) + 1}, nil)
		m := new(message)
		if err := readAnswer(c, []byte("CONNECT a:1 HTTP/1.1\r\n\r\n"), m, most); err != nil {
			return
		}
		if m.status < 200 || m.status > 999 || m.size > most || m.size != len(m.raw) {
			t.Fatalf("status %d, %d bytes of head, %d kept", m.status, m.size, len(m.raw))
		}
		_, _ = m.Get("x-a"), m.appendFields(m.appendStatus(nil)) // read without a panic
		rest, err := io.ReadAll(c)
		if err != nil || !bytes.HasSuffix(answer, append(bytes.Clone(m.raw), rest...)) {
			t.Fatalf("head %q and tunnel %q are not the end of %q", m.raw, rest, answer)
		}
	})
}
