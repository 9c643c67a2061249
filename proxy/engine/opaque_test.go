package engine

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/http1"
	"github.com/telemesh/telemesh/proxy/netio"
)

// virtual serves one connection as if it had been captured on its way to a virtual
// address, and returns the program's end.
func virtual(t *testing.T, r *rig) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.engine.serving.Go(func() {
		c, err := l.Accept()
		l.Close()
		if err != nil {
			return
		}
		facts := http1.ConnFacts{Downstream: c.RemoteAddr().String(), OriginalDestination: netip.MustParseAddrPort("240.1.2.3:5432")}
		r.engine.serveCaptured(context.Background(), netio.New(c, nil), facts)
	})
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestOnTheWayToAVirtualAddressWhoeverSpeaksFirstIsUnderstood(t *testing.T) {
	r := newRig(t, rawApp(t, func(c net.Conn) {
		io.WriteString(c, "220 hello\r\n")
		io.Copy(c, c)
	}))
	for range 2 { // the second does not wait: the first taught it
		c := virtual(t, r)
		in := bufio.NewReader(c)
		if line, err := in.ReadString('\n'); line != "220 hello\r\n" {
			t.Fatalf("greeting %q, %v", line, err)
		}
		c.Close()
		if rec := r.record(); rec.Protocol != "tcp" || rec.Host != "240.1.2.3:5432" || rec.BytesOut != 11 {
			t.Errorf("record = %+v", rec)
		}
	}
	r.once(2)
}

func TestHTTPOnTheWayToAVirtualAddressIsHTTP(t *testing.T) {
	r := newRig(t, app(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "web") }))
	c := virtual(t, r)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
	b, err := io.ReadAll(c)
	want(t, string(b), "200 OK", "web")
	if rec := r.record(); err != nil || rec.Protocol != "http" || rec.Host != "web" {
		t.Errorf("%v, record = %+v", err, rec)
	}
	r.once(1)
}

func TestAnOpaqueListenerIsForItsService(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := newRigFor(t, rawApp(t, func(c net.Conn) { io.Copy(c, c) }), patience, Opaque{Listener: l, Host: "db:5432"})
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\n\r\n") // is not looked at
	c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "GET / HTTP/1.1\r\n\r\n" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if rec := r.record(); rec.Protocol != "tcp" || rec.Host != "db:5432" || rec.Code != 0 {
		t.Errorf("record = %+v", rec)
	}
	r.once(1)
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		c.Close()
		t.Error("the listener outlives the engine")
	}
}

func TestAListenerThatFailsEndsTheEngine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := newRigFor(t, "127.0.0.1:1", patience, Opaque{Listener: l, Host: "db:5432"})
	l.Close()
	if err := r.ended(); err == nil {
		t.Error("Run returned without an error")
	}
}

func TestATunnelIsAskedForByTheServicesName(t *testing.T) {
	for want, x := range map[string]*exchange.Exchange{
		"db.x.svc:5432": {DestinationService: "db.x.svc"}, "db.x.svc:443": {DestinationService: "db.x.svc"}, "db:1": {},
	} {
		x.OriginalDestination = netip.MustParseAddrPort("240.1.2.3:443")
		x.Record.Host = map[string]string{"db.x.svc:5432": "db:5432", "db.x.svc:443": "db", "db:1": "db:1"}[want]
		if got := authority(x); got != want {
			t.Errorf("authority of %q is %s, want %s", x.Record.Host, got, want)
		}
	}
}
