package detect

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 20 * time.Second

var database = netip.MustParseAddrPort("10.0.0.1:3306")

// sockets are the two ends of a connection.
func sockets(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	far.SetDeadline(time.Now().Add(patience))
	return near, far
}

// talk detects what the caller's script says, with an upstream that follows its
// own; nil for none.
func talk(t testing.TB, o Options, caller, server func(c net.Conn)) (Result, *netio.Conn, error) {
	t.Helper()
	near, far := sockets(t)
	c := netio.New(near, nil)
	if server != nil {
		o.Upstream = func(context.Context) (net.Conn, error) {
			out, in := sockets(t)
			server(in)
			return out, nil
		}
	}
	said := make(chan struct{})
	go func() {
		defer close(said)
		caller(far)
	}()
	r, err := Detect(t.Context(), c, o)
	<-said
	if r.Upstream != nil {
		t.Cleanup(func() { r.Upstream.Close() })
	}
	return r, c, err
}

func says(s string) func(net.Conn) { return func(c net.Conn) { io.WriteString(c, s) } }

// types says s byte by byte.
func types(s string) func(net.Conn) {
	return func(c net.Conn) {
		for i := range len(s) {
			io.WriteString(c, s[i:i+1])
			time.Sleep(time.Millisecond / 4) // so that they come apart, as a rule
		}
	}
}

func nothingSaid(net.Conn) {}

func ends(c net.Conn) { c.(*net.TCPConn).CloseWrite() }

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Errorf("read %q, %v, want %q", b, err, want)
	}
}

func TestDetectByTheCallersFirstBytes(t *testing.T) {
	hello := string(clientHello(t, &tls.Config{ServerName: "a.example", NextProtos: []string{"h2"}}))
	for _, tc := range []struct {
		name, input string
		hint        Hint
		want        exchange.Protocol
		tls         bool
	}{
		{"HTTP/1", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", Any, exchange.HTTP1, false},
		{"HTTP/2", preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00", Any, exchange.HTTP2, false},
		{"TLS", hello, Any, exchange.TCP, true},
		{"TCP", "*1\r\n$4\r\nPING\r\n", Any, exchange.TCP, false},
		{"malformed HTTP", "garbage\r\n\r\n", HTTPOnly, exchange.HTTP1, false},
	} {
		for way, script := range map[string]func(net.Conn){"at once": says(tc.input), "byte by byte": types(tc.input)} {
			for _, server := range []func(net.Conn){nil, nothingSaid, says("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64")} {
				r, c, err := talk(t, Options{Hint: tc.hint}, script, server)
				if err != nil || r.Protocol != tc.want || r.TLS != tc.tls {
					t.Errorf("%s %s: %+v, %v", tc.name, way, r, err)
				}
				if tc.tls && (r.SNI != "a.example" || !slices.Equal(r.ALPN, []string{"h2"})) {
					t.Errorf("%s %s: %+v", tc.name, way, r)
				}
				read(t, c, tc.input)
			}
		}
	}
}

func TestAServerThatSpeaksFirstIsNotKeptWaiting(t *testing.T) {
	m := NewMemory(4, time.Hour)
	o := Options{Destination: database, Memory: m, Timeout: time.Hour}
	r, c, err := talk(t, o, nothingSaid, says("220 hello\r\n"))
	if err != nil || r.Protocol != exchange.TCP || r.Upstream == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	read(t, r.Upstream, "220 hello\r\n")
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Error(err)
	}
	// The next connection is opaque at once: nobody says a word.
	if r, _, err := talk(t, o, nothingSaid, nothingSaid); err != nil || r.Protocol != exchange.TCP || r.Upstream != nil {
		t.Errorf("learned: %+v, %v", r, err)
	}
	// Another destination learned nothing.
	o.Destination = netip.MustParseAddrPort("10.0.0.2:80")
	if r, _, err := talk(t, o, says("GET / HTTP/1.1\r\n"), nothingSaid); err != nil || r.Protocol != exchange.HTTP1 {
		t.Errorf("elsewhere: %+v, %v", r, err)
	}
	if m.recall(o.Destination) != clientFirst {
		t.Error("it is not learned that the caller speaks first")
	}
}

func TestAServerThatSpeaksFirstAfterAllIsStillHeard(t *testing.T) {
	m := NewMemory(4, time.Hour)
	m.learn(database, clientFirst)
	r, _, err := talk(t, Options{Destination: database, Memory: m, Timeout: time.Hour}, nothingSaid, says("220 hello\r\n"))
	if err != nil || r.Protocol != exchange.TCP || m.recall(database) != serverFirst {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAServerThatGivesUpTeachesNothing(t *testing.T) {
	for name, server := range map[string]func(net.Conn){"with an answer": says("HTTP/1.1 408 Request Timeout\r\n\r\n"), "with an end": ends} {
		m := NewMemory(4, time.Hour)
		r, _, err := talk(t, Options{Destination: database, Memory: m, Timeout: time.Hour}, nothingSaid, server)
		if err != nil || r.Protocol != exchange.TCP || r.Upstream == nil || m.recall(database) != nothing {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestAnUnreachableUpstreamLeavesTheCallerTimeToSpeak(t *testing.T) {
	o := Options{Upstream: func(context.Context) (net.Conn, error) { return nil, errors.New("refused") }, Timeout: time.Hour}
	for input, want := range map[string]exchange.Protocol{"GET / HTTP/1.1\r\n": exchange.HTTP1, "": exchange.TCP} {
		r, _, err := talk(t, o, func(c net.Conn) {
			time.Sleep(2 * headStart) // the upstream has refused by then, as a rule
			io.WriteString(c, input)
		}, nil)
		if err != nil || r.Protocol != want || r.Upstream != nil {
			t.Errorf("%q: %+v, %v", input, r, err)
		}
	}
}

func TestSilenceAndEnds(t *testing.T) {
	short := Options{Timeout: 10 * time.Millisecond}
	if _, _, err := talk(t, short, nothingSaid, nil); !errors.Is(err, ErrSilent) {
		t.Errorf("silence alone: %v, want ErrSilent", err)
	}
	if r, _, err := talk(t, short, nothingSaid, nothingSaid); err != nil || r.Protocol != exchange.TCP {
		t.Errorf("silence of both: %+v, %v", r, err)
	}
	if r, c, err := talk(t, short, says("GE"), nil); err != nil || r.Protocol != exchange.TCP {
		t.Errorf("half a method: %+v, %v", r, err)
	} else {
		read(t, c, "GE")
	}
	if r, _, err := talk(t, short, says("PRI * HTT"), nil); err != nil || r.Protocol != exchange.TCP {
		t.Errorf("half a preface: %+v, %v", r, err)
	}
	if r, _, err := talk(t, Options{}, ends, nothingSaid); err != nil || r.Protocol != exchange.TCP {
		t.Errorf("an end: %+v, %v", r, err)
	}
	if r, _, err := talk(t, Options{Hint: HTTPOnly}, func(c net.Conn) { io.WriteString(c, "PRI"); ends(c) }, nil); err != nil || r.Protocol != exchange.HTTP1 {
		t.Errorf("an early end of HTTP: %+v, %v", r, err)
	}
	hello := string(clientHello(t, &tls.Config{ServerName: "a.example"}))
	if r, c, err := talk(t, short, says(hello[:len(hello)-1]), nil); err != nil || !r.TLS || r.SNI != "" {
		t.Errorf("a hello cut off: %+v, %v", r, err)
	} else {
		read(t, c, hello[:len(hello)-1])
	}
	if _, _, err := talk(t, Options{}, func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() }, nil); err == nil {
		t.Error("a reset is no error")
	}
}

func TestTheContextEndsDetection(t *testing.T) {
	near, _ := sockets(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	blocked := func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if _, err := Detect(ctx, netio.New(near, nil), Options{Upstream: blocked, Timeout: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Errorf("Detect: %v", err)
	}
}

func TestMemoryIsBoundedAndExpires(t *testing.T) {
	m := NewMemory(2, time.Minute)
	now := int64(0)
	m.now = func() int64 { return now }
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(database.Addr(), port) }
	m.learn(at(1), serverFirst)
	m.learn(at(2), clientFirst)
	if m.recall(at(1)) != serverFirst { // now the last used
		t.Error("1 is forgotten")
	}
	m.learn(at(3), serverFirst)
	if m.recall(at(2)) != nothing || m.recall(at(1)) != serverFirst || m.recall(at(3)) != serverFirst || len(m.known) != 2 || m.order.Len() != 2 {
		t.Error("not the one longest unused was forgotten")
	}
	now = int64(time.Minute)
	if m.recall(at(1)) != nothing || len(m.known) != 1 {
		t.Error("1 does not expire")
	}
	m.learn(netip.AddrPort{}, serverFirst)
	if m.recall(netip.AddrPort{}) != nothing {
		t.Error("an unknown destination is learned")
	}
}
