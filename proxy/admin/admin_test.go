package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// source is a sidecar that serves until it is told to drain.
type source struct{ draining bool }

func (s *source) Ready() error {
	if s.draining {
		return errors.New("draining")
	}
	return nil
}
func (*source) ConfigDump() any { return map[string]string{"service": "reviews"} }
func (*source) Clusters() any   { return []string{"ratings"} }
func (s *source) Drain()        { s.draining = true }
func (s *source) Life() Life {
	if s.draining {
		return Life{State: "draining", InboundInFlight: 3}
	}
	return Life{State: "serving"}
}

func newHandler(t *testing.T) (http.Handler, *slog.LevelVar) {
	t.Helper()
	registry := prometheus.NewRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"code", "path"})
	requests.WithLabelValues("200", "a\nb: 1").Add(12)
	full := prometheus.NewGauge(prometheus.GaugeOpts{Name: "full_ratio"})
	full.Set(0.25)
	duration := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "duration_seconds"})
	duration.Observe(2)
	registry.MustRegister(requests, full, duration)
	level := new(slog.LevelVar)
	return Handler(&source{}, registry, level), level
}

func ask(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestEndpoints(t *testing.T) {
	h, level := newHandler(t)
	for _, tc := range []struct {
		method, target string
		status         int
		body           []string
	}{
		{"GET", "/", 200, []string{"/stats ", "/stats/prometheus", "/drain", "/logging", "/clusters", "/config_dump", "/ready", "/healthz", "/debug/pprof/"}},
		{"GET", "/nonsense", 404, nil},
		{"GET", "/healthz", 200, []string{"ok\n"}},
		{"HEAD", "/healthz", 200, nil},
		{"GET", "/ready", 200, []string{"ready\n"}},
		{"GET", "/metrics", 200, []string{"# TYPE requests_total counter"}},
		{"GET", "/stats/prometheus", 200, []string{"# TYPE requests_total counter"}},
		{"GET", "/stats?format=prometheus", 200, []string{"# TYPE requests_total counter"}},
		{"GET", "/stats", 200, []string{"full_ratio: 0.25\n", `requests_total{code="200",path="a\nb: 1"}: 12` + "\n", "duration_seconds_count: 1\n", "duration_seconds_sum: 2\n"}},
		{"GET", "/stats?format=xml", 400, []string{"text, json or prometheus"}},
		{"GET", "/stats?filter=(", 400, []string{"regular expression"}},
		{"GET", "/stats?filter=" + strings.Repeat("x", maxFilter+1), 400, []string{"regular expression"}},
		{"GET", "/clusters", 200, []string{`"ratings"`}},
		{"GET", "/config_dump", 200, []string{`"service": "reviews"`}},
		{"GET", "/logging", 200, []string{"level INFO"}},
		{"POST", "/logging?level=debug", 200, []string{"level DEBUG"}},
		{"POST", "/logging?level=loud", 400, []string{"want ?level="}},
		{"GET", "/drain", 200, []string{`"state": "serving"`}},
		{"DELETE", "/drain", 405, []string{"GET to look", "POST to change"}},
		{"POST", "/stats", 405, []string{"use GET"}},
		{"POST", "/", 405, []string{"use GET"}},
		{"POST", "/drain", 200, []string{`"state": "draining"`, `"inboundInFlight": 3`}},
		{"GET", "/ready", 503, []string{"draining\n"}},
		{"GET", "/healthz", 200, []string{"ok\n"}},
	} {
		w := ask(h, tc.method, tc.target)
		if w.Code != tc.status {
			t.Errorf("%s %s: %d, want %d", tc.method, tc.target, w.Code, tc.status)
		}
		for _, part := range tc.body {
			if !strings.Contains(w.Body.String(), part) {
				t.Errorf("%s %s: %q is missing in %q", tc.method, tc.target, part, w.Body)
			}
		}
		if allow := w.Header().Get("Allow"); tc.status == 405 && !strings.Contains(allow, "GET") {
			t.Errorf("%s %s: Allow %q", tc.method, tc.target, allow)
		}
	}
	if level.Level() != slog.LevelDebug {
		t.Errorf("level %v, want debug", level.Level())
	}
}

func TestStatsAsJSONFiltered(t *testing.T) {
	h, _ := newHandler(t)
	var got struct{ Stats []stat }
	if err := json.Unmarshal(ask(h, "GET", "/stats?format=json&filter=^full").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Stats) != 1 || got.Stats[0] != (stat{"full_ratio", 0.25}) {
		t.Errorf("got %v", got.Stats)
	}
	if body := ask(h, "GET", "/stats?format=json&filter=^nothing").Body.String(); !strings.Contains(body, `"stats": []`) {
		t.Errorf("nothing found: %s", body)
	}
}

// A page of another site in the operator's browser must not stop the sidecar.
func TestOtherSitesChangeNothing(t *testing.T) {
	h, _ := newHandler(t)
	if w := ask(h, "POST", "/drain", "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusForbidden {
		t.Errorf("status %d, want 403", w.Code)
	}
	if w := ask(h, "GET", "/ready"); w.Code != 200 {
		t.Errorf("/ready: %d", w.Code)
	}
}

func TestServerServesUntilItIsTold(t *testing.T) {
	for name, release := range map[string]bool{"stopped": false, "released before": true} {
		t.Run(name, func(t *testing.T) {
			s := NewServer(&source{}, prometheus.NewRegistry(), new(slog.LevelVar))
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- s.Run(ctx, l) }()
			r, err := http.Get("http://" + l.Addr().String() + "/ready")
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(r.Body); err != nil || string(b) != "ready\n" {
				t.Errorf("%q, %v", b, err)
			}
			r.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			if release {
				s.Release()
				if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
					c.Close()
					t.Error("accepts after Release")
				}
				select {
				case err := <-ran:
					t.Errorf("Run ended: %v", err)
				default:
				}
			}
			cancel()
			if err := <-ran; err != nil {
				t.Error(err)
			}
		})
	}
}
