package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/policy-check/extauthz"
	"github.com/telemesh/telemesh/policy-check/ratelimit"
)

// rateLimitCollector is Envoy's rate limit service.
type rateLimitCollector struct {
	read    func() ratelimit.Stats
	reloads func() (accepted, refused uint64)
	descs   map[string]*prometheus.Desc
}

// RegisterRateLimit registers the metrics of Envoy's rate limit service. reloads
// counts the versions of its files.
func RegisterRateLimit(r prometheus.Registerer, read func() ratelimit.Stats, reloads func() (accepted, refused uint64)) {
	c := &rateLimitCollector{read, reloads, make(map[string]*prometheus.Desc)}
	desc := func(name, help string, labels ...string) { c.descs[name] = prometheus.NewDesc(name, help, labels, nil) }
	desc(vocab.MetricHubRateRequests, "Requests for Envoy's rate limits, by domain and overall code.", vocab.LabelDomain, vocab.LabelOverall)
	desc(vocab.MetricHubRateHits, "Hits on limits; shadow_mode are those over the limit that went on.", vocab.LabelDomain, vocab.LabelRule, vocab.LabelResult)
	desc(vocab.MetricHubRateNear, "Hits within their limit and beyond 80 percent of it.", vocab.LabelDomain, vocab.LabelRule)
	desc(vocab.MetricHubRateKeys, "Keys whose windows are remembered.")
	desc(vocab.MetricHubRateMaxKeys, "How many can be.")
	desc(vocab.MetricHubRateBytes, "Memory of the windows.")
	desc(vocab.MetricHubRateReclaimed, "Keys forgotten after their windows ended.")
	desc(vocab.MetricHubRateOverflow, "Hits on keys for which there was no room.")
	desc(vocab.MetricHubRateReloads, "Versions of rate limit files, by what became of them.", vocab.LabelResult)
	r.MustRegister(c)
}

// Describe implements prometheus.Collector.
func (c *rateLimitCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *rateLimitCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.read()
	gauge := func(name string, v int64) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, float64(v))
	}
	counter := func(name string, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.CounterValue, float64(v), labels...)
	}
	for _, r := range st.Requests {
		counter(vocab.MetricHubRateRequests, r.Count, r.Domain, r.Code)
	}
	for _, h := range st.Hits {
		counter(vocab.MetricHubRateHits, h.Within, h.Domain, h.Rule, "within_limit")
		counter(vocab.MetricHubRateHits, h.Over, h.Domain, h.Rule, "over_limit")
		counter(vocab.MetricHubRateHits, h.Shadow, h.Domain, h.Rule, "shadow_mode")
		counter(vocab.MetricHubRateNear, h.Near, h.Domain, h.Rule)
	}
	gauge(vocab.MetricHubRateKeys, st.Keys)
	gauge(vocab.MetricHubRateMaxKeys, st.MaxKeys)
	gauge(vocab.MetricHubRateBytes, st.Bytes)
	counter(vocab.MetricHubRateReclaimed, st.Reclaimed)
	counter(vocab.MetricHubRateOverflow, st.Overflowed)
	accepted, refused := c.reloads()
	counter(vocab.MetricHubRateReloads, accepted, "accepted")
	counter(vocab.MetricHubRateReloads, refused, "refused")
}

// authorizationCollector is Envoy's authorization service.
type authorizationCollector struct {
	read          func() extauthz.Stats
	checks, rules *prometheus.Desc
}

// RegisterAuthorization registers the metrics of Envoy's authorization service.
func RegisterAuthorization(r prometheus.Registerer, read func() extauthz.Stats) {
	r.MustRegister(&authorizationCollector{
		read:   read,
		checks: prometheus.NewDesc(vocab.MetricHubAuthChecks, "Requests of Envoys for authorization; invalid are those that name no destination.", []string{vocab.LabelResult}, nil),
		rules:  prometheus.NewDesc(vocab.MetricHubAuthRules, "What single rules decided for Envoys.", []string{vocab.LabelPolicy, vocab.LabelRule, vocab.LabelDecision}, nil),
	})
}

// Describe implements prometheus.Collector.
func (c *authorizationCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.checks
	ch <- c.rules
}

// Collect implements prometheus.Collector.
func (c *authorizationCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.read()
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	counter(c.checks, st.Allowed, "allowed")
	counter(c.checks, st.Denied, "denied")
	counter(c.checks, st.Invalid, "invalid")
	for _, r := range st.Rules {
		counter(c.rules, r.Count, r.Policy, r.Rule, r.Decision)
	}
}
