package http2

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/telemesh/telemesh/proxy/exchange"
)

// ended is what is left of an exchange for those that keep its details.
type ended struct {
	request, response, trailers string
	tries                       []exchange.Try
}

func (d *decider) details(t *testing.T) <-chan ended {
	got := make(chan ended, 16)
	text := func(h exchange.Header) string {
		if h == nil {
			return ""
		}
		b, form, whole := h.AppendHead(nil, 8<<10)
		if form != exchange.HeadList || !whole {
			t.Errorf("form %d, whole %v", form, whole)
		}
		return string(b)
	}
	d.end = func(x *exchange.Exchange) {
		got <- ended{text(x.Request), text(x.Response), text(x.Trailers), slices.Clone(x.Tries)}
	}
	return got
}

func field(name, value string) string {
	b, _ := exchange.AppendHeadField(nil, name, value, 1<<10)
	return string(b)
}

func TestTheEndSeesHeadsAndTrailers(t *testing.T) {
	address := app(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Trailer")
		w.Header().Set("Set-Cookie", "a=b")
		fmt.Fprint(w, "body")
		w.Header().Set("X-Trailer", "last")
	})
	d := newDecider(address)
	got := d.details(t)
	r := newRig(t, d)
	client := r.client()
	for i := range 2 { // the second on a stream that was used before
		req, err := http.NewRequest(http.MethodGet, url("/p"), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cookie", "c=d")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		// To the end: who closes a body that is not read through resets the stream.
		_, err = io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		e := <-got
		for _, want := range []string{field(":path", "/p"), field("cookie", "c=d"), field("x-seen", "yes")} {
			if !strings.Contains(e.request, want) {
				t.Errorf("request %d: %q lacks %q", i, e.request, want)
			}
		}
		for _, want := range []string{field(":status", "200"), field("set-cookie", "a=b"), field("x-answered", "yes")} {
			if !strings.Contains(e.response, want) {
				t.Errorf("response %d: %q lacks %q", i, e.response, want)
			}
		}
		if e.trailers != field("x-trailer", "last") {
			t.Errorf("trailers %d: %q", i, e.trailers)
		}
		if len(e.tries) != 1 {
			t.Fatalf("tries %+v", e.tries)
		}
		one := e.tries[0]
		if one.Upstream != address || one.Status != 200 || one.Failure != exchange.Success || one.FirstByte <= 0 || one.Duration < one.FirstByte ||
			(one.Connect > 0) != (i == 0) {
			t.Errorf("try %d: %+v", i, one)
		}
	}
}

func TestTheEndSeesEachAttempt(t *testing.T) {
	d := newDecider(upstream(t, refusedOnce("14", true)))
	d.retries = 1
	got := d.details(t)
	r := newRig(t, d)
	if status, _ := call(t, r); status != "0" {
		t.Errorf("gRPC status %q", status)
	}
	e := <-got
	if len(e.tries) != 2 || e.tries[0].GRPC != 15 || e.tries[0].Status != 200 || e.tries[1].GRPC != 1 || e.tries[1].Start < e.tries[0].Duration {
		t.Errorf("tries %+v", e.tries)
	}
	if e.trailers != field("grpc-status", "0") {
		t.Errorf("trailers %q", e.trailers)
	}
}

func TestTheEndSeesAConnectionThatFailed(t *testing.T) {
	d := newDecider("127.0.0.1:1")
	d.retries = 1
	got := d.details(t)
	r := newRig(t, d)
	resp, err := r.client().Get(url("/"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	e := <-got
	if len(e.tries) != 2 {
		t.Fatalf("tries %+v", e.tries)
	}
	for i, one := range e.tries {
		if one.Failure != exchange.ConnectFailure || one.Detail != "connection_failure" || one.Status != 0 || one.Connect <= 0 {
			t.Errorf("try %d: %+v", i, one)
		}
	}
	if !strings.Contains(e.response, field(":status", "503")) {
		t.Errorf("response %q", e.response)
	}
}
