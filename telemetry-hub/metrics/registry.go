// Package metrics is the hub's Prometheus side: one registry with the mesh's
// and the hub's own signals, an embedded TSDB that takes a sample of it every
// second, and the query API of Prometheus over that TSDB.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/exposition"
	"github.com/telemesh/telemesh/internal/version"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/telemetry-hub/counters"
)

// Sidecar is one sidecar's state for exposition.
type Sidecar struct {
	Namespace, Workload, Service, Version, Instance string
	Connected                                       bool
	// Saturation is nil when nothing was heard lately.
	Saturation *telemetryv1.Saturation
}

// Source is what the hub knows.
type Source interface {
	Sidecars() []Sidecar
	Stats() Stats
}

// Stats are gauges of the hub itself.
type Stats struct {
	StoreBytes, StoreLogBytes         int64
	StoreRecords, Corruptions         uint64
	StoreSegments, StoreUnsealed      int
	StoreSealed, StoreSealFailures    uint64
	Edges, Watchers                   int
	PoliciesAccepted, PoliciesRefused uint64
	LeaseGranted                      map[string]uint64
}

// NewRegistry returns a registry with the standard metrics over state and the
// mesh's and the hub's gauges over source.
func NewRegistry(state *counters.State, source Source) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		exposition.NewCollector(state.Snapshot),
		newCollector(state, source),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

type collector struct {
	state  *counters.State
	source Source
	descs  map[string]*prometheus.Desc
}

func newCollector(state *counters.State, source Source) *collector {
	c := &collector{state: state, source: source, descs: make(map[string]*prometheus.Desc)}
	sidecar := func(name, help string, more ...string) {
		c.descs[name] = prometheus.NewDesc(name, help, append(append([]string{}, vocab.SidecarLabels...), more...), nil)
	}
	hub := func(name, help string, labels ...string) { c.descs[name] = prometheus.NewDesc(name, help, labels, nil) }
	sidecar(vocab.MetricInFlight, "Requests being served by a sidecar.", vocab.LabelDirection)
	sidecar(vocab.MetricPoolConnections, "Upstream connections of a sidecar by state.", vocab.LabelState)
	sidecar(vocab.MetricPoolPending, "Requests waiting for an upstream connection.")
	sidecar(vocab.MetricSidecarCPU, "CPU time of a sidecar.")
	sidecar(vocab.MetricSidecarMemory, "Memory that a sidecar holds.")
	sidecar(vocab.MetricReportQueue, "Share of a sidecar's record ring in use.")
	sidecar(vocab.MetricSidecarConnected, "1 while the sidecar is connected to the hub.")
	sidecar(vocab.MetricRecordsDropped, "Thin records that never reached the hub.", vocab.LabelReason)
	sidecar(vocab.MetricPolicyChecks, "Decisions of local policy.", vocab.LabelPolicy, vocab.LabelRule, vocab.LabelDecision, vocab.LabelOrigin)
	hub(vocab.MetricHubStoreBytes, "Bytes of the record store.")
	hub(vocab.MetricHubStoreRecords, "Thin records in the record store.")
	hub(vocab.MetricHubStoreLogBytes, "Bytes of the record store that are log: not sealed yet, or kept for the graph after a restart.")
	hub(vocab.MetricHubStoreSegments, "Sealed segments in the record store.")
	hub(vocab.MetricHubStoreUnsealed, "Closed log files that wait to be sealed.")
	hub(vocab.MetricHubStoreSealings, "Log files sealed into segments, by result; what failed is tried again.", vocab.LabelResult)
	hub(vocab.MetricHubCorrupt, "Damaged places found in the data directory when it was opened or read.")
	hub(vocab.MetricHubEdges, "Edges of the live graph.")
	hub(vocab.MetricHubWatchers, "Open live views of the graph.")
	hub(vocab.MetricHubPolicyReloads, "Policy files read, by result.", vocab.LabelResult)
	hub(vocab.MetricHubLeaseGrants, "Credits granted to sidecars.", vocab.LabelLimit)
	hub(vocab.MetricHubLostRecords, "Thin records that sidecars dropped before the hub got them.", vocab.LabelReason)
	hub(vocab.MetricBuild, "Always 1; the labels say what runs.", "component", "tag")
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, v, labels...)
	}
	counter := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.CounterValue, v, labels...)
	}
	for _, s := range c.source.Sidecars() {
		collectSidecar(s, gauge, counter)
	}
	lost := make(map[string]uint64)
	for _, d := range c.state.Dropped() {
		counter(vocab.MetricRecordsDropped, float64(d.Count), append(identityLabels(d.Node), d.Reason)...)
		lost[d.Reason] += d.Count
	}
	for reason, n := range lost {
		counter(vocab.MetricHubLostRecords, float64(n), reason)
	}
	for _, p := range c.state.Policies() {
		counter(vocab.MetricPolicyChecks, float64(p.Count), append(identityLabels(p.Node), p.Policy, p.Rule, p.Decision, p.Origin)...)
	}
	st := c.source.Stats()
	gauge(vocab.MetricHubStoreBytes, float64(st.StoreBytes))
	gauge(vocab.MetricHubStoreRecords, float64(st.StoreRecords))
	gauge(vocab.MetricHubStoreLogBytes, float64(st.StoreLogBytes))
	gauge(vocab.MetricHubStoreSegments, float64(st.StoreSegments))
	gauge(vocab.MetricHubStoreUnsealed, float64(st.StoreUnsealed))
	counter(vocab.MetricHubStoreSealings, float64(st.StoreSealed), "sealed")
	counter(vocab.MetricHubStoreSealings, float64(st.StoreSealFailures), "failed")
	counter(vocab.MetricHubCorrupt, float64(st.Corruptions))
	gauge(vocab.MetricHubEdges, float64(st.Edges))
	gauge(vocab.MetricHubWatchers, float64(st.Watchers))
	counter(vocab.MetricHubPolicyReloads, float64(st.PoliciesAccepted), "accepted")
	counter(vocab.MetricHubPolicyReloads, float64(st.PoliciesRefused), "refused")
	for limit, n := range st.LeaseGranted {
		counter(vocab.MetricHubLeaseGrants, float64(n), limit)
	}
	gauge(vocab.MetricBuild, 1, "hub", version.String())
}

// collectSidecar emits one sidecar's gauges; what was not heard of lately has
// no value rather than an old one.
func collectSidecar(s Sidecar, gauge, counter func(string, float64, ...string)) {
	base := []string{s.Namespace, s.Workload, s.Service, s.Version, s.Instance}
	with := func(more string) []string { return append(append([]string{}, base...), more) }
	connected := 0.0
	if s.Connected {
		connected = 1
	}
	gauge(vocab.MetricSidecarConnected, connected, base...)
	if s.Saturation == nil {
		return
	}
	gauge(vocab.MetricInFlight, float64(s.Saturation.GetInboundInFlight()), with(vocab.DirectionInbound)...)
	gauge(vocab.MetricInFlight, float64(s.Saturation.GetOutboundInFlight()), with(vocab.DirectionOutbound)...)
	gauge(vocab.MetricPoolConnections, float64(s.Saturation.GetPoolActive()), with("active")...)
	gauge(vocab.MetricPoolConnections, float64(s.Saturation.GetPoolIdle()), with("idle")...)
	gauge(vocab.MetricPoolPending, float64(s.Saturation.GetPoolPending()), base...)
	counter(vocab.MetricSidecarCPU, float64(s.Saturation.GetCpuNanos())/1e9, base...)
	gauge(vocab.MetricSidecarMemory, float64(s.Saturation.GetMemoryBytes()), base...)
	gauge(vocab.MetricReportQueue, s.Saturation.GetReportQueueRatio(), base...)
}

func identityLabels(i *telemetryv1.Identity) []string {
	return []string{i.GetNamespace(), i.GetWorkload(), i.GetService(), i.GetVersion(), i.GetInstance()}
}
