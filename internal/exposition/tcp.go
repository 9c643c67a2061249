package exposition

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/telemesh/telemesh/internal/vocab"
)

// tcpMetrics are those of opaque connections. A connection is counted when it
// has ended, opened and closed at once: until then its record is not complete.
type tcpMetrics struct{ opened, closed, sent, received *prometheus.Desc }

func newTCPMetrics() tcpMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, vocab.TCPLabels, nil)
	}
	return tcpMetrics{
		opened:   desc(vocab.MetricTCPOpened, "Opaque connections that were opened and have ended."),
		closed:   desc(vocab.MetricTCPClosed, "Opaque connections that have ended."),
		sent:     desc(vocab.MetricTCPSentBytes, "Bytes sent to callers on opaque connections."),
		received: desc(vocab.MetricTCPReceivedBytes, "Bytes received from callers on opaque connections."),
	}
}

func (m *tcpMetrics) each(f func(d *prometheus.Desc, value func(*Row) uint64)) {
	connections := func(r *Row) uint64 { return r.Requests }
	f(m.opened, connections)
	f(m.closed, connections)
	f(m.sent, func(r *Row) uint64 { return r.ResponseBytesSum })
	f(m.received, func(r *Row) uint64 { return r.RequestBytesSum })
}

func (m *tcpMetrics) describe(ch chan<- *prometheus.Desc) {
	m.each(func(d *prometheus.Desc, _ func(*Row) uint64) { ch <- d })
}

func (m *tcpMetrics) collect(ch chan<- prometheus.Metric, r *Row) {
	m.each(func(d *prometheus.Desc, value func(*Row) uint64) {
		metric, err := prometheus.NewConstMetric(d, prometheus.CounterValue, float64(value(r)), r.Labels...)
		if err != nil {
			metric = prometheus.NewInvalidMetric(d, err)
		}
		ch <- metric
	})
}

// statusLabels is where the statuses are among vocab.RequestLabels.
var statusLabels = slices.Index(vocab.RequestLabels, vocab.LabelCode)

// tcpValues are those of vocab.TCPLabels.
func tcpValues(values []string) []string { return slices.Delete(values, statusLabels, statusLabels+2) }
