package scrape

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const page = `# TYPE answers_total counter
answers_total{code="200",side="in"} 3
answers_total{code="200",side="out"} 4
answers_total{code="500",side="in"} 5
# TYPE open gauge
open 6
`

func TestSumTakesTheSeriesThatHaveAllLabels(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, page)
	}))
	defer server.Close()
	for _, tc := range []struct {
		name   string
		labels map[string]string
		want   float64
	}{
		{"answers_total", nil, 12},
		{"answers_total", map[string]string{"code": "200"}, 7},
		{"answers_total", map[string]string{"code": "200", "side": "in"}, 3},
		{"answers_total", map[string]string{"code": "404"}, 0},
		{"answers_total", map[string]string{"code": "200", "verdict": "ok"}, 0},
		{"open", nil, 6},
		{"nothing_total", nil, 0},
	} {
		if got, err := Sum(t.Context(), server.URL, tc.name, tc.labels); got != tc.want || err != nil {
			t.Errorf("Sum of %s %v = %v, %v; want %v", tc.name, tc.labels, got, err, tc.want)
		}
	}
	if n, err := Sum(t.Context(), server.URL+"/elsewhere", "open", nil); n != 0 || err == nil || !strings.Contains(err.Error(), "/elsewhere/metrics answers 404") {
		t.Errorf("Sum of a page that is not there = %v, %v; want an error that names it", n, err)
	}
}

func TestParseNamesWhatIsNoMetric(t *testing.T) {
	if p, err := Parse(strings.NewReader("<html>\n")); err == nil {
		t.Errorf("Parse = %v, want an error", p)
	}
	p, err := Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := Labels(p["answers_total"].GetMetric()[1]), map[string]string{"code": "200", "side": "out"}; !maps.Equal(got, want) {
		t.Errorf("Labels = %v, want %v", got, want)
	}
}

func TestJSONSaysWhatWasAnsweredInstead(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			fmt.Fprint(w, `{"n": 7}`)
		case "/bad":
			fmt.Fprint(w, `{"n": `)
		case "/busy":
			http.Error(w, "come again", http.StatusServiceUnavailable)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	for path, want := range map[string]string{"/good": "", "/bad": "/bad: unexpected end", "/busy": "/busy answers 503 Service Unavailable: come again", "/none": "/none answers 404"} {
		var v struct{ N int }
		err := JSON(t.Context(), server.URL+path, &v)
		if want == "" && (err != nil || v.N != 7) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("JSON of %s = %+v, %v; want %q", path, v, err, want)
		}
		if errors.Is(err, ErrNotFound) != (path == "/none") {
			t.Errorf("JSON of %s = %v: ErrNotFound is 404 alone", path, err)
		}
	}
}
