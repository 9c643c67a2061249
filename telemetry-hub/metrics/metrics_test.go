package metrics

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// bench is a database over a registry, with its API.
type bench struct {
	*Database
	t   *testing.T
	mux *http.ServeMux
	now time.Time
}

func newBench(t *testing.T, dir string, reg prometheus.Gatherer) *bench {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	d, err := OpenDatabase(dir, time.Hour, reg, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.db.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{Database: d, t: t, mux: http.NewServeMux(), now: time.Now().Truncate(time.Second)}
	NewAPI(d, log).Register(b.mux)
	return b
}

func (b *bench) sample() {
	b.t.Helper()
	b.now = b.now.Add(time.Second)
	if err := b.Sample(b.now); err != nil {
		b.t.Fatal(err)
	}
}

// answered is an answer in Prometheus' format.
type answered struct {
	Status, ErrorType, Error string
	Data                     json.RawMessage
}

func (b *bench) ask(path string, params ...string) (int, answered) {
	b.t.Helper()
	q := make(url.Values)
	for i := 0; i < len(params); i += 2 {
		q.Add(params[i], params[i+1])
	}
	w := httptest.NewRecorder()
	b.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/"+path+"?"+q.Encode(), nil))
	var a answered
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		b.t.Fatalf("%s: %v in %s", path, err, w.Body)
	}
	return w.Code, a
}

func (b *bench) at(seconds int) string {
	return b.now.Add(time.Duration(seconds) * time.Second).UTC().Format(time.RFC3339)
}

func TestRateSeesTheFirstEventOfASeries(t *testing.T) {
	reg := prometheus.NewRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"code"})
	requests.WithLabelValues("200").Add(5)
	reg.MustRegister(requests)
	b := newBench(t, t.TempDir(), reg)
	b.sample()
	requests.WithLabelValues("500").Inc()
	b.sample()
	var data struct {
		ResultType string
		Result     []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	for query, want := range map[string]string{
		`requests_total{code="500"}`: "1", `min_over_time(requests_total{code="500"}[1m])`: "0", `min_over_time(requests_total{code="200"}[1m])`: "5",
	} {
		code, a := b.ask("query", "query", query, "time", b.at(0))
		if err := json.Unmarshal(a.Data, &data); err != nil || code != 200 || a.Status != "success" {
			t.Fatalf("%s: %d %+v, %v", query, code, a, err)
		}
		if data.ResultType != "vector" || len(data.Result) != 1 || data.Result[0].Value[1] != want {
			t.Errorf("%s = %+v, want %s", query, data, want)
		}
	}
}

func TestAPIAnswersAsPrometheusDoes(t *testing.T) {
	reg := prometheus.NewRegistry()
	latency := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "latency", Buckets: []float64{1}})
	up := prometheus.NewGauge(prometheus.GaugeOpts{Name: "up"})
	up.Set(1)
	reg.MustRegister(latency, up)
	b := newBench(t, t.TempDir(), reg)
	b.sample()
	latency.(prometheus.ExemplarObserver).ObserveWithExemplar(0.5, prometheus.Labels{"trace_id": "abc"})
	b.sample()
	for _, c := range []struct {
		path   string
		params []string
		want   string
	}{
		{"series", []string{"match[]", "up"}, `[{"__name__":"up"}]`},
		{"labels", nil, `["__name__","le"]`},
		{"label/le/values", nil, `["+Inf","1"]`},
		{"label/le/values", []string{"match[]", "up"}, `[]`},
		{"rules", nil, `{"groups":[]}`},
	} {
		if code, a := b.ask(c.path, c.params...); code != 200 || string(a.Data) != c.want {
			t.Errorf("%s = %d %s, want %s", c.path, code, a.Data, c.want)
		}
	}
	var exemplars []struct {
		Exemplars []struct{ Labels map[string]string }
	}
	_, a := b.ask("query_exemplars", "query", "latency_bucket")
	if err := json.Unmarshal(a.Data, &exemplars); err != nil || len(exemplars) != 1 || exemplars[0].Exemplars[0].Labels["trace_id"] != "abc" {
		t.Errorf("exemplars = %s, %v", a.Data, err)
	}
	var matrix struct {
		ResultType string
		Result     []struct{ Values [][2]any }
	}
	_, a = b.ask("query_range", "query", "up", "start", b.at(-1), "end", b.at(0), "step", "1")
	if err := json.Unmarshal(a.Data, &matrix); err != nil || matrix.ResultType != "matrix" || len(matrix.Result) != 1 || len(matrix.Result[0].Values) != 2 {
		t.Errorf("range = %s, %v", a.Data, err)
	}
}

func TestAPIRefusesAsPrometheusDoes(t *testing.T) {
	b := newBench(t, t.TempDir(), prometheus.NewRegistry())
	for _, c := range []struct {
		path   string
		params []string
	}{
		{"query", []string{"query", "sum("}}, {"query", []string{"query", "up", "time", "noon"}}, {"series", nil}, {"series", []string{"match[]", "{"}},
		{"query_range", []string{"query", "up"}}, {"query_range", []string{"query", "up", "start", "2", "end", "1", "step", "1"}},
		{"query_range", []string{"query", "up", "start", "1", "end", "2", "step", "0"}},
		{"query_range", []string{"query", "up", "start", "0", "end", "20000", "step", "1"}},
	} {
		if code, a := b.ask(c.path, c.params...); code != 400 || a.Status != "error" || a.ErrorType != "bad_data" || a.Error == "" {
			t.Errorf("%s %q: %d %+v, want bad_data", c.path, c.params, code, a)
		}
	}
}

func TestDamagedDatabaseIsSetAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tsdb")
	if err := os.WriteFile(dir, []byte("not a directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, dir, prometheus.NewRegistry())
	b.sample()
	if aside, err := filepath.Glob(dir + ".damaged-*"); err != nil || len(aside) != 1 {
		t.Errorf("set aside: %q, %v; want the damaged one kept", aside, err)
	}
}
