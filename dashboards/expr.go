package dashboards

import (
	"strconv"
	"strings"

	"github.com/telemesh/telemesh/internal/vocab"
)

// Suffixes of a histogram's series.
const (
	suffixBucket = "_bucket"
	suffixSum    = "_sum"
	suffixCount  = "_count"
)

// tiny stands under a division in place of zero. It is far below one request
// a day, so a share of real traffic is never changed by it.
const tiny = "1e-9"

func equal(label, value string) string  { return label + "=" + strconv.Quote(value) }
func regex(label, value string) string  { return label + "=~" + strconv.Quote(value) }
func absent(label, value string) string { return label + "!~" + strconv.Quote(value) }

func selector(metric string, matchers ...string) string {
	if len(matchers) == 0 {
		return metric
	}
	return metric + "{" + strings.Join(matchers, ", ") + "}"
}

func rate(metric string, matchers ...string) string {
	return "rate(" + selector(metric, matchers...) + "[$__rate_interval])"
}

// sumBy sums vector, leaving the labels that by names; all are summed up when
// it names none.
func sumBy(by []string, vector string) string { return aggregate("sum", by, vector) }

func aggregate(op string, by []string, vector string) string {
	if len(by) == 0 {
		return op + "(" + vector + ")"
	}
	return op + " by (" + strings.Join(by, ", ") + ") (" + vector + ")"
}

// orZero answers 0 where vector, a single number, has no series at all.
func orZero(vector string) string { return vector + " or vector(0)" }

// quantile takes q of the histogram whose buckets' rates are summed in vector.
func quantile(q string, by []string, vector string) string {
	return "histogram_quantile(" + q + ", " + sumBy(append([]string{vocab.LabelBucket}, by...), vector) + ")"
}

// traffic selects requests so that each is counted once. Every set of
// matchers stands for an alternative; no request satisfies two of them.
type traffic [][]string

// callersSaw is all traffic that matchers select, by the rule of the package
// comment.
func callersSaw(matchers ...string) traffic {
	return traffic{
		append([]string{equal(vocab.LabelReporter, vocab.ReporterSource)}, matchers...),
		append([]string{
			equal(vocab.LabelReporter, vocab.ReporterDestination),
			equal(vocab.LabelSourceWorkload, vocab.Unknown),
		}, matchers...),
	}
}

// reported is the traffic that one kind of reporter counted.
func reported(reporter string, matchers ...string) traffic {
	return traffic{append([]string{equal(vocab.LabelReporter, reporter)}, matchers...)}
}

// and narrows every alternative.
func (t traffic) and(matchers ...string) traffic {
	narrow := make(traffic, 0, len(t))
	for _, set := range t {
		narrow = append(narrow, append(append([]string(nil), set...), matchers...))
	}
	return narrow
}

// errors narrows t to server errors, as the hub's graph counts them: a 5xx
// status, no response, or a gRPC failure.
func (t traffic) errors() traffic {
	byStatus := t.and(regex(vocab.LabelCode, "5..|0"))
	byGRPC := t.and(absent(vocab.LabelCode, "5..|0"), absent(vocab.LabelGRPCStatus, "|0"))
	return append(byStatus, byGRPC...)
}

// rate is the union of the alternatives' rates, ready to be summed.
func (t traffic) rate(metric string) string {
	parts := make([]string, 0, len(t))
	for _, set := range t {
		parts = append(parts, rate(metric, set...))
	}
	return strings.Join(parts, " or ")
}

// requests is requests per second.
func (t traffic) requests(by ...string) string { return sumBy(by, t.rate(vocab.MetricRequests)) }

// quantile of a histogram metric such as vocab.MetricRequestDuration.
func (t traffic) quantile(q, metric string, by ...string) string {
	return quantile(q, by, t.rate(metric+suffixBucket))
}

// errorShare runs from 0 to 1. It answers 0, not nothing, when there are no
// errors.
func (t traffic) errorShare(by ...string) string {
	all, errs := t.requests(by...), t.errors().requests(by...)
	if len(by) == 0 {
		return "(" + orZero(errs) + ") / clamp_min(" + orZero(all) + ", " + tiny + ")"
	}
	return "(" + errs + " or 0 * " + all + ") / clamp_min(" + all + ", " + tiny + ")"
}
