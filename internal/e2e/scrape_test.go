//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// scrape sums a metric over the series of base/metrics that have all these
// labels. A metric that is not there is 0: a counter with labels has no series
// before its first event.
func scrape(base, name string, labels map[string]string) (float64, error) {
	all, err := families(base)
	return sum(all[name], labels), err
}

// families are all metrics of base/metrics.
func families(base string) (map[string]*dto.MetricFamily, error) {
	b, err := get(base + "/metrics")
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("read %s/metrics: %w", base, err)
	}
	return all, nil
}

func sum(f *dto.MetricFamily, labels map[string]string) float64 {
	var n float64
	for _, m := range f.GetMetric() {
		if has(m, labels) {
			n += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return n
}

func has(m *dto.Metric, labels map[string]string) bool {
	n := 0
	for _, l := range m.GetLabel() {
		if want, asked := labels[l.GetName()]; asked && want == l.GetValue() {
			n++
		}
	}
	return n == len(labels)
}

// edge between two workloads.
func edge(g topologyv1.Graph, source, destination string) topologyv1.Edge {
	from, to := node(g, source).ID, node(g, destination).ID
	for _, e := range g.Edges {
		if e.Source == from && e.Destination == to {
			return e
		}
	}
	return topologyv1.Edge{}
}

// responses of an edge over the last minute, by response flags.
func (d *demo) responses(id string) (map[string]uint64, error) {
	var s topologyv1.Series
	if err := getJSON(d.Hub+"/api/mesh/v1/series?window=60&edge="+url.QueryEscape(id), &s); err != nil {
		return nil, err
	}
	out := make(map[string]uint64)
	for _, r := range s.Responses {
		for flag := range strings.SplitSeq(r.Flags, ",") {
			out[flag] += r.Requests
		}
	}
	return out, nil
}

// answer is a response whose body was read.
type answer struct {
	status int
	header http.Header
	body   string
}

// call sends a GET and reads the whole answer.
func call(client *http.Client, url string) (answer, error) {
	resp, err := client.Get(url)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: string(b)}, err
}
