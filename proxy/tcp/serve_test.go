package tcp

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// ends are the kinds of connection that take different ways through Join.
var ends = []struct {
	name             string
	downstream, dial func(net.Conn) net.Conn
}{
	{"plain sockets", plain, plain},
	{"a hidden downstream", hide, plain},
	{"a hidden upstream", plain, hide},
	{"neither plain", hide, hide},
}

func dialing(wrap func(net.Conn) net.Conn) func(context.Context, exchange.Target) (net.Conn, error) {
	return func(ctx context.Context, t exchange.Target) (net.Conn, error) {
		c, err := dial(ctx, t)
		if err != nil {
			return nil, err
		}
		return wrap(c), nil
	}
}

func TestManyBytesGoBothWaysAndEachDirectionEndsByItself(t *testing.T) {
	up, down := make([]byte, 3<<20), make([]byte, 5<<20)
	rand.Read(up)
	rand.Read(down)
	for _, tc := range ends {
		t.Run(tc.name, func(t *testing.T) {
			got := make(chan [32]byte, 1)
			address := upstream(t, func(c *net.TCPConn) {
				h := sha256.New()
				io.Copy(h, c) // until the caller half-closes
				got <- [32]byte(h.Sum(nil))
				c.Write(down)
			})
			r := newRig(t, tc.downstream, Options{Dial: dialing(tc.dial)}, Facts{OriginalDestination: somewhere}, exchange.Target{Address: address})
			c := r.dial()
			if _, err := c.Write(up); err != nil {
				t.Fatal(err)
			}
			c.CloseWrite()
			b, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(b, down) {
				t.Errorf("%d bytes came back, %v", len(b), err)
			}
			if <-got != sha256.Sum256(up) {
				t.Error("the upstream got other bytes")
			}
			rec := r.record()
			if rec.Protocol != "tcp" || rec.Method != "" || rec.Path != "" || rec.Host != "10.1.2.3:5432" || rec.Flags != "" ||
				rec.BytesIn != uint64(len(up)) || rec.BytesOut != uint64(len(down)) || rec.Attempts != 1 || rec.Upstream != address || rec.Duration <= 0 || rec.FirstByte <= 0 {
				t.Errorf("record = %+v", rec)
			}
		})
	}
}

func TestAServerMaySpeakFirstAndTheCallerMayReadOn(t *testing.T) {
	address := upstream(t, func(c *net.TCPConn) {
		c.Write([]byte("220 hello\r\n"))
		c.CloseWrite()
		io.Copy(io.Discard, c)
	})
	done := make(endpoint, 1)
	r := newRig(t, plain, Options{}, Facts{SNI: "db.example"}, exchange.Target{Address: address, Endpoint: done})
	c := r.dial()
	b, err := io.ReadAll(c)
	if err != nil || string(b) != "220 hello\r\n" {
		t.Fatalf("got %q, %v", b, err)
	}
	c.Write([]byte("bye"))
	c.Close()
	if rec := r.record(); rec.Host != "db.example" || rec.BytesIn != 3 || rec.BytesOut != 11 || rec.Flags != "" {
		t.Errorf("record = %+v", rec)
	}
	if o := <-done; o.Failure != exchange.Success || o.FirstByte <= 0 {
		t.Errorf("outcome = %+v", o)
	}
}

func TestARefusedConnectionIsReset(t *testing.T) {
	r := newRig(t, plain, Options{}, Facts{})
	r.handler.reply = &exchange.Reply{Status: 403}
	r.handler.seen = func(x *exchange.Exchange) { x.Record.Detail = "denied" }
	wantReset(t, r.dial(), "the caller")
	if rec := r.record(); rec.Detail != "denied" || rec.Flags != "" || rec.Attempts != 0 {
		t.Errorf("record = %+v", rec)
	}
}

func TestAnUnreachableTargetIsFollowedByTheNext(t *testing.T) {
	address := upstream(t, func(c *net.TCPConn) { c.Write([]byte("second")) })
	failed, served := make(endpoint, 1), make(endpoint, 1)
	r := newRig(t, plain, Options{}, Facts{},
		exchange.Target{Address: refused(t), Endpoint: failed}, exchange.Target{Address: address, Endpoint: served})
	c := r.dial()
	if b, err := io.ReadAll(c); err != nil || string(b) != "second" {
		t.Errorf("got %q, %v", b, err)
	}
	c.Close()
	if rec := r.record(); rec.Flags != "" || rec.Attempts != 2 || rec.Upstream != address {
		t.Errorf("record = %+v", rec)
	}
	if a, b := <-failed, <-served; a.Failure != exchange.ConnectFailure || b.Failure != exchange.Success {
		t.Errorf("outcomes %+v, %+v", a, b)
	}
}

func TestNoReachableTargetIsUF(t *testing.T) {
	r := newRig(t, plain, Options{}, Facts{}, exchange.Target{Address: refused(t)})
	wantReset(t, r.dial(), "the caller")
	if rec := r.record(); rec.Flags != "UF" || rec.Attempts != 1 {
		t.Errorf("record = %+v", rec)
	}
}

func TestAResetIsPassedOnAndFlagged(t *testing.T) {
	for _, tc := range ends[:2] {
		t.Run("by the downstream/"+tc.name, func(t *testing.T) {
			seen := make(chan error, 1)
			address := upstream(t, func(c *net.TCPConn) {
				c.Write([]byte("x"))
				_, err := io.Copy(io.Discard, c)
				seen <- err
			})
			r := newRig(t, tc.downstream, Options{}, Facts{}, exchange.Target{Address: address})
			c := r.dial()
			io.ReadFull(c, make([]byte, 1))
			c.SetLinger(0)
			c.Close()
			if err := <-seen; err == nil {
				t.Error("the upstream sees an end in order, want a reset")
			}
			if rec := r.record(); rec.Flags != "DC" {
				t.Errorf("record = %+v, want DC", rec)
			}
		})
		t.Run("by the upstream/"+tc.name, func(t *testing.T) {
			address := upstream(t, func(c *net.TCPConn) {
				io.ReadFull(c, make([]byte, 1))
				c.SetLinger(0)
			})
			done := make(endpoint, 1)
			r := newRig(t, tc.downstream, Options{}, Facts{}, exchange.Target{Address: address, Endpoint: done})
			c := r.dial()
			c.Write([]byte("x"))
			wantReset(t, c, "the caller")
			if rec := r.record(); rec.Flags != "UC" || rec.BytesIn != 1 {
				t.Errorf("record = %+v, want UC", rec)
			}
			if o := <-done; o.Failure != exchange.Reset {
				t.Errorf("outcome = %+v", o)
			}
		})
	}
}

func TestSilenceEndsAConnection(t *testing.T) {
	address := upstream(t, func(c *net.TCPConn) { io.Copy(c, c) })
	r := newRig(t, plain, Options{Idle: 30 * time.Millisecond}, Facts{}, exchange.Target{Address: address})
	c := r.dial()
	c.Write([]byte("x"))
	if b, err := io.ReadAll(c); err != nil || len(b) > 1 {
		t.Errorf("got %q, %v", b, err)
	}
	if rec := r.record(); rec.Detail != detailIdle || rec.Flags != "" {
		t.Errorf("record = %+v", rec)
	}
}

func TestTheContextEndsAConnection(t *testing.T) {
	for _, tc := range ends {
		address := upstream(t, func(c *net.TCPConn) { io.Copy(c, c) })
		r := newRig(t, tc.downstream, Options{Dial: dialing(tc.dial)}, Facts{}, exchange.Target{Address: address})
		c := r.dial()
		c.Write([]byte("x"))
		io.ReadFull(c, make([]byte, 1))
		r.stop()
		if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
			t.Errorf("%s: got %q, %v", tc.name, b, err)
		}
		if rec := r.record(); rec.Detail != detailStopped || rec.BytesIn != 1 || rec.BytesOut != 1 {
			t.Errorf("%s: record = %+v", tc.name, rec)
		}
	}
}

func TestASpareConnectionIsUsedWhereItLeads(t *testing.T) {
	address := upstream(t, func(c *net.TCPConn) { io.Copy(c, c) })
	for _, tc := range []struct {
		name, leads string
		dials       int
	}{{"to the target", address, 0}, {"elsewhere", "10.0.0.1:1", 1}} {
		spare, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		dials := 0
		counting := func(ctx context.Context, target exchange.Target) (net.Conn, error) {
			dials++
			return dial(ctx, target)
		}
		r := newRig(t, plain, Options{Dial: counting}, Facts{Upstream: netio.New(spare, []byte("banner ")), UpstreamAddress: tc.leads}, exchange.Target{Address: address})
		c := r.dial()
		c.Write([]byte("x"))
		c.CloseWrite()
		want := "banner x"
		if tc.dials == 1 {
			want = "x"
		}
		if b, err := io.ReadAll(c); err != nil || string(b) != want {
			t.Errorf("%s: got %q, %v, want %q", tc.name, b, err, want)
		}
		if rec := r.record(); dials != tc.dials || rec.BytesOut != uint64(len(want)) {
			t.Errorf("%s: %d dials, record %+v", tc.name, dials, rec)
		}
		if _, err := spare.Write(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the spare connection is left open", tc.name)
		}
	}
}

func TestJoinSendsWhatWasReadBefore(t *testing.T) {
	a, b := pairOfSockets(t)
	c, d := pairOfSockets(t)
	defer d.Close()
	go func() {
		a.Write([]byte("later"))
		a.CloseWrite()
		d.CloseWrite()
	}()
	in, out, err := Join(t.Context(), netio.New(b, []byte("early ")), netio.New(c, nil), 0)
	b.Close()
	c.Close()
	if in != 11 || out != 0 || err != Neither {
		t.Errorf("Join = %d, %d, %v", in, out, err)
	}
	if got, _ := io.ReadAll(d); string(got) != "early later" {
		t.Errorf("got %q", got)
	}
	a.Close()
}

func pairOfSockets(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn), d.(*net.TCPConn)
}
