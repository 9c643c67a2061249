package proxy

import (
	"runtime/metrics"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/version"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/policy-check/lease"
)

func newProtocolErrors() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: vocab.MetricProtocolErrors, Help: "Connections refused because their input was not valid HTTP.",
	}, []string{"direction", "reason"})
}

// Saturation implements report.Gauges.
func (p *Proxy) Saturation() *telemetryv1.Saturation {
	inFlight, inActive, inIdle, inPending := p.inbound.Saturation()
	outFlight, outActive, outIdle, outPending := p.outbound.Saturation()
	return &telemetryv1.Saturation{
		InboundInFlight: uint32(inFlight), OutboundInFlight: uint32(outFlight),
		PoolActive: uint32(inActive + outActive), PoolIdle: uint32(inIdle + outIdle), PoolPending: uint32(inPending + outPending),
		CpuNanos: cpuNanos(), MemoryBytes: memoryBytes(), ReportQueueRatio: p.store.QueueRatio(),
		Goroutines: uint32(readMetric("/sched/goroutines:goroutines")),
	}
}

// PolicyCounters implements report.Gauges.
func (p *Proxy) PolicyCounters() []*telemetryv1.PolicyCounter {
	var out []*telemetryv1.PolicyCounter
	for _, c := range p.checker.Counters() {
		out = append(out, &telemetryv1.PolicyCounter{Policy: c.Policy, Rule: c.Rule, Decision: c.Decision, Origin: c.Origin, Count: c.Count})
	}
	for _, c := range p.access.Counters() {
		out = append(out, &telemetryv1.PolicyCounter{Policy: c.Policy, Rule: c.Rule, Decision: c.Decision, Origin: originLocal, Count: c.Count})
	}
	return out
}

// originLocal: access policies are decided without asking anybody.
const originLocal = string(lease.OriginLocal)

func cpuNanos() uint64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return uint64(u.Utime.Nano() + u.Stime.Nano())
}

// memoryBytes is what the Go runtime holds from the system, less what it has
// given back: near the resident set and cheap to read.
func memoryBytes() uint64 {
	return readMetric("/memory/classes/total:bytes") - readMetric("/memory/classes/heap/released:bytes")
}

func readMetric(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}

// gaugeCollector serves the sidecar's own saturation and policy signals.
type gaugeCollector struct {
	p                                                           *Proxy
	inFlight, connections, pending, cpu, memory, queue, dropped *prometheus.Desc
	checks, build                                               *prometheus.Desc
	details, detailsLeft, detailHorizon, detailKept             *prometheus.Desc
}

func newGaugeCollector(p *Proxy) *gaugeCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &gaugeCollector{
		p:             p,
		inFlight:      desc(vocab.MetricInFlight, "Requests being served.", "direction"),
		connections:   desc(vocab.MetricPoolConnections, "Upstream connections by state.", "state"),
		pending:       desc(vocab.MetricPoolPending, "Requests waiting for an upstream connection."),
		cpu:           desc(vocab.MetricSidecarCPU, "CPU time of the sidecar."),
		memory:        desc(vocab.MetricSidecarMemory, "Memory that the sidecar holds."),
		queue:         desc(vocab.MetricReportQueue, "Share of the record ring in use."),
		dropped:       desc(vocab.MetricRecordsDropped, "Thin records that never reached the hub.", "reason"),
		details:       desc(vocab.MetricDetailsSent, "Details of requests that went to the hub, by what asked for them.", vocab.LabelTrigger),
		detailsLeft:   desc(vocab.MetricDetailsLeft, "Details that were asked for and stayed in the ring, by reason.", vocab.LabelReason),
		detailHorizon: desc(vocab.MetricDetailHorizon, "How far back the ring of details reaches."),
		detailKept:    desc(vocab.MetricDetailKeptOneOf, "Traces for one whose requests the ring of details keeps."),
		checks:        desc(vocab.MetricPolicyChecks, "Decisions of local policy.", "policy", "rule", "decision", "origin"),
		build:         desc(vocab.MetricBuild, "Always 1; the labels say what runs.", "component", "tag"),
	}
}

// Describe implements prometheus.Collector.
func (c *gaugeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.inFlight, c.connections, c.pending, c.cpu, c.memory, c.queue, c.dropped, c.checks, c.build, c.details, c.detailsLeft, c.detailHorizon, c.detailKept} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *gaugeCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.p.Saturation()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(c.inFlight, float64(s.GetInboundInFlight()), "inbound")
	gauge(c.inFlight, float64(s.GetOutboundInFlight()), "outbound")
	gauge(c.connections, float64(s.GetPoolActive()), "active")
	gauge(c.connections, float64(s.GetPoolIdle()), "idle")
	gauge(c.pending, float64(s.GetPoolPending()))
	counter(c.cpu, float64(s.GetCpuNanos())/1e9)
	gauge(c.memory, float64(s.GetMemoryBytes()))
	gauge(c.queue, s.GetReportQueueRatio())
	for reason, n := range c.p.store.Dropped() {
		counter(c.dropped, float64(n), reason)
	}
	for trigger, n := range c.p.details.Sent() {
		counter(c.details, float64(n), trigger)
	}
	for reason, n := range c.p.details.Left() {
		counter(c.detailsLeft, float64(n), reason)
	}
	gauge(c.detailHorizon, c.p.details.Horizon().Seconds())
	gauge(c.detailKept, float64(c.p.details.KeptOneOf()))
	for _, pc := range c.p.checker.Counters() {
		counter(c.checks, float64(pc.Count), pc.Policy, pc.Rule, pc.Decision, pc.Origin)
	}
	for _, pc := range c.p.access.Counters() {
		counter(c.checks, float64(pc.Count), pc.Policy, pc.Rule, pc.Decision, originLocal)
	}
	gauge(c.build, 1, "proxy", version.String())
}
