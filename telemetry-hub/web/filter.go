package web

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/telemetry-hub/graph"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

const filterHint = "filters: service, from, to, node, edge, method, path (prefix), status (200, 5xx, error, denied, throttled), min_ms, reporter (source, destination)"

// filter says which records are asked for: match decides, and where says the same
// as far as segments can look for it.
type filter struct {
	match func(*record.Record, *telemetryv1.Edge) bool
	where segment.Query
}

type matcher = func(*record.Record, *telemetryv1.Edge) bool

// parseFilter reads the filters of a search or a tap; all of them must match.
// An unknown one is refused, lest a misspelt filter show everything.
func parseFilter(q url.Values) (filter, error) {
	var all []matcher
	var f filter
	for name, values := range q {
		v := values[0]
		if v == "" {
			continue
		}
		m, err := one(name, v, &f.where)
		if err != nil {
			return f, err
		}
		if m != nil {
			all = append(all, m)
		}
	}
	f.match = func(r *record.Record, e *telemetryv1.Edge) bool {
		for _, m := range all {
			if !m(r, e) {
				return false
			}
		}
		return true
	}
	return f, nil
}

func one(name, v string, where *segment.Query) (matcher, error) {
	switch name {
	case "limit", "max_rps":
		return nil, nil
	case "service":
		return func(_ *record.Record, e *telemetryv1.Edge) bool {
			return is(e.GetSource(), v) || is(e.GetDestination(), v)
		}, nil
	case "from":
		return func(_ *record.Record, e *telemetryv1.Edge) bool { return is(e.GetSource(), v) }, nil
	case "to":
		return func(_ *record.Record, e *telemetryv1.Edge) bool { return is(e.GetDestination(), v) }, nil
	case "node":
		return func(_ *record.Record, e *telemetryv1.Edge) bool {
			return graph.RefOf(e.GetSource()).ID == v || graph.RefOf(e.GetDestination()).ID == v
		}, nil
	case "edge":
		return func(r *record.Record, e *telemetryv1.Edge) bool {
			return graph.EdgeID(graph.RefOf(e.GetSource()).ID, graph.RefOf(e.GetDestination()).ID, e.GetDestinationService(), r.Protocol) == v
		}, nil
	case "method":
		return func(r *record.Record, _ *telemetryv1.Edge) bool { return strings.EqualFold(r.Method, v) }, nil
	case "path":
		where.PathPrefix = v
		return func(r *record.Record, _ *telemetryv1.Edge) bool { return strings.HasPrefix(r.Path, v) }, nil
	case "reporter":
		want := telemetryv1.Reporter_REPORTER_SOURCE
		if v == "destination" {
			want = telemetryv1.Reporter_REPORTER_DESTINATION
		} else if v != "source" {
			return nil, fmt.Errorf("reporter=%s: want source or destination", v)
		}
		return func(_ *record.Record, e *telemetryv1.Edge) bool { return e.GetReporter() == want }, nil
	case "min_ms":
		ms, err := strconv.ParseFloat(v, 64)
		if err != nil || !(ms >= 0 && ms < 1e12) { // not NaN, nor more than a duration holds
			return nil, fmt.Errorf("min_ms=%s is not a number of milliseconds", v)
		}
		least := time.Duration(ms * float64(time.Millisecond))
		where.MinDuration = least
		return func(r *record.Record, _ *telemetryv1.Edge) bool { return r.Duration >= least }, nil
	case "status":
		return status(v, where)
	}
	return nil, fmt.Errorf("unknown filter %q", name)
}

// is matches a workload by its service, its name or both with the namespace.
func is(i *telemetryv1.Identity, v string) bool {
	return v == i.GetService() || v == i.GetWorkload() || v == i.GetNamespace()+"/"+i.GetWorkload() || v == i.GetNamespace()+"/"+i.GetService()
}

func status(v string, where *segment.Query) (matcher, error) {
	verdict := func(want string) matcher {
		return func(r *record.Record, _ *telemetryv1.Edge) bool { return r.Verdict == want }
	}
	switch v {
	case "denied":
		return verdict(vocab.VerdictDenied), nil
	case "throttled":
		return verdict(vocab.VerdictThrottled), nil
	case "error", "errors", "5xx": // what fails: also no response and gRPC failures
		where.Failed = true
		return func(r *record.Record, _ *telemetryv1.Edge) bool {
			return r.Code == 0 || r.Code >= 500 || r.GRPCStatus > 1
		}, nil
	case "1xx", "2xx", "3xx", "4xx":
		class := uint32(v[0] - '0')
		where.MinCode = class * 100
		return func(r *record.Record, _ *telemetryv1.Edge) bool { return r.Code/100 == class }, nil
	}
	code, err := strconv.ParseUint(v, 10, 16)
	if err != nil || code > 999 {
		return nil, fmt.Errorf("status=%s: want a code, a class as in 5xx, error, denied or throttled", v)
	}
	where.MinCode = uint32(code)
	return func(r *record.Record, _ *telemetryv1.Edge) bool { return uint64(r.Code) == code }, nil
}
