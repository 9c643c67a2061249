package http2

import (
	"context"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/telemesh/telemesh/proxy/exchange"
)

func TestExtendedConnectIsRelayedBothWays(t *testing.T) {
	address := upstream(t, func(_ int, p *peer) {
		p.until(isHead)
		p.headers(1, false, ":status", "200")
		p.until(func(f xhttp2.Frame) bool {
			d, ok := f.(*xhttp2.DataFrame)
			if ok {
				p.fr.WriteData(1, d.StreamEnded(), d.Data())
			}
			return ok && d.StreamEnded()
		})
		p.drainFrames()
	})
	r := newRig(t, newDecider(address))
	p := r.dial(t)
	p.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/ws", ":authority", "a")
	if status := p.head(1); status != "200" {
		t.Fatalf("status %s", status)
	}
	for _, word := range []string{"ping", "pong"} {
		p.fr.WriteData(1, word == "pong", []byte(word))
		p.until(func(f xhttp2.Frame) bool {
			d, ok := f.(*xhttp2.DataFrame)
			if ok && string(d.Data()) != word {
				t.Errorf("%q came back, want %q", d.Data(), word)
			}
			return ok
		})
	}
	if rec := r.record(); rec.Code != 200 || rec.Flags != "" || rec.Method != "CONNECT" || rec.Path != "/ws" {
		t.Errorf("record %+v", rec)
	}
}

func TestPlainConnectIsRefused(t *testing.T) {
	r := newRig(t, newDecider("unused:1"))
	p := r.dial(t)
	p.headers(1, false, ":method", "CONNECT", ":authority", "a:1")
	if status := p.head(1); status != "501" {
		t.Errorf("status %s", status)
	}
	if rec := r.record(); rec.Code != 501 || rec.Flags != "DPE" || rec.Attempts != 0 {
		t.Errorf("record %+v", rec)
	}
}

func TestExtendedConnectDoesNotCrossTheBridge(t *testing.T) {
	d := newDecider("unused:1")
	d.target.Protocol = exchange.HTTP1
	r := newRig(t, d, func(o *Options) {
		o.OpenHTTP1 = func(context.Context, exchange.Target, []exchange.Field, bool) (exchange.Stream, error) {
			t.Error("a stream was opened")
			return nil, &exchange.StreamError{}
		}
	})
	p := r.dial(t)
	p.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/ws", ":authority", "a")
	if status := p.head(1); status != "501" {
		t.Errorf("status %s", status)
	}
	if rec := r.record(); rec.Code != 501 || rec.Flags != "DPE" || rec.Attempts != 0 {
		t.Errorf("record %+v", rec)
	}
}
