package http1

import (
	"io"
	"net"
	"testing"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
)

const switching = "HTTP/1.1 101 Switching Protocols\r\nSec-X: 1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"

// echo answers an upgrade, says hello in the same write, and echoes.
func echo(t *testing.T) string {
	return rawUpstream(t, func(n int, c *net.TCPConn) {
		in := newReader(c)
		if _, ok := in.next(n); !ok {
			return
		}
		io.WriteString(c, switching+"hello ")
		_, _ = io.Copy(struct{ io.Writer }{c}, in.in)
	})
}

func TestAnUpgradeWithEarlyBytesBothWays(t *testing.T) {
	r := newRig(t, echo(t), nil)
	for _, head := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nabc",
	} {
		c := r.dial()
		c.send(head + "early ")
		c.want(switching + "hello early ")
		c.send("late")
		c.want("late")
		_ = c.CloseWrite()
		c.closed()
		if rec := r.record(); rec.Code != 101 || rec.Flags != "" || rec.BytesIn != uint64(len(head)+len("early late")) || rec.BytesOut != uint64(len(switching)+len("hello early late")) {
			t.Errorf("record = %+v", rec)
		}
	}
}

// An upstream that switches while the request's body is still to come would
// leave two readers of the same bytes.
func TestAnUpgradeInTheMiddleOfABodyIsRefused(t *testing.T) {
	address := rawUpstream(t, func(n int, c *net.TCPConn) {
		b := make([]byte, 1)
		_, _ = c.Read(b)
		io.WriteString(c, switching)
		_, _ = io.Copy(io.Discard, c)
	})
	r := newRig(t, address, nil)
	c := r.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhel")
	if status := c.status("POST"); status != 502 {
		t.Errorf("status %d", status)
	}
	c.closed()
	if rec := r.record(); rec.Flags != vocab.FlagUpstreamProtocol {
		t.Errorf("record = %+v", rec)
	}
}

func TestCONNECT(t *testing.T) {
	r := newRig(t, rawUpstream(t, func(n int, c *net.TCPConn) {
		io.WriteString(c, "server first ")
		_, _ = io.Copy(struct{ io.Writer }{c}, c)
	}), nil)
	c := r.dial()
	const head = "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"
	c.send(head + "early ")
	c.want("HTTP/1.1 200 OK\r\n\r\n")
	got := make([]byte, len("server first early "))
	if _, err := io.ReadFull(c.in, got); err != nil {
		t.Fatal(err)
	}
	_ = c.CloseWrite()
	c.closed()
	if rec := r.record(); rec.BytesIn != uint64(len("early ")) || rec.BytesOut != uint64(len(got)) || rec.Protocol != "tcp" || rec.Code != 200 {
		t.Errorf("record = %+v", rec)
	}
}

func TestARefusedCONNECTEndsTheConnection(t *testing.T) {
	r := newRig(t, "127.0.0.1:1", nil)
	c := r.dial()
	c.send("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n")
	resp, _ := c.answer("GET")
	if resp.StatusCode != 503 || !resp.Close {
		t.Errorf("status %d, close %v", resp.StatusCode, resp.Close)
	}
	c.closed()
	r.handler.reply = &exchange.Reply{Status: 403, Body: "no"}
	c = r.dial()
	c.send("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n")
	if resp, _ := c.answer("GET"); resp.StatusCode != 403 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

type ignored struct{}

func (ignored) Done(exchange.Outcome) {}

// A caller that was refused a tunnel keeps its connection for a while. The memory
// that its record's texts are in must not serve another one meanwhile.
func TestTheRecordOfARefusedTunnelIsOfItsRequest(t *testing.T) {
	address, _ := answering(t, func(asked) string {
		return "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
	})
	r := newRig(t, address, nil)
	r.handler.target.Endpoint = ignored{}
	var callers []*client
	for range 8 {
		c := r.dial()
		c.send("CONNECT first:80 HTTP/1.1\r\nHost: first:80\r\nUser-Agent: kept\r\n\r\n")
		if status := c.status("GET"); status != 503 {
			t.Errorf("status %d", status)
		}
		callers = append(callers, c)
	}
	for _, c := range callers {
		c.Close()
		if rec := r.record(); rec.Host != "first:80" || rec.UserAgent != "kept" {
			t.Errorf("the record is of host %q and user agent %q", rec.Host, rec.UserAgent)
		}
	}
}
