package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/testca"
	"github.com/telemesh/telemesh/internal/vocab"
	policy "github.com/telemesh/telemesh/policy-check"
)

func TestAServerThatSpeaksFirstIsReachedThroughTwoSidecars(t *testing.T) {
	const banner = "220 who are you\r\n"
	p := newPair(t, serveTCP(t, func(c *net.TCPConn) {
		io.WriteString(c, banner)
		line, _ := bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "hello "+line)
	}))
	c := p.dial()
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); line != banner {
		t.Fatalf("greeting %q, %v", line, err)
	}
	io.WriteString(c, "shop\n")
	if line, err := in.ReadString('\n'); line != "hello shop\n" {
		t.Fatalf("answer %q, %v", line, err)
	}
	if b, err := io.ReadAll(in); len(b) != 0 || err != nil {
		t.Errorf("then %q, %v; want the end", b, err)
	}
	c.Close()
	p.wantBoth(told{code: 200, count: 1, in: 5, out: uint64(len(banner) + len("hello shop\n"))})
}

func TestAHalfClosePassesThroughTwoSidecars(t *testing.T) {
	p := newPair(t, serveTCP(t, func(c *net.TCPConn) {
		b, _ := io.ReadAll(c) // until the caller has ended its direction
		c.Write(bytes.ToUpper(b))
	}))
	for range 3 {
		c := p.dial()
		io.WriteString(c, "select")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); string(b) != "SELECT" || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
	}
	p.wantBoth(told{code: 200, count: 3, in: 18, out: 18})
}

func TestAMebibyteGoesBothWaysAtOnce(t *testing.T) {
	const size = 1 << 20
	p := newPair(t, serveTCP(t, func(c *net.TCPConn) { io.Copy(c, c) }))
	c := p.dial()
	sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var sending sync.WaitGroup
	sending.Go(func() {
		if _, err := c.Write(sent); err != nil {
			t.Error(err)
		}
		c.CloseWrite()
	})
	got, err := io.ReadAll(c)
	sending.Wait()
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back, %v; want what was sent", len(got), err)
	}
	p.wantBoth(told{code: 200, count: 1, in: size, out: size})
}

func TestOpaqueConnectionsGoByMutualTLS(t *testing.T) {
	const size = 1 << 20
	ca := testca.New(t)
	callee := secured(t, ca, "db", calleeID, tlsStrict)
	callee.AppAddress = serveTCP(t, func(c *net.TCPConn) {
		io.WriteString(c, "hi")
		io.Copy(c, c) // until the caller has ended its direction
	})
	p := connectPair(t, secured(t, ca, "shop", callerID, ""), callee)
	c := p.dial()
	var sending sync.WaitGroup
	sending.Go(func() {
		c.Write(make([]byte, size))
		c.CloseWrite()
	})
	n, err := io.Copy(io.Discard, c)
	sending.Wait()
	if n != size+2 || err != nil {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	p.wantBoth(told{code: 200, count: 1, in: size, out: size + 2})
	for _, side := range []*Proxy{p.caller, p.callee} {
		if edges, _ := edgesOf(t, side, 1); edges[0].Destination.Principal != calleeID {
			t.Errorf("%s saw %v", side.Instance(), edges)
		}
	}
	if edges, _ := edgesOf(t, p.callee, 1); edges[0].Source.Principal != callerID || edges[0].Security != "mutual_tls" {
		t.Errorf("the callee saw %v", edges)
	}
}

// wantReset fails unless a connection to the caller's i-th opaque port is reset. A
// reset may overtake the program's connect.
func (p *pair) wantReset(i int) {
	p.t.Helper()
	c, err := net.Dial("tcp", p.caller.OutboundTCP()[i].Address)
	if err == nil {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err = io.Copy(io.Discard, c)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		p.t.Errorf("the program sees %v, want a reset", err)
	}
}

func TestAnApplicationThatIsDownIsUFOnBothSides(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	p := newPair(t, l.Addr().String())
	p.wantReset(0)
	p.wantBoth(told{code: 503, flags: vocab.FlagUpstreamConnect, count: 1})
}

func TestACalleesPolicyRefusesAConnection(t *testing.T) {
	p := newPair(t, serveTCP(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) }))
	denyAll(t, p.callee)
	p.wantReset(0)
	got := counted(t, p.caller, 1)
	if len(got) != 1 || got[0].verdict != vocab.VerdictDenied || got[0].code != 403 || got[0].destination != "db-latest" {
		t.Errorf("the caller counted %+v, want a denial", got)
	}
	p.wantBoth(told{code: 403, verdict: vocab.VerdictDenied, count: 1})
}

// denyAll has a sidecar of the service db refuse what comes from shop.
func denyAll(t *testing.T, p *Proxy) {
	t.Helper()
	all, problems := policy.Parse("p.yaml", []byte(`apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: p, namespace: default}
spec:
  targetRefs: [{kind: Service, name: db}]
  rules:
  - name: no-shop
    match: source.workload == "shop-latest"
    access: {action: Deny}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if err := p.ApplyPolicies([][]byte{all[0].Canonical()}); err != nil {
		t.Fatal(err)
	}
}

func TestAServiceThatNobodyKnowsIsNR(t *testing.T) {
	p := newPair(t, "127.0.0.1:1")
	p.wantReset(1)
	if got := counted(t, p.caller, 1); len(got) != 1 || got[0].flags != vocab.FlagNoRoute || got[0].protocol != "tcp" {
		t.Errorf("counted %+v, want NR", got)
	}
}

func TestOutboundTCPIsReadStrictly(t *testing.T) {
	for s, want := range map[string]outboundTCP{
		"5432=db:5432": {5432, "db:5432"}, "0=db.data.svc.cluster.local:1": {0, "db.data.svc.cluster.local:1"},
	} {
		if got, err := parseOutboundTCP(s); got != want || err != nil {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "5432", "5432=db", "x=db:1", "-1=db:1", "65536=db:1", "1=:1", "1=db:0", "1=db:65536", "1=d b:1", "1=d/b:1", "1=[::1]:1", "1=db:1:2"} {
		if got, err := parseOutboundTCP(s); err == nil {
			t.Errorf("%q is %+v, want an error", s, got)
		}
	}
	_, err := New(Config{Service: "a", OutboundTCP: []string{"7=b:1", "7=c:1", "nonsense"}}, nil, nil)
	for _, want := range []string{`--outbound-tcp "7=c:1": port 7 is given twice`, `--outbound-tcp "nonsense"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s in it", err, want)
		}
	}
}

// tunnelled asks the caller's outbound listener for a tunnel, as a program does that
// knows of its proxy, and returns the answer's status line and the tunnel.
func (p *pair) tunnelled(ahead string) (status string, c *net.TCPConn, in *bufio.Reader) {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.caller.OutboundAddress())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, "CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\nx-telemesh-peer: w=evil;s=evil\r\n\r\n"+ahead)
	in = bufio.NewReader(conn)
	status, err = in.ReadString('\n')
	for line := ""; err == nil && line != "\r\n"; {
		line, err = in.ReadString('\n')
		if strings.HasPrefix(strings.ToLower(line), "x-telemesh") {
			p.t.Errorf("the program sees the mesh's own %q", line)
		}
	}
	if err != nil {
		p.t.Fatalf("head of the answer after %q: %v", status, err)
	}
	return status, conn.(*net.TCPConn), in
}

func TestAProgramsOwnCONNECTGoesThroughTwoSidecars(t *testing.T) {
	p := newPair(t, serveTCP(t, func(c *net.TCPConn) {
		io.WriteString(c, "hi ")
		io.Copy(c, c) // until the caller has ended its direction
	}))
	status, c, in := p.tunnelled("early ")
	if status != "HTTP/1.1 200 OK\r\n" {
		t.Fatal(status)
	}
	io.WriteString(c, "late")
	c.CloseWrite()
	if b, err := io.ReadAll(in); string(b) != "hi early late" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	p.wantBoth(told{code: 200, count: 1, in: 10, out: 13})
}

func TestAProgramsOwnCONNECTIsToldWhyThereIsNoTunnel(t *testing.T) {
	t.Run("the application is down", func(t *testing.T) {
		p := newPair(t, "127.0.0.1:1")
		if status := p.refusedTunnel(""); !strings.HasPrefix(status, "HTTP/1.1 503") {
			t.Error(status)
		}
		p.wantBoth(told{code: 503, flags: vocab.FlagUpstreamConnect, count: 1})
	})
	t.Run("policy", func(t *testing.T) {
		p := newPair(t, serveTCP(t, func(*net.TCPConn) {}))
		denyAll(t, p.callee)
		if status := p.refusedTunnel("early"); !strings.HasPrefix(status, "HTTP/1.1 403") {
			t.Error(status)
		}
		p.wantBoth(told{code: 403, verdict: vocab.VerdictDenied, count: 1})
	})
}

// refusedTunnel asks for a tunnel, leaves and returns the answer's status line.
func (p *pair) refusedTunnel(ahead string) string {
	p.t.Helper()
	status, c, _ := p.tunnelled(ahead)
	c.Close()
	return status
}
