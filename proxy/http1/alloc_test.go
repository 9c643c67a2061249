package http1

import (
	"context"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

const (
	benchAsk    = "GET /a/b?c=d HTTP/1.1\r\nHost: service\r\nUser-Agent: agent\r\nAccept: */*\r\n\r\n"
	benchAnswer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
)

// silent is a handler that decides and keeps nothing.
type silent struct{ target exchange.Target }

func (s *silent) Begin(_ context.Context, x *exchange.Exchange) (exchange.Target, *exchange.Reply) {
	x.Request.Set("x-request-id", "0123456789abcdef")
	return s.target, nil
}
func (s *silent) Waits() bool { return false }
func (s *silent) Retry(*exchange.Exchange, exchange.Outcome) (exchange.Target, bool) {
	return exchange.Target{}, false
}
func (s *silent) Respond(x *exchange.Exchange) { x.Response.Set("x-served-by", "sidecar") }
func (s *silent) End(*exchange.Exchange)       {}

// answerFixed is an upstream that answers each read and allocates nothing.
func answerFixed(t testing.TB) string {
	return rawUpstream(t, func(n int, c *net.TCPConn) {
		_ = c.SetDeadline(time.Time{})
		in, out := make([]byte, 4<<10), []byte(benchAnswer)
		for {
			if _, err := c.Read(in); err != nil {
				return
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	})
}

// caller is a downstream that allocates nothing.
type caller struct {
	c   net.Conn
	ask []byte
	in  [4 << 10]byte
}

func (r *rig) caller(ask string) *caller {
	return &caller{c: r.dial().TCPConn, ask: []byte(ask)}
}

// call reads until the answer's body, which is "ok".
func (c *caller) call(t testing.TB) {
	if _, err := c.c.Write(c.ask); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; {
		k, err := c.c.Read(c.in[n:])
		if n += k; err != nil {
			t.Fatal(err)
		}
		if n > 2 && c.in[n-2] == 'o' && c.in[n-1] == 'k' {
			return
		}
	}
}

func quietRig(t testing.TB) *rig {
	address := answerFixed(t) // ends after the relay that keeps its connections
	r := newRig(t, address, nil)
	r.server.o.Handler = &silent{target: exchange.Target{Address: address}}
	return r
}

// TestARequestAllocatesNothing counts what relay, client and upstream allocate
// together; the latter two make nothing.
func TestARequestAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r := quietRig(t)
	for name, ask := range map[string]string{
		"GET":     benchAsk,
		"a body":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
		"chunked": post("5\r\nhello\r\n0\r\n\r\n"),
	} {
		c := r.caller(ask)
		for range 200 {
			c.call(t)
		}
		// Not a whole number: a garbage collection empties the pools once.
		if n := allocsPerCall(t, c, 2000); n > 0.2 {
			t.Errorf("%s: %.2f allocations for a request, want 0", name, n)
		}
	}
}

func allocsPerCall(t testing.TB, c *caller, calls int) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range calls {
		c.call(t)
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(calls)
}

// BenchmarkRelay is one request after the other over one connection: the time
// holds four wake-ups, and the client's and the upstream's own calls.
func BenchmarkRelay(b *testing.B) {
	r := quietRig(b)
	c := r.caller(benchAsk)
	_ = c.c.SetDeadline(time.Time{})
	c.call(b)
	b.ReportAllocs()
	for b.Loop() {
		c.call(b)
	}
}

func BenchmarkParseRequest(b *testing.B) {
	var m message
	raw := []byte(benchAsk)
	b.ReportAllocs()
	for b.Loop() {
		if err := m.parseRequest(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPeer is what a look at a kept connection costs.
func BenchmarkPeer(b *testing.B) {
	c, err := net.Dial("tcp", answerFixed(b))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	n := netio.New(c, nil)
	for b.Loop() {
		if n.Peer() != netio.Open {
			b.Fatal("not open")
		}
	}
}

// TestIdleConnections holds connections that have carried a request: what they
// cost is a goroutine, a socket and its descriptor, and no buffer.
func TestIdleConnections(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has memory of its own")
	}
	const conns = 1000
	r := quietRig(t)
	callers := make([]net.Conn, conns)
	one := r.caller(benchAsk)
	one.call(t)
	before := memory()
	for i := range callers {
		c, err := net.Dial("tcp", r.address)
		if err != nil {
			t.Fatal(err)
		}
		callers[i], one.c = c, c
		one.call(t)
	}
	after := memory()
	// The client's half has a socket and a descriptor too, which is counted
	// here: about 700 bytes.
	each := (after - before) / conns
	t.Logf("%d bytes for an idle connection", each)
	if each > 12<<10 {
		t.Errorf("%d bytes for an idle connection, want about 6 KiB", each)
	}
	var closing sync.WaitGroup
	for _, c := range callers {
		closing.Go(func() { _ = c.Close() })
	}
	closing.Wait()
}

// memory is heap and stacks in use after what is garbage has gone.
func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
