package admin

import (
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// maxFilter bounds the text of a regular expression.
const maxFilter = 1024

// stat is one number.
type stat struct {
	Name  string `json:"name"`
	Value any    `json:"value"` // float64, or a text for what JSON has no number for
}

// stats serves all numbers in Envoy's text form or JSON.
func (p *port) stats(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	filter, err := regexp.Compile(query.Get("filter"))
	if err != nil || len(query.Get("filter")) > maxFilter {
		text(w, http.StatusBadRequest, "want ?filter= with a regular expression (RE2), such as ^istio_requests_total")
		return
	}
	format := query.Get("format")
	if format == "prometheus" {
		promhttp.HandlerFor(p.gatherer, promhttp.HandlerOpts{}).ServeHTTP(w, r)
		return
	}
	families, err := p.gatherer.Gather()
	if err != nil {
		text(w, http.StatusInternalServerError, "gather: "+err.Error())
		return
	}
	all := flatten(families, filter)
	switch format {
	case "json":
		writeJSON(w, map[string]any{"stats": all})
	case "", "text":
		var b strings.Builder
		for _, s := range all {
			b.WriteString(s.line())
		}
		text(w, http.StatusOK, strings.TrimSuffix(b.String(), "\n"))
	default:
		text(w, http.StatusBadRequest, "want ?format=text, json or prometheus")
	}
}

func (s *stat) line() string {
	if v, ok := s.Value.(float64); ok {
		return s.Name + ": " + strconv.FormatFloat(v, 'f', -1, 64) + "\n"
	}
	return s.Name + ": " + s.Value.(string) + "\n"
}

// flatten gives every number a name: the metric's with its labels. Of a
// histogram there are the count and the sum.
func flatten(families []*dto.MetricFamily, filter *regexp.Regexp) []stat {
	out := []stat{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := labelText(m.GetLabel())
			add := func(suffix string, v float64) {
				s := stat{Name: f.GetName() + suffix + labels, Value: v}
				if math.IsNaN(v) || math.IsInf(v, 0) {
					s.Value = strconv.FormatFloat(v, 'f', -1, 64)
				}
				if filter.MatchString(s.Name) {
					out = append(out, s)
				}
			}
			switch {
			case m.GetCounter() != nil:
				add("", m.GetCounter().GetValue())
			case m.GetGauge() != nil:
				add("", m.GetGauge().GetValue())
			case m.GetUntyped() != nil:
				add("", m.GetUntyped().GetValue())
			case m.GetHistogram() != nil:
				add("_count", float64(m.GetHistogram().GetSampleCount()))
				add("_sum", m.GetHistogram().GetSampleSum())
			case m.GetSummary() != nil:
				add("_count", float64(m.GetSummary().GetSampleCount()))
				add("_sum", m.GetSummary().GetSampleSum())
			}
		}
	}
	return out
}

// labelText is {name="value",…}, or nothing. Values are quoted, so that none can
// begin a line.
func labelText(pairs []*dto.LabelPair) string {
	if len(pairs) == 0 {
		return ""
	}
	all := make([]string, 0, len(pairs))
	for _, p := range pairs {
		all = append(all, p.GetName()+"="+strconv.Quote(p.GetValue()))
	}
	slices.Sort(all)
	return "{" + strings.Join(all, ",") + "}"
}
