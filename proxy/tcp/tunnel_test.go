package tcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/proxy/exchange"
	"github.com/telemesh/telemesh/proxy/netio"
)

// asking is an Options.Tunnel in a protocol of its own: it sends the request's
// field x and reads one byte, which chooses the answer.
func asking(_ context.Context, c *netio.Conn, x *exchange.Exchange) (int, error) {
	if _, err := io.WriteString(c, x.Request.Get("x")); err != nil {
		return 0, err
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return 0, err
	}
	header := new(exchange.Fields)
	if b[0] != '?' {
		x.Response = header
	}
	switch b[0] {
	case 'y':
		return 200, nil
	case 'd':
		header.Set(vocab.HeaderVerdict, "denied;p/r")
		return 451, nil
	case 's':
		header.Set(vocab.HeaderVerdict, "shadow_denied;p/r")
		return 503, nil
	case 't':
		return 429, nil
	case 'n':
		return 503, nil
	case 'a':
		return 404, nil
	}
	return 0, fmt.Errorf("%w: %q", ErrNotATunnel, b[0])
}

// sidecar answers a request for a tunnel with one byte and then serves the
// connection with f.
func sidecar(t *testing.T, answer string, f func(c *net.TCPConn)) string {
	return upstream(t, func(c *net.TCPConn) {
		var asked [1]byte
		if _, err := io.ReadFull(c, asked[:]); err != nil || asked[0] != 'y' {
			t.Errorf("asked %q, %v; want the request's field", asked, err)
		}
		io.WriteString(c, answer)
		if f != nil {
			f(c)
		}
	})
}

func TestATunnelCarriesThePayloadAndCountsNothingElse(t *testing.T) {
	address := sidecar(t, "y220 hello\r\n", func(c *net.TCPConn) {
		io.Copy(c, c) // until the caller half-closes
	})
	done := make(endpoint, 1)
	r := newRig(t, plain, Options{Direction: exchange.Outbound, Tunnel: asking}, Facts{Host: "db:5432", OriginalDestination: somewhere},
		exchange.Target{Address: address, Endpoint: done})
	c := r.dial()
	io.WriteString(c, "quit")
	c.CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "220 hello\r\nquit" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	rec := r.record()
	if rec.Host != "db:5432" || rec.BytesIn != 4 || rec.BytesOut != 15 || rec.Flags != "" || rec.Code != 200 || rec.Attempts != 1 {
		t.Errorf("record = %+v", rec)
	}
	if o := <-done; o.Failure != exchange.Success {
		t.Errorf("outcome = %+v", o)
	}
	if n := r.handler.responses.Load(); n != 1 {
		t.Errorf("Respond was called %d times, want once", n)
	}
}

func TestAConnectionOutsideTheMeshIsNotTunnelled(t *testing.T) {
	address := upstream(t, func(c *net.TCPConn) { io.Copy(c, c) })
	r := newRig(t, plain, Options{Tunnel: asking}, Facts{}, exchange.Target{Address: address})
	c := r.dial()
	io.WriteString(c, "plain")
	c.CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "plain" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if rec := r.record(); rec.Code != 0 || r.handler.responses.Load() != 0 {
		t.Errorf("record = %+v, %d responses", rec, r.handler.responses.Load())
	}
}

func TestATunnelThatDoesNotStandIsAReset(t *testing.T) {
	for _, tc := range []struct {
		name, answer string
		code         uint32
		flags        string
		detail       string
		outcome      exchange.Outcome // of it, Failure, Status and Unsent
		responses    int64
		retries      int
	}{
		{"a denial with a status of its own", "d", 451, "", detailRefused, exchange.Outcome{Status: 451}, 1, 0},
		{"a throttle", "t", 429, "", detailRefused, exchange.Outcome{Status: 429}, 1, 0},
		{"an application that is down", "n", 503, "UF", detailNoApplication, exchange.Outcome{Status: 503, Unsent: true}, 1, 1},
		{"the same with a shadow's denial", "s", 503, "UF", detailNoApplication, exchange.Outcome{Status: 503, Unsent: true}, 1, 1},
		{"no application", "a", 404, "UF", detailNoApplication, exchange.Outcome{Status: 404, Unsent: true}, 1, 1},
		{"an end", "", 0, "UC", detailBrokenOff, exchange.Outcome{Failure: exchange.Reset, Unsent: true}, 0, 1},
		{"another protocol", "?", 0, "UPE", detailNotATunnel, exchange.Outcome{Failure: exchange.ProtocolFailure, Unsent: true}, 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			done := make(endpoint, 1)
			r := newRig(t, plain, Options{Tunnel: asking}, Facts{}, exchange.Target{Address: sidecar(t, tc.answer, nil), Endpoint: done})
			wantReset(t, r.dial(), "the program")
			rec := r.record()
			if rec.Code != tc.code || rec.Flags != tc.flags || rec.Detail != tc.detail || rec.BytesIn != 0 || rec.BytesOut != 0 || rec.FirstByte != 0 {
				t.Errorf("record = %+v", rec)
			}
			o := <-done
			o.Duration, o.FirstByte = 0, 0
			if o != tc.outcome {
				t.Errorf("outcome %+v, want %+v", o, tc.outcome)
			}
			r.handler.mu.Lock()
			defer r.handler.mu.Unlock()
			if n := r.handler.responses.Load(); n != tc.responses || r.handler.tried != tc.retries {
				t.Errorf("%d responses and %d questions for another, want %d and %d", n, r.handler.tried, tc.responses, tc.retries)
			}
		})
	}
}

func TestAnotherSidecarIsAskedAfterOneWithoutAnApplication(t *testing.T) {
	down, up := make(endpoint, 1), make(endpoint, 1)
	r := newRig(t, plain, Options{Tunnel: asking}, Facts{},
		exchange.Target{Address: sidecar(t, "n", nil), Endpoint: down},
		exchange.Target{Address: sidecar(t, "yhello", nil), Endpoint: up})
	c := r.dial()
	if b, err := io.ReadAll(c); string(b) != "hello" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	c.Close()
	if rec := r.record(); rec.Flags != "" || rec.Detail != "" || rec.Code != 200 || rec.Attempts != 2 {
		t.Errorf("record = %+v", rec)
	}
	<-down
	<-up
}

func TestAServiceHasNoMoreConnectionsThanItMay(t *testing.T) {
	limits := &exchange.Limits{Connections: exchange.Gate{Limit: 1}}
	address := upstream(t, func(c *net.TCPConn) { io.Copy(c, c) })
	r := newRig(t, plain, Options{}, Facts{}, exchange.Target{Address: address, Limits: limits})
	first := r.dial()
	io.WriteString(first, "x")
	io.ReadFull(first, make([]byte, 1))
	wantReset(t, r.dial(), "the second")
	if rec := r.record(); rec.Flags != vocab.FlagUpstreamOverflow {
		t.Errorf("record = %+v", rec)
	}
	first.Close()
	r.record()
	if n := limits.Connections.Used(); n != 0 {
		t.Errorf("%d places are taken at the end", n)
	}
}

func TestADrainEndsTheWaitForATunnel(t *testing.T) {
	asked := make(chan struct{})
	wait := func(ctx context.Context, _ *netio.Conn, _ *exchange.Exchange) (int, error) {
		close(asked)
		<-ctx.Done()
		return 0, ctx.Err()
	}
	done := make(endpoint, 1)
	r := newRig(t, plain, Options{Tunnel: wait}, Facts{}, exchange.Target{Address: upstream(t, func(*net.TCPConn) {}), Endpoint: done})
	c := r.dial()
	<-asked
	r.stop()
	if _, err := io.ReadAll(c); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("the connection outlives the engine")
	}
	if rec := r.record(); rec.Flags != "" || rec.Detail != detailStopped {
		t.Errorf("record = %+v", rec)
	}
	if o := <-done; o.Failure != exchange.Local {
		t.Errorf("outcome = %+v", o)
	}
}

func TestASilentSidecarIsATimeout(t *testing.T) {
	l := &leg{x: &exchange.Exchange{}}
	for _, err := range []error{context.DeadlineExceeded, fmt.Errorf("read: %w", os.ErrDeadlineExceeded)} {
		if o := l.noAnswer(t.Context(), err); o.Failure != exchange.Timeout || l.x.Record.Flags != vocab.FlagUpstreamConnect {
			t.Errorf("%v is %+v, flags %q", err, o, l.x.Record.Flags)
		}
	}
	if o := l.noAnswer(t.Context(), errors.New("reset")); o.Failure != exchange.Reset {
		t.Errorf("a reset is %+v", o)
	}
}

func TestWhoSpeaksFirstIsTold(t *testing.T) {
	for name, serverFirst := range map[string]bool{"the server": true, "the caller": false} {
		t.Run(name, func(t *testing.T) {
			told := make(chan struct{}, 2)
			address := upstream(t, func(c *net.TCPConn) {
				if !serverFirst {
					io.ReadFull(c, make([]byte, 1))
				}
				io.WriteString(c, "s")
				io.Copy(io.Discard, c)
			})
			r := newRig(t, plain, Options{}, Facts{Greeted: func() { told <- struct{}{} }}, exchange.Target{Address: address})
			c := r.dial()
			if !serverFirst {
				io.WriteString(c, "c")
			}
			io.ReadFull(c, make([]byte, 1))
			io.WriteString(c, "c")
			c.Close()
			r.record()
			if got := len(told); (got == 1) != serverFirst || got > 1 {
				t.Errorf("it was told %d times", got)
			}
		})
	}
}
