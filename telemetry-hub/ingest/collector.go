package ingest

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/telemesh/telemesh/internal/vocab"
)

// newHeld registers the counter of batches that had to wait.
func newHeld(reg prometheus.Registerer) *prometheus.CounterVec {
	held := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: vocab.MetricHubAdmissionHeld, Help: "Batches that had to wait before they were decoded, by reason.",
	}, []string{vocab.LabelReason})
	for _, r := range []string{reasonBudget, reasonMemory} {
		held.WithLabelValues(r)
	}
	reg.MustRegister(held)
	return held
}

// admissionCollector serves admission as it stands at a scrape.
type admissionCollector struct {
	admission *admission
	pressure  *pressure

	bytes, limit, waits, age, level, memoryLimit, memoryUsed *prometheus.Desc
}

func newAdmissionCollector(a *admission, p *pressure) *admissionCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &admissionCollector{
		admission: a, pressure: p,
		bytes:       desc(vocab.MetricHubAdmitted, "Bytes of batches, as they came and decoded, that wait or are under way to the log.", vocab.LabelState),
		limit:       desc(vocab.MetricHubAdmissionLimit, "Bytes of batches that may be under way."),
		waits:       desc(vocab.MetricHubAdmissionWaits, "Batches received that wait to be decoded."),
		age:         desc(vocab.MetricHubAdmissionAge, "Age of the oldest batch received that is not durable yet."),
		level:       desc(vocab.MetricHubAdmissionLevel, "0 while batches are taken in, 1 one at a time and 2 not at all, because memory is short."),
		memoryLimit: desc(vocab.MetricHubMemoryLimit, "What the hub tries to stay below, 0 without a limit."),
		memoryUsed:  desc(vocab.MetricHubMemoryUsed, "What the hub holds and a collection cannot give back."),
	}
}

// Describe implements prometheus.Collector.
func (c *admissionCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.bytes, c.limit, c.waits, c.age, c.level, c.memoryLimit, c.memoryUsed} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *admissionCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s := c.admission.stats()
	gauge(c.bytes, float64(s.waiting), "waiting")
	gauge(c.bytes, float64(s.used), "admitted")
	gauge(c.limit, float64(c.admission.budget))
	gauge(c.waits, float64(s.waitingBatches))
	gauge(c.age, s.oldest.Seconds())
	gauge(c.level, float64(s.level))
	gauge(c.memoryLimit, float64(c.pressure.limit))
	gauge(c.memoryUsed, float64(c.pressure.used.Load()))
}
