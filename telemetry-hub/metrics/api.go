package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/telemesh/telemesh/internal/version"
)

const (
	maxSamples   = 50_000_000
	queryTimeout = 2 * time.Minute
	lookback     = 5 * time.Minute
	// maxPoints per series of a range query, as in Prometheus.
	maxPoints = 11_000
)

// API is Prometheus' HTTP query API over the database, as Grafana, Kiali and
// promtool use it.
type API struct {
	d      *Database
	engine *promql.Engine
	parser parser.Parser
}

// NewAPI returns the API of d.
func NewAPI(d *Database, log *slog.Logger) *API {
	p := parser.NewParser(parser.Options{})
	return &API{d: d, parser: p, engine: promql.NewEngine(promql.EngineOpts{
		Logger: log, MaxSamples: maxSamples, Timeout: queryTimeout, LookbackDelta: lookback,
		EnableAtModifier: true, EnableNegativeOffset: true, Parser: p,
		NoStepSubqueryIntervalFn: func(int64) int64 { return (15 * time.Second).Milliseconds() },
	})}
}

// Register adds the routes to mux. Both methods are served: Grafana posts.
func (a *API) Register(mux *http.ServeMux) {
	routes := map[string]func(*http.Request) (any, annotations.Annotations, error){
		"/api/v1/query":               a.query,
		"/api/v1/query_range":         a.queryRange,
		"/api/v1/query_exemplars":     a.exemplars,
		"/api/v1/series":              a.series,
		"/api/v1/labels":              a.labels,
		"/api/v1/label/{name}/values": a.labelValues,
		"/api/v1/metadata":            a.metadata,
		"/api/v1/status/buildinfo":    buildInfo,
		"/api/v1/rules": func(*http.Request) (any, annotations.Annotations, error) {
			return map[string]any{"groups": []any{}}, nil, nil
		},
		"/api/v1/alerts": func(*http.Request) (any, annotations.Annotations, error) {
			return map[string]any{"alerts": []any{}}, nil, nil
		},
	}
	for pattern, h := range routes {
		mux.Handle("GET "+pattern, answer(h))
		mux.Handle("POST "+pattern, answer(h))
	}
}

// apiError is an error in Prometheus' terms.
type apiError struct {
	kind   string
	status int
	err    error
}

func (e *apiError) Error() string { return e.err.Error() }

func badData(format string, args ...any) error {
	return &apiError{"bad_data", http.StatusBadRequest, fmt.Errorf(format, args...)}
}

func answer(h func(*http.Request) (any, annotations.Annotations, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		data, warnings, err := h(r)
		if err != nil {
			e := classifyError(err)
			w.WriteHeader(e.status)
			_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": e.kind, "error": e.Error()})
			return
		}
		body := map[string]any{"status": "success", "data": data}
		if list, infos := warnings.AsStrings("", 10, 10); len(list)+len(infos) > 0 {
			body["warnings"], body["infos"] = list, infos
		}
		_ = json.NewEncoder(w).Encode(body) // a reader that left needs no answer
	})
}

func classifyError(err error) *apiError {
	var known *apiError
	var timeout promql.ErrQueryTimeout
	var canceled promql.ErrQueryCanceled
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &timeout):
		return &apiError{"timeout", http.StatusServiceUnavailable, err}
	case errors.As(err, &canceled):
		return &apiError{"canceled", 499, err}
	}
	return &apiError{"execution", http.StatusUnprocessableEntity, err}
}

func (a *API) query(r *http.Request) (any, annotations.Annotations, error) {
	at, err := timeParam(r, "time", time.Now())
	if err != nil {
		return nil, nil, err
	}
	q, err := a.engine.NewInstantQuery(r.Context(), a.d.db, nil, r.FormValue("query"), at)
	if err != nil {
		return nil, nil, badData("invalid parameter \"query\": %w", err)
	}
	return run(r.Context(), q)
}

func (a *API) queryRange(r *http.Request) (any, annotations.Annotations, error) {
	start, err := timeParam(r, "start", time.Time{})
	if err != nil {
		return nil, nil, err
	}
	end, err := timeParam(r, "end", time.Time{})
	if err != nil {
		return nil, nil, err
	}
	step, err := duration(r.FormValue("step"))
	switch {
	case err != nil || step <= 0:
		return nil, nil, badData("invalid parameter \"step\": want a positive duration, as in 15s")
	case end.Before(start):
		return nil, nil, badData("invalid parameter \"end\": end is before start")
	case end.Sub(start)/step > maxPoints:
		return nil, nil, badData("more than %d points per series: use a longer step", maxPoints)
	}
	q, err := a.engine.NewRangeQuery(r.Context(), a.d.db, nil, r.FormValue("query"), start, end, step)
	if err != nil {
		return nil, nil, badData("invalid parameter \"query\": %w", err)
	}
	return run(r.Context(), q)
}

func run(ctx context.Context, q promql.Query) (any, annotations.Annotations, error) {
	defer q.Close()
	result := q.Exec(ctx)
	if result.Err != nil {
		return nil, nil, result.Err
	}
	// The result's memory belongs to the query, so it is encoded before Close.
	body, err := json.Marshal(map[string]any{"resultType": result.Value.Type(), "result": result.Value})
	if err != nil {
		return nil, nil, fmt.Errorf("encode result: %w", err)
	}
	return json.RawMessage(body), result.Warnings, nil
}

func (a *API) exemplars(r *http.Request) (any, annotations.Annotations, error) {
	start, end, err := timeRange(r)
	if err != nil {
		return nil, nil, err
	}
	expr, err := a.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return nil, nil, badData("invalid parameter \"query\": %w", err)
	}
	querier, err := a.d.db.ExemplarQuerier(r.Context())
	if err != nil {
		return nil, nil, err
	}
	found, err := querier.Select(start.UnixMilli(), end.UnixMilli(), parser.ExtractSelectors(expr)...)
	if err != nil {
		return nil, nil, err
	}
	out := []exemplarSeries{}
	for _, f := range found {
		one := exemplarSeries{SeriesLabels: f.SeriesLabels}
		for _, e := range f.Exemplars {
			one.Exemplars = append(one.Exemplars, exemplarPoint{Labels: e.Labels, Value: strconv.FormatFloat(e.Value, 'f', -1, 64), Timestamp: float64(e.Ts) / 1000})
		}
		out = append(out, one)
	}
	return out, nil, nil
}

type exemplarSeries struct {
	SeriesLabels labels.Labels   `json:"seriesLabels"`
	Exemplars    []exemplarPoint `json:"exemplars"`
}

type exemplarPoint struct {
	Labels    labels.Labels `json:"labels"`
	Value     string        `json:"value"`
	Timestamp float64       `json:"timestamp"`
}

// querier opens the database for the request's time range.
func (a *API) querier(r *http.Request) (storage.Querier, [][]*labels.Matcher, error) {
	start, end, err := timeRange(r)
	if err != nil {
		return nil, nil, err
	}
	var sets [][]*labels.Matcher
	for _, m := range r.Form["match[]"] {
		set, err := a.parser.ParseMetricSelector(m)
		if err != nil {
			return nil, nil, badData("invalid parameter \"match[]\": %w", err)
		}
		sets = append(sets, set)
	}
	q, err := a.d.db.Querier(start.UnixMilli(), end.UnixMilli())
	return q, sets, err
}

func (a *API) series(r *http.Request) (any, annotations.Annotations, error) {
	q, sets, err := a.querier(r)
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	if len(sets) == 0 {
		return nil, nil, badData("no match[] parameter provided")
	}
	start, end, err := timeRange(r)
	if err != nil {
		return nil, nil, err
	}
	// The database takes the time range from the hints, not from the querier.
	hints := &storage.SelectHints{Func: "series", Start: start.UnixMilli(), End: end.UnixMilli()}
	var found []storage.SeriesSet
	for _, s := range sets {
		found = append(found, q.Select(r.Context(), true, hints, s...))
	}
	merged := storage.NewMergeSeriesSet(found, 0, storage.ChainedSeriesMerge)
	out := []labels.Labels{}
	for merged.Next() {
		out = append(out, merged.At().Labels())
	}
	return out, merged.Warnings(), merged.Err()
}

func (a *API) labels(r *http.Request) (any, annotations.Annotations, error) {
	q, sets, err := a.querier(r)
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	return union(sets, func(set ...*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelNames(r.Context(), nil, set...)
	})
}

func (a *API) labelValues(r *http.Request) (any, annotations.Annotations, error) {
	q, sets, err := a.querier(r)
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	name := r.PathValue("name")
	if !model.UTF8Validation.IsValidLabelName(name) {
		return nil, nil, badData("invalid label name: %q", name)
	}
	return union(sets, func(set ...*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelValues(r.Context(), name, nil, set...)
	})
}

// union asks once for each set of matchers, or once without any.
func union(sets [][]*labels.Matcher, ask func(...*labels.Matcher) ([]string, annotations.Annotations, error)) (any, annotations.Annotations, error) {
	if len(sets) == 0 {
		sets = [][]*labels.Matcher{nil}
	}
	out := []string{}
	var warnings annotations.Annotations
	for _, set := range sets {
		values, more, err := ask(set...)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, values...)
		warnings.Merge(more)
	}
	slices.Sort(out)
	return slices.Compact(out), warnings, nil
}

func (a *API) metadata(*http.Request) (any, annotations.Annotations, error) {
	families, err := a.d.gatherer.Gather()
	if err != nil {
		return nil, nil, err
	}
	out := make(map[string][]map[string]string, len(families))
	for _, f := range families {
		kind := map[string]string{"COUNTER": "counter", "GAUGE": "gauge", "HISTOGRAM": "histogram", "SUMMARY": "summary"}[f.GetType().String()]
		if kind == "" {
			kind = "unknown"
		}
		out[f.GetName()] = []map[string]string{{"type": kind, "help": f.GetHelp(), "unit": ""}}
	}
	return out, nil, nil
}

// buildInfo names a Prometheus version, by which clients choose features: that
// of the engine inside.
func buildInfo(*http.Request) (any, annotations.Annotations, error) {
	return map[string]string{
		"version": "3.15.0", "revision": "telemesh " + version.String(), "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
	}, nil, nil
}

func timeRange(r *http.Request) (start, end time.Time, err error) {
	if err := r.ParseForm(); err != nil {
		return start, end, badData("parse form: %w", err)
	}
	if start, err = timeParam(r, "start", time.UnixMilli(math.MinInt64/2)); err != nil {
		return start, end, err
	}
	end, err = timeParam(r, "end", time.UnixMilli(math.MaxInt64/2))
	return start, end, err
}

// timeParam reads Unix seconds with fraction or RFC 3339. A zero fallback means
// that the parameter is required.
func timeParam(r *http.Request, name string, fallback time.Time) (time.Time, error) {
	s := r.FormValue(name)
	if s == "" {
		if fallback.IsZero() {
			return fallback, badData("invalid parameter %q: cannot parse \"\" to a valid timestamp", name)
		}
		return fallback, nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return time.UnixMilli(int64(math.Round(f * 1000))), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, badData("invalid parameter %q: cannot parse %q to a valid timestamp", name, s)
	}
	return t, nil
}

func duration(s string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return time.Duration(f * float64(time.Second)), nil
	}
	d, err := model.ParseDuration(s)
	return time.Duration(d), err
}
