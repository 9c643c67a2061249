package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseFault(t *testing.T) {
	f := func(spec, want string) {
		t.Helper()
		got, err := ParseFault(spec)
		if err != nil || got.String() != want {
			t.Errorf("%q: got %q, %v, want %q", spec, got, err, want)
		}
		again, err := ParseFault(got.String())
		if err != nil || again.String() != got.String() {
			t.Errorf("%q does not survive a round trip: %q, %v", spec, again, err)
		}
	}
	f("", "")
	f("error=10%", "error=500:10%")
	f("error=0.5%", "error=500:0.5%")
	f("error=429:7%", "error=429:7%")
	f("delay=500ms", "delay=500ms:100%")
	f("delay=500ms:20%", "delay=500ms:20%")
	f("delay=1m,error=100%", "error=500:100%,delay=1m0s:100%")

	bad := func(spec, why string) {
		t.Helper()
		if got, err := ParseFault(spec); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: got %q, %v, want an error with %q", spec, got, err, why)
		}
	}
	bad("error", "want error=")
	bad("error=10", "percentage")
	bad("error=0%", "percentage")
	bad("error=101%", "percentage")
	bad("error=NaN%", "percentage")
	bad("error=200:10%", "400 to 599")
	bad("error=10%,error=20%", "given twice")
	bad("error=10%,", "want error=")
	bad(" error=10%", "unknown fault")
	bad("delay=500", "duration")
	bad("delay=-1s", "duration")
	bad("delay=2m", "duration")
	bad("delay=1s:", "percentage")
	bad("abort=1%", "unknown fault")
}

func TestFaultChangesAtRunTime(t *testing.T) {
	host := "http://" + start(t, "ratings")
	step := func(method, query string, status int, text string) {
		t.Helper()
		if got, _, body := do(t, method, host+pathFault+query, "", nil); got != status || !strings.Contains(body, text) {
			t.Errorf("%s %s: %d %s, want %d %s", method, query, got, body, status, text)
		}
	}
	answers := func(want int) {
		t.Helper()
		if got, _ := get(t, host+"/ratings/0"); got != want {
			t.Errorf("ratings answer %d, want %d", got, want)
		}
	}
	step(http.MethodGet, "", 200, `{"fault":""}`)
	answers(200)
	step(http.MethodPost, "?spec="+url.QueryEscape("error=100%"), 200, `{"fault":"error=500:100%"}`)
	answers(500)
	step(http.MethodPost, "?spec=error%3Dlots", 400, "percentage")
	step(http.MethodPost, "", 400, "empty")
	step(http.MethodGet, "", 200, "error=500:100%")
	step(http.MethodPut, "", 405, "DELETE")
	answers(500)
	step(http.MethodDelete, "", 200, `{"fault":""}`)
	answers(200)
}

func TestFaultShareIsDrawnPerRequest(t *testing.T) {
	s := newRatings(Fault{ErrorStatus: 503, ErrorShare: .25})
	draws := []float64{0, .2, .25, .9}
	s.chance = func() float64 { d := draws[0]; draws = draws[1:]; return d }
	mux := http.NewServeMux()
	s.register(mux)
	for i, want := range []int{503, 503, 200, 200} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ratings/0", nil))
		if w.Code != want {
			t.Errorf("request %d: %d, want %d", i, w.Code, want)
		}
	}
}

func TestDelayHoldsTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRatings(Fault{Delay: 3 * time.Second, DelayShare: 1})
		mux := http.NewServeMux()
		s.register(mux)
		begin := time.Now()
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ratings/0", nil))
		if took := time.Since(begin); took != 3*time.Second || w.Code != 200 {
			t.Errorf("answered %d after %s of the bubble's clock, want 200 after 3s", w.Code, took)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin = time.Now()
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/ratings/0", nil).WithContext(ctx))
		if took := time.Since(begin); took != time.Second {
			t.Errorf("a caller who left after 1s held the service for %s", took)
		}
	})
}
