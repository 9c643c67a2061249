package http2

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// refusing points the decider to an address where nobody listens, and counts the
// tries.
func refusing(t *testing.T, d *decider) (dials *atomic.Int32, change func(*Options)) {
	t.Helper()
	dials = new(atomic.Int32)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.target.Address = l.Addr().String()
	l.Close()
	return dials, func(o *Options) {
		dial := o.Dial
		o.Dial = func(ctx context.Context, t exchange.Target) (net.Conn, error) { dials.Add(1); return dial(ctx, t) }
	}
}

// A body that comes while the next attempt waits is sent with it.
func TestBackoffKeepsTheRequest(t *testing.T) {
	address := upstream(t, func(n int, p *peer) {
		p.until(isHead)
		if n == 0 {
			p.fr.WriteGoAway(0, xhttp2.ErrCodeNo, nil) // nothing was processed
			p.drainFrames()
			return
		}
		var body []byte
		p.until(func(f xhttp2.Frame) bool {
			d, ok := f.(*xhttp2.DataFrame)
			if ok {
				body = append(body, d.Data()...)
			}
			return ok && d.StreamEnded()
		})
		p.headers(1, false, ":status", "200")
		p.fr.WriteData(1, true, body)
		p.drainFrames()
	})
	d := newDecider(address)
	d.retries, d.target.Backoff = 1, 20*time.Millisecond
	r := newRig(t, d)
	body, feed := io.Pipe()
	go func() {
		_, _ = feed.Write([]byte("first, "))
		<-d.failures // the first attempt is over
		_, _ = feed.Write([]byte("then"))
		feed.Close()
	}()
	resp, err := r.client().Post(url("/"), "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := got.ReadFrom(resp.Body); err != nil || got.String() != "first, then" {
		t.Errorf("answer %q, %v", &got, err)
	}
	if rec := r.record(); rec.Attempts != 2 || rec.Code != 200 || rec.Flags != "" {
		t.Errorf("record %+v", rec)
	}
}

// What ends a request ends the wait for its next attempt, which is not made.
func TestBackoffEndsWithTheRequest(t *testing.T) {
	t.Run("time is up", func(t *testing.T) {
		d := newDecider("")
		d.retries, d.target.Backoff, d.target.Timeouts.Request = 1, patience, 50*time.Millisecond
		dials, count := refusing(t, d)
		r := newRig(t, d, count)
		resp, err := r.client().Get(url("/"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if rec := r.record(); resp.StatusCode != 504 || rec.Flags != "UT" || dials.Load() != 1 {
			t.Errorf("status %d, record %+v, %d dials", resp.StatusCode, rec, dials.Load())
		}
	})
	t.Run("the downstream leaves", func(t *testing.T) {
		d := newDecider("")
		d.retries, d.target.Backoff = 1, patience
		dials, count := refusing(t, d)
		r := newRig(t, d, count)
		p := r.dial(t)
		p.get(1, false)
		<-d.failures
		p.fr.WriteRSTStream(1, xhttp2.ErrCodeCancel)
		if rec := r.record(); rec.Flags != "DC" || dials.Load() != 1 {
			t.Errorf("record %+v, %d dials", rec, dials.Load())
		}
		if o := <-d.failures; o.Failure != exchange.Local {
			t.Errorf("the endpoint of the attempt that was not made was told %+v", o)
		}
	})
}
