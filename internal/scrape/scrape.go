// Package scrape reads what a mesh's processes tell about themselves over HTTP:
// their /metrics, as Prometheus does, and the JSON of their APIs.
package scrape

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// maxReason bounds what an error quotes of an answer.
const maxReason = 1 << 10

// Page is what a process tells at one moment: metric families by name. A
// counter with labels has no series before its first event, so nil, a family
// that is missing and one without series all stand for 0.
type Page map[string]*dto.MetricFamily

// Get reads base/metrics; base is as http://127.0.0.1:9091.
func Get(ctx context.Context, base string) (Page, error) {
	url := base + "/metrics"
	b, err := Body(ctx, url)
	if err != nil {
		return nil, err
	}
	p, err := Parse(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", url, err)
	}
	return p, nil
}

// ErrNotFound is the answer 404.
var ErrNotFound = errors.New("not found")

// JSON decodes what url answers into v.
func JSON(ctx context.Context, url string, v any) error {
	b, err := Body(ctx, url)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", url, err)
	}
	return nil
}

// Body is what url answers. An answer other than 200 is an error that names it
// and says what stands in it.
func Body(ctx context.Context, url string) ([]byte, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", url, err)
	}
	if r.StatusCode == http.StatusOK {
		return b, nil
	}
	err = fmt.Errorf("%s answers %s: %s", url, r.Status, bytes.TrimSpace(b[:min(len(b), maxReason)]))
	if r.StatusCode == http.StatusNotFound {
		err = fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return nil, err
}

// Parse reads a page in Prometheus' text format.
func Parse(r io.Reader) (Page, error) {
	p := expfmt.NewTextParser(model.UTF8Validation)
	return p.TextToMetricFamilies(r)
}

// Sum adds up the series of a counter or gauge that have all these labels.
func (p Page) Sum(name string, labels map[string]string) (sum float64) {
	for _, m := range p[name].GetMetric() {
		if has(m, labels) {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
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

// Sum is that of one metric of base/metrics.
func Sum(ctx context.Context, base, name string, labels map[string]string) (float64, error) {
	p, err := Get(ctx, base)
	return p.Sum(name, labels), err
}

// Labels are those of a series, by name.
func Labels(m *dto.Metric) map[string]string {
	labels := make(map[string]string, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	return labels
}
