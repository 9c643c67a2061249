package http2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/telemesh/telemesh/proxy/exchange"
)

func TestClientStreamCarriesARequest(t *testing.T) {
	address := app(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(http.StatusEarlyHints)
		n, _ := io.Copy(w, r.Body)
		if r.Trailer.Get("X-Last") != "one" {
			t.Errorf("trailers %v", r.Trailer)
		}
		if n == 0 {
			t.Error("no body")
		}
		w.Header().Set("X-Sum", "yes")
	})
	r := newRig(t, newDecider(address))
	head := []exchange.Field{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a"}, {Name: ":path", Value: "/"}, {Name: "trailer", Value: "X-Last"}}
	cs, err := r.server.Open(t.Context(), exchange.Target{Address: address}, head, false)
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close()
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	wrote := make(chan error, 1)
	go func() {
		_, err := cs.Write(want)
		wrote <- errors.Join(err, cs.End([]exchange.Field{{Name: "x-last", Value: "one"}}))
	}()
	for _, want := range []int{103, 200} {
		if _, status, err := cs.Head(); err != nil || status != want {
			t.Errorf("status %d, %v, want %d", status, err, want)
		}
	}
	got, err := io.ReadAll(cs)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	if tr := cs.Trailers(); len(tr) != 1 || tr[0] != (exchange.Field{Name: "x-sum", Value: "yes"}) {
		t.Errorf("trailers %v", tr)
	}
}

func TestClientStreamFailures(t *testing.T) {
	address := upstream(t, func(_ int, p *peer) {
		p.until(isHead)
		p.fr.WriteRSTStream(1, xhttp2.ErrCodeRefusedStream)
		p.until(isHead)
	})
	full := upstream(t, func(_ int, p *peer) {
		p.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 0})
		p.drainFrames()
	})
	r := newRig(t, newDecider(address))
	head := []exchange.Field{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a"}, {Name: ":path", Value: "/"}}
	for _, want := range []exchange.Failure{exchange.Refused, exchange.Reset} {
		var failed *exchange.StreamError
		cs, err := r.server.Open(t.Context(), exchange.Target{Address: address}, head, true)
		if err != nil { // the stream may have failed already
			if !errors.As(err, &failed) || failed.Failure != want {
				t.Errorf("%v, want failure %d", err, want)
			}
			continue
		}
		if _, _, err := cs.Head(); !errors.As(err, &failed) || failed.Failure != want {
			t.Errorf("%v, want failure %d", err, want)
		}
		cs.Close()
		cs.Close()
	}
	var failed *exchange.StreamError
	if _, err := r.server.Open(t.Context(), exchange.Target{Address: "127.0.0.1:1"}, head, true); !errors.As(err, &failed) || failed.Failure != exchange.ConnectFailure {
		t.Errorf("%v, want a connect failure", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	cs, err := r.server.Open(ctx, exchange.Target{Address: full}, head, true)
	if err == nil {
		cs.Close() // opened before the limit was known
	}
}
