// Package exposition turns cumulative rows of tier 0 into Istio's standard
// metrics. The sidecar serves its own rows with it and the hub the sum of all,
// so both speak exactly the same names, labels and bounds.
package exposition

import (
	"encoding/hex"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

// LabelValues are the values of vocab.RequestLabels for one row of an edge.
func LabelValues(e *telemetryv1.Edge, a *telemetryv1.Aggregate) []string {
	reporter := "source"
	if e.GetReporter() == telemetryv1.Reporter_REPORTER_DESTINATION {
		reporter = "destination"
	}
	values := make([]string, 0, len(vocab.RequestLabels))
	values = append(values, reporter)
	values = appendIdentity(values, e.GetSource())
	values = appendIdentity(values, e.GetDestination())
	service, namespace := serviceName(e)
	return append(values,
		known(e.GetDestinationService()), service, namespace,
		a.GetProtocol(), strconv.Itoa(int(a.GetResponseCode())), a.GetGrpcStatus(), a.GetResponseFlags(),
		known(e.GetSecurity()))
}

// appendIdentity adds the eight labels of one end in the order of
// vocab.RequestLabels.
func appendIdentity(values []string, i *telemetryv1.Identity) []string {
	revision := i.GetVersion()
	if revision == "" || revision == vocab.Unknown {
		revision = vocab.Latest
	}
	return append(values,
		known(i.GetWorkload()), known(i.GetNamespace()), known(i.GetPrincipal()), known(i.GetService()),
		known(i.GetVersion()), known(i.GetService()), revision, known(i.GetCluster()))
}

func known(s string) string {
	if s == "" {
		return vocab.Unknown
	}
	return s
}

// serviceName is the short name and the namespace of the destination service.
// Passthrough traffic keeps Envoy's cluster name.
func serviceName(e *telemetryv1.Edge) (name, namespace string) {
	d := e.GetDestination()
	if d.GetService() == "" {
		return known(e.GetDestinationService()), known(d.GetNamespace())
	}
	return d.GetService(), known(d.GetNamespace())
}

// Help texts of Istio's metrics.
const (
	helpRequests      = "Requests handled by a sidecar."
	helpDuration      = "Duration of requests in milliseconds, from the first byte received to the last byte sent."
	helpRequestBytes  = "Size of requests on the wire, headers included."
	helpResponseBytes = "Size of responses on the wire, headers included."
)

// Collector serves rows as metrics. Every scrape takes one snapshot.
type Collector struct {
	snapshot      func() ([]*telemetryv1.Edge, []*telemetryv1.Aggregate)
	requests      *prometheus.Desc
	duration      *prometheus.Desc
	requestBytes  *prometheus.Desc
	responseBytes *prometheus.Desc
	tcp           tcpMetrics
}

// NewCollector returns a collector over snapshot, whose rows it may keep until
// the scrape ends. Rows that differ only in what has no label are added up.
func NewCollector(snapshot func() ([]*telemetryv1.Edge, []*telemetryv1.Aggregate)) *Collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, vocab.RequestLabels, nil)
	}
	return &Collector{
		snapshot:      snapshot,
		requests:      desc(vocab.MetricRequests, helpRequests),
		duration:      desc(vocab.MetricRequestDuration, helpDuration),
		requestBytes:  desc(vocab.MetricRequestBytes, helpRequestBytes),
		responseBytes: desc(vocab.MetricResponseBytes, helpResponseBytes),
		tcp:           newTCPMetrics(),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.requests, c.duration, c.requestBytes, c.responseBytes} {
		ch <- d
	}
	c.tcp.describe(ch)
}

// Collect implements prometheus.Collector. A row that Prometheus refuses (its
// labels are not UTF-8) is an error of the scrape and not of the process.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for _, r := range Sum(c.snapshot()) {
		if r.tcp {
			c.tcp.collect(ch, r)
			continue
		}
		requests, err := prometheus.NewConstMetric(c.requests, prometheus.CounterValue, float64(r.Requests), r.Labels...)
		if err != nil {
			ch <- prometheus.NewInvalidMetric(c.requests, err)
			continue
		}
		ch <- requests
		ch <- withExemplars(r, prometheus.MustNewConstHistogram(c.duration, r.Requests,
			float64(r.DurationSumNanos)/float64(time.Millisecond), Cumulate(vocab.DurationBuckets, r.Duration), r.Labels...))
		ch <- prometheus.MustNewConstHistogram(c.requestBytes, r.Requests, float64(r.RequestBytesSum), Cumulate(vocab.SizeBuckets, r.RequestBytes), r.Labels...)
		ch <- prometheus.MustNewConstHistogram(c.responseBytes, r.Requests, float64(r.ResponseBytesSum), Cumulate(vocab.SizeBuckets, r.ResponseBytes), r.Labels...)
	}
}

// withExemplars attaches what fits; a metric without exemplars is better than
// a scrape that fails.
func withExemplars(r *Row, m prometheus.Metric) prometheus.Metric {
	var list []prometheus.Exemplar
	for _, e := range r.Exemplars {
		list = append(list, prometheus.Exemplar{
			Value:     float64(e.GetDurationNanos()) / float64(time.Millisecond),
			Labels:    prometheus.Labels{"trace_id": hex.EncodeToString(e.GetTraceId())},
			Timestamp: time.Unix(0, e.GetTimeUnixNano()),
		})
	}
	if len(list) == 0 {
		return m
	}
	with, err := prometheus.NewMetricWithExemplars(m, list...)
	if err != nil {
		return m
	}
	return with
}

// Row is one series of the standard metrics.
type Row struct {
	Labels           []string // values of vocab.RequestLabels
	Requests         uint64
	Duration         []uint64 // per bucket, not cumulated, +Inf last
	DurationSumNanos uint64
	RequestBytes     []uint64
	RequestBytesSum  uint64
	ResponseBytes    []uint64
	ResponseBytesSum uint64
	Exemplars        map[uint32]*telemetryv1.Exemplar // the newest of each bucket

	tcp bool // Labels are the values of vocab.TCPLabels
}

// Sum adds up the rows whose labels are equal: instances, verdicts and senders
// have no label in the standard metrics.
func Sum(edges []*telemetryv1.Edge, rows []*telemetryv1.Aggregate) map[string]*Row {
	sums := make(map[string]*Row, len(rows))
	for _, a := range rows {
		if int(a.GetEdge()) >= len(edges) {
			continue
		}
		values := LabelValues(edges[a.GetEdge()], a)
		tcp := a.GetProtocol() == vocab.ProtocolTCP
		if tcp {
			values = tcpValues(values)
		}
		k := key(values)
		r := sums[k]
		if r == nil {
			r = &Row{
				Labels: values, tcp: tcp, Duration: make([]uint64, len(vocab.DurationBuckets)+1), Exemplars: map[uint32]*telemetryv1.Exemplar{},
				RequestBytes: make([]uint64, len(vocab.SizeBuckets)+1), ResponseBytes: make([]uint64, len(vocab.SizeBuckets)+1),
			}
			sums[k] = r
		}
		r.add(a)
	}
	return sums
}

func (r *Row) add(a *telemetryv1.Aggregate) {
	r.Requests += a.GetRequests()
	r.DurationSumNanos += a.GetDurationSumNanos()
	r.RequestBytesSum += a.GetRequestBytesSum()
	r.ResponseBytesSum += a.GetResponseBytesSum()
	addEach(r.Duration, a.GetDurationBucket())
	addEach(r.RequestBytes, a.GetRequestBytesBucket())
	addEach(r.ResponseBytes, a.GetResponseBytesBucket())
	for _, e := range a.GetExemplars() {
		if int(e.GetBucket()) >= len(r.Duration) {
			continue
		}
		if old := r.Exemplars[e.GetBucket()]; old == nil || e.GetTimeUnixNano() > old.GetTimeUnixNano() {
			r.Exemplars[e.GetBucket()] = e
		}
	}
}

func addEach(dst, src []uint64) {
	for i := range min(len(dst), len(src)) {
		dst[i] += src[i]
	}
}

// key joins label values with a byte that no UTF-8 text contains.
func key(values []string) string {
	n := len(values)
	for _, v := range values {
		n += len(v)
	}
	b := make([]byte, 0, n)
	for _, v := range values {
		b = append(b, v...)
		b = append(b, 0xff)
	}
	return string(b)
}

// Cumulate turns counts per bucket into Prometheus' cumulative form, without
// the +Inf bucket.
func Cumulate(bounds []float64, counts []uint64) map[float64]uint64 {
	out := make(map[float64]uint64, len(bounds))
	var sum uint64
	for i, b := range bounds {
		sum += counts[i]
		out[b] = sum
	}
	return out
}
