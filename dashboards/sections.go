package dashboards

import (
	"strings"

	"github.com/telemesh/telemesh/internal/vocab"
)

// Why a query may answer nothing, for Query.MayBeEmpty.
const (
	emptyNoPolicy      = "a mesh without policies checks nothing"
	emptyNoTCP         = "services that speak only HTTP and gRPC open no plain TCP connections"
	emptyNoGRPC        = "services that speak only HTTP send no gRPC messages"
	emptyNoDrops       = "sidecars that dropped no record name no reason"
	emptyLeaf          = "a workload that calls nobody sends nothing"
	emptyNotServing    = "a workload that only calls others serves nothing"
	emptyNoLosses      = "a hub that loses and refuses nothing names no reason"
	emptyNoLookups     = "nobody looked a request up"
	emptyNoBucket      = "a hub without a bucket uploads nothing"
	emptyNoMemoryLimit = "a hub without a memory limit shows none"
	emptyNoLimits      = "a mesh without rate limits leases no credits"
	emptyEdge          = "a service called only from outside the mesh has no caller with a sidecar"
)

// subject is what a board is about.
type subject struct {
	name string // as in "requests that NAME received"
	// in is the traffic towards it.
	in traffic
	// idle says why in may have no series; empty if it has to have some.
	idle string
	// split parts its traffic on graphs, and siblings the sidecars' own series.
	split, siblings []labelColumn
	// sidecars matches the series that the hub serves about its sidecars.
	sidecars []string
}

func (s subject) splitLegend() string   { return legend(s.split) }
func (s subject) siblingLegend() string { return legend(s.siblings) }

// legend shows the values of labels, apart by slashes.
func legend(columns []labelColumn) string {
	var parts []string
	for _, c := range columns {
		parts = append(parts, "{{"+c.label+"}}")
	}
	return strings.Join(parts, "/")
}

// ofSidecars sums a gauge of the sidecars.
func (s subject) ofSidecars(metric string, by []string, matchers ...string) string {
	return sumBy(by, selector(metric, append(matchers, s.sidecars...)...))
}

func (s subject) rateOfSidecars(metric string, by []string, matchers ...string) string {
	return sumBy(by, rate(metric, append(matchers, s.sidecars...)...))
}

func refusals() string {
	return regex(vocab.LabelDecision, vocab.DecisionDeny+"|"+vocab.DecisionThrottle)
}

// goldenStats is the first line of a board: the four signals, refusals, and
// how many sidecars stand behind them, as numbers.
func goldenStats(s subject) []*panelJSON {
	inbound := equal(vocab.LabelDirection, vocab.DirectionInbound)
	return []*panelJSON{
		panel{title: "Requests", about: "Requests per second to " + s.name + ". Each is counted once, as its caller saw it.",
			unit: unitRequests, width: 4, targets: []target{{expr: orZero(s.in.requests())}}}.stat(),
		panel{title: "Error share", about: "Share of requests with a 5xx status, without a response, or with a gRPC failure.",
			unit: unitShare, width: 4, steps: okUntil(0.001, 0.1), targets: []target{{expr: s.in.errorShare()}}}.stat(),
		panel{title: "Latency p95", about: "19 of 20 requests took at most this long, from the first byte at the sidecar to the end of the stream.",
			unit: unitMillis, width: 4, targets: []target{{expr: s.in.quantile("0.95", vocab.MetricRequestDuration), mayBeEmpty: s.idle}}}.stat(),
		panel{title: "In flight", about: "Requests that the sidecars of " + s.name + " are serving now: how full it is.",
			unit: unitCount, width: 4, targets: []target{{expr: orZero(s.ofSidecars(vocab.MetricInFlight, nil, inbound))}}}.stat(),
		panel{title: "Refused by policy", about: "Requests per second that policy denied or throttled. They are not errors.",
			unit: unitRequests, width: 4, steps: okUntil(0.01, 1e9), targets: []target{{expr: orZero(s.rateOfSidecars(vocab.MetricPolicyChecks, nil, refusals()))}}}.stat(),
		panel{title: "Sidecars connected", about: "Share of the known sidecars that are connected to the hub. Below 100 % the other numbers lag.",
			unit: unitShare, width: 4, max: 1, steps: badUntil(1), targets: []target{{
				expr: aggregate("avg", nil, selector(vocab.MetricSidecarConnected, s.sidecars...)),
			}}}.stat(),
	}
}

// goldenGraphs is the rest of the first screen.
func goldenGraphs(s subject) []*panelJSON {
	by := labelsOf(s.split)
	return []*panelJSON{
		panel{title: "Traffic", about: "Requests per second to " + s.name + ", each counted once.",
			unit: unitRequests, width: 12, stacked: true,
			targets: []target{{expr: s.in.requests(by...), legend: s.splitLegend(), mayBeEmpty: s.idle}}}.graph(),
		panel{title: "Errors", about: "Share of requests with a 5xx status, without a response, or with a gRPC failure. 0 when there are none.",
			unit: unitShare, width: 12, targets: []target{{expr: s.in.errorShare(by...), legend: s.splitLegend(), mayBeEmpty: s.idle}}}.graph(),
		latencyGraph("Latency", "Half, 95 % and 99 % of requests took at most this long. A dot is one request: click it to open its trace in the hub.",
			s.in, 12, s.idle),
		panel{title: "Saturation", about: "Requests in flight at the sidecars of " + s.name + ", towards the application and out of it.",
			unit: unitCount, width: 12, targets: []target{{
				expr:   s.ofSidecars(vocab.MetricInFlight, append(labelsOf(s.siblings), vocab.LabelDirection)),
				legend: s.siblingLegend() + " {{" + vocab.LabelDirection + "}}",
			}}}.graph(),
	}
}

func latencyGraph(title, about string, t traffic, width int, mayBeEmpty string) *panelJSON {
	p := panel{title: title, about: about, unit: unitMillis, width: width,
		colors: map[string]string{"p50": "green", "p95": "orange", "p99": "red"}}
	for _, q := range []struct{ legend, q string }{{"p50", "0.5"}, {"p95", "0.95"}, {"p99", "0.99"}} {
		p.targets = append(p.targets, target{
			expr: t.quantile(q.q, vocab.MetricRequestDuration), legend: q.legend, exemplars: true, mayBeEmpty: mayBeEmpty,
		})
	}
	return p.graph()
}

// redTable is requests, errors and latency per combination of keys.
func redTable(title, about string, t traffic, keys []labelColumn, mayBeEmpty string) *panelJSON {
	by := labelsOf(keys)
	return panel{title: title, about: about, width: gridColumns}.table(keys, []column{
		{title: "Requests/s", unit: unitRequests, expr: t.requests(by...), bar: true},
		{title: "Error share", unit: unitShare, expr: t.errorShare(by...), steps: okUntil(0.001, 0.1)},
		{title: "p50", unit: unitMillis, expr: t.quantile("0.5", vocab.MetricRequestDuration, by...)},
		{title: "p95", unit: unitMillis, expr: t.quantile("0.95", vocab.MetricRequestDuration, by...)},
		{title: "p99", unit: unitMillis, expr: t.quantile("0.99", vocab.MetricRequestDuration, by...)},
	}, mayBeEmpty)
}

// saturation is how full the sidecars are, and what they cost.
func saturation(s subject) []*panelJSON {
	by := labelsOf(s.siblings)
	each := s.siblingLegend()
	return []*panelJSON{
		row("Saturation"),
		panel{title: "Upstream connections", about: "Connections of the pools, in use and idle.",
			unit: unitCount, width: 8, targets: []target{{
				expr:   s.ofSidecars(vocab.MetricPoolConnections, append(by, vocab.LabelState)),
				legend: each + " {{" + vocab.LabelState + "}}",
			}}}.graph(),
		panel{title: "Waiting for a connection", about: "Requests that wait for an upstream connection. Above zero for long, the upstream or its limit is too small.",
			unit: unitCount, width: 8, targets: []target{{expr: s.ofSidecars(vocab.MetricPoolPending, by), legend: each}}}.bars(),
		panel{title: "Report queue", about: "How full the fullest sidecar's queue to the hub is. At 100 % records are dropped; counts stay exact.",
			unit: unitShare, width: 8, max: 1, steps: okUntil(0.5, 0.9), targets: []target{{
				expr: aggregate("max", nil, selector(vocab.MetricReportQueue, s.sidecars...)),
			}}}.gauge(),
		panel{title: "CPU of the sidecars", about: "Cores that the sidecars use.",
			unit: unitCount, width: 8, targets: []target{{expr: s.rateOfSidecars(vocab.MetricSidecarCPU, by), legend: each}}}.graph(),
		panel{title: "Memory of the sidecars", about: "Resident memory of the sidecar processes.",
			unit: unitBytes, width: 8, targets: []target{{expr: s.ofSidecars(vocab.MetricSidecarMemory, by), legend: each}}}.graph(),
		panel{title: "Records dropped", about: "Thin records that sidecars could not keep for the hub, by reason. A dropped record cannot be found by its ID; its request is still counted.",
			unit: unitPerSec, width: 8, targets: []target{{
				expr: s.rateOfSidecars(vocab.MetricRecordsDropped, []string{vocab.LabelReason}), legend: "{{" + vocab.LabelReason + "}}", mayBeEmpty: emptyNoDrops,
			}}}.graph(),
	}
}

// verdicts is what policy decided at the sidecars of s.
func verdicts(s subject) []*panelJSON {
	keys := []labelColumn{
		{vocab.LabelPolicy, "Policy"}, {vocab.LabelRule, "Rule"}, {vocab.LabelDecision, "Decision"}, {vocab.LabelOrigin, "Decided by"},
	}
	colors := map[string]string{}
	var byDecision []target
	for _, d := range []struct{ decision, color string }{
		{vocab.DecisionAllow, "green"}, {vocab.DecisionDeny, "red"}, {vocab.DecisionThrottle, "orange"},
		{vocab.DecisionShadowDeny, "light-red"}, {vocab.DecisionShadowThrottle, "light-orange"},
	} {
		colors[d.decision] = d.color
		byDecision = append(byDecision, target{
			expr: orZero(s.rateOfSidecars(vocab.MetricPolicyChecks, nil, equal(vocab.LabelDecision, d.decision))), legend: d.decision,
		})
	}
	perSibling := labelsOf(s.siblings)
	return []*panelJSON{
		row("Policy"),
		panel{title: "Verdicts", about: "Checks per second by what was decided. A shadow decision was not enforced.",
			unit: unitOps, width: 12, stacked: true, colors: colors, targets: byDecision}.graph(),
		panel{title: "Refused requests", about: "Requests per second that policy denied or throttled.",
			unit: unitRequests, width: 12, targets: []target{{
				expr:   s.rateOfSidecars(vocab.MetricPolicyChecks, append(perSibling, vocab.LabelDecision), refusals()),
				legend: s.siblingLegend() + " {{" + vocab.LabelDecision + "}}", mayBeEmpty: emptyNoPolicy,
			}}}.graph(),
		panel{title: "Rules", about: "Every rule that decided something, and whether the sidecar, a lease of the hub or the failure policy did.",
			width: gridColumns}.table(keys, []column{
			{title: "Checks/s", unit: unitOps, expr: s.rateOfSidecars(vocab.MetricPolicyChecks, labelsOf(keys)), bar: true},
		}, emptyNoPolicy),
	}
}

// sizes is how much the traffic of s weighs.
func sizes(s subject) []*panelJSON {
	total := func(metric string) string { return orZero(sumBy(nil, s.in.rate(metric+suffixSum))) }
	tcp := func(metric string) string { return orZero(sumBy(nil, s.in.rate(metric))) }
	return []*panelJSON{
		row("Sizes"),
		panel{title: "Throughput", about: "Bytes per second with headers: requests towards " + s.name + ", responses back, and TCP connections both ways.",
			unit: unitRate, width: 12, targets: []target{
				{expr: total(vocab.MetricRequestBytes), legend: "requests"},
				{expr: total(vocab.MetricResponseBytes), legend: "responses"},
				{expr: tcp(vocab.MetricTCPReceivedBytes), legend: "tcp received"},
				{expr: tcp(vocab.MetricTCPSentBytes), legend: "tcp sent"},
			}}.graph(),
		panel{title: "Size of requests and responses", about: "Half and 95 % of them, headers included, are at most this large.",
			unit: unitBytes, width: 12, targets: []target{
				{expr: s.in.quantile("0.5", vocab.MetricRequestBytes), legend: "requests p50", mayBeEmpty: s.idle},
				{expr: s.in.quantile("0.95", vocab.MetricRequestBytes), legend: "requests p95", mayBeEmpty: s.idle},
				{expr: s.in.quantile("0.5", vocab.MetricResponseBytes), legend: "responses p50", mayBeEmpty: s.idle},
				{expr: s.in.quantile("0.95", vocab.MetricResponseBytes), legend: "responses p95", mayBeEmpty: s.idle},
			}}.graph(),
		panel{title: "TCP connections", about: "Connections opened and closed per second, by destination. Only of traffic that is neither HTTP nor gRPC.",
			unit: unitConns, width: 12, targets: []target{
				{expr: sumBy(labelsOf(s.split), s.in.rate(vocab.MetricTCPOpened)), legend: s.splitLegend() + " opened", mayBeEmpty: emptyNoTCP},
				{expr: sumBy(labelsOf(s.split), s.in.rate(vocab.MetricTCPClosed)), legend: s.splitLegend() + " closed", mayBeEmpty: emptyNoTCP},
			}}.graph(),
		panel{title: "gRPC messages", about: "Messages per second in both directions of gRPC calls.",
			unit: unitOps, width: 12, targets: []target{
				{expr: sumBy(nil, s.in.rate(vocab.MetricRequestMessages)), legend: "received", mayBeEmpty: emptyNoGRPC},
				{expr: sumBy(nil, s.in.rate(vocab.MetricResponseMessages)), legend: "sent", mayBeEmpty: emptyNoGRPC},
			}}.graph(),
	}
}
