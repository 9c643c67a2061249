package pod

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	"github.com/telemesh/telemesh/internal/netns"
	"github.com/telemesh/telemesh/proxy/capture"
	"github.com/telemesh/telemesh/proxy/detect"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
	"github.com/telemesh/telemesh/proxy/tcp"
)

// original sends every connection where it was meant to go.
type original struct{ ended chan record.Record }

func (original) Begin(_ context.Context, x *exchange.Exchange) (exchange.Target, *exchange.Reply) {
	return exchange.Target{Address: x.Record.Host}, nil
}
func (original) Waits() bool { return false }
func (original) Retry(*exchange.Exchange, exchange.Outcome) (exchange.Target, bool) {
	return exchange.Target{}, false
}
func (original) Respond(*exchange.Exchange) {}
func (o original) End(x *exchange.Exchange) { o.ended <- x.Record }

// relay is the outbound side of a sidecar as far as opaque connections go.
func relay(ctx context.Context, c *net.TCPConn, server *tcp.Server, memory *detect.Memory) {
	to, ok := capture.OriginalDestination(c)
	if !ok {
		c.Close()
		return
	}
	in := netio.New(c, nil)
	r, err := detect.Detect(ctx, in, detect.Options{
		Destination: to, Memory: memory, Timeout: patience,
		Upstream: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", to.String())
		},
	})
	if err != nil {
		c.Close()
		return
	}
	server.Serve(ctx, in, tcp.Facts{
		Downstream: c.RemoteAddr().String(), OriginalDestination: to, SNI: r.SNI, Upstream: r.Upstream, UpstreamAddress: to.String(),
	})
}

// TestAServerFirstProtocolWorksThroughCapture goes the whole way of a captured
// connection: redirect, original destination, detection, relay.
func TestAServerFirstProtocolWorksThroughCapture(t *testing.T) {
	p := create(t)
	if err := p.Capture(t.Context()); err != nil {
		t.Fatal(err)
	}
	database, err := net.Listen("tcp", netip.AddrPortFrom(p.host, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	greet(t, database, func(c net.Conn) string {
		io.WriteString(c, "220 hello, who are you?\n")
		c.SetDeadline(time.Now().Add(patience))
		b, _ := io.ReadAll(c) // until the caller half-closes
		return "hello " + string(b)
	})
	l, err := netns.Listen(p.Path(), "tcp", OutboundAddress)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan record.Record, 4)
	server, memory := tcp.New(tcp.Options{Direction: exchange.Outbound, Handler: original{ended}}), detect.NewMemory(8, time.Hour)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { relay(t.Context(), c.(*net.TCPConn), server, memory) })
		}
	})
	defer func() { l.Close(); serving.Wait() }()
	for range 2 { // the second connection is known to be opaque
		err := netns.Do(p.Path(), func() error {
			c, err := net.DialTimeout("tcp", database.Addr().String(), patience)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			const question = "220 hello, who are you?\n"
			if _, err := io.ReadFull(c, make([]byte, len(question))); err != nil {
				return err
			}
			io.WriteString(c, "me")
			c.(*net.TCPConn).CloseWrite()
			b, err := io.ReadAll(c)
			if string(b) != "hello me" {
				t.Errorf("got %q, %v", b, err)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		rec := <-ended
		if rec.Host != database.Addr().String() || rec.BytesIn != 2 || rec.BytesOut != 32 || rec.Flags != "" {
			t.Errorf("record = %+v", rec)
		}
	}
}
