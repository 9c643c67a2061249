package dashboards

import (
	"strings"

	"github.com/telemesh/telemesh/internal/vocab"
)

const objectiveVar = "objective"

// serviceBoard shows one service: who calls it, which of its versions do well.
func serviceBoard(svc Service, inv Inventory) Board {
	to := []string{
		equal(vocab.LabelDestinationServiceNamespace, svc.Namespace),
		equal(vocab.LabelDestinationServiceName, svc.Name),
	}
	s := subject{
		name:     svc.Name,
		in:       callersSaw(to...),
		split:    []labelColumn{{vocab.LabelCode, "Code"}},
		siblings: []labelColumn{{vocab.LabelWorkload, "Workload"}},
		sidecars: []string{equal(vocab.LabelNamespace, svc.Namespace), equal(vocab.LabelService, svc.Name)},
	}
	leaf := emptyLeaf
	links := navigation()
	for _, w := range inv.of(svc) {
		links = append(links, linkTo(w.Name, uidOf("wl", w.Namespace, w.Name), "A workload of this service"))
		if w.Calls {
			leaf = ""
		}
	}
	panels := append(goldenStats(s), goldenGraphs(perVersion(s))...)
	panels = append(panels, responses(s)...)
	panels = append(panels, row("Edges"),
		redTable("Callers", "Who calls "+svc.Name+", and how that goes, as the caller saw it.", s.in, []labelColumn{
			{vocab.LabelSourceWorkloadNamespace, "Namespace"}, {vocab.LabelSourceWorkload, "Caller"},
			{vocab.LabelDestinationWorkload, "Answered by"}, {vocab.LabelProtocol, "Protocol"}, {vocab.LabelSecurity, "Security"},
		}, ""),
		redTable("Calls", "Whom "+svc.Name+" calls, and how that goes.",
			reported(vocab.ReporterSource,
				equal(vocab.LabelSourceWorkloadNamespace, svc.Namespace), equal(vocab.LabelSourceCanonicalService, svc.Name)),
			[]labelColumn{
				{vocab.LabelSourceWorkload, "Workload"}, {vocab.LabelDestinationServiceNamespace, "Namespace"},
				{vocab.LabelDestinationServiceName, "Service"}, {vocab.LabelProtocol, "Protocol"},
			}, leaf))
	panels = append(panels, objective(s)...)
	panels = append(panels, saturation(s)...)
	panels = append(panels, verdicts(s)...)
	panels = append(panels, sizes(perVersion(s))...)
	return Board{
		UID: uidOf("svc", svc.Namespace, svc.Name), Title: "Service " + svc.Name + " (" + svc.Namespace + ")",
		Slug: slugOf("service", svc.Namespace, svc.Name), Tags: []string{tagAll, tagService},
		description: "Golden signals of " + svc.Name + ", its callers, its versions, its saturation and the verdicts on its requests.",
		variables:   []variable{dataSourceVariable(), objectiveVariable()},
		links:       links, panels: panels,
	}
}

// perVersion splits a service's graphs by version, so that a canary stands
// beside what it is to replace.
func perVersion(s subject) subject {
	s.split = []labelColumn{{vocab.LabelDestinationWorkload, "Workload"}}
	return s
}

// responses shows what the golden signals hide in an average.
func responses(s subject) []*panelJSON {
	return []*panelJSON{
		panel{title: "Responses", about: "Requests per second by status code and response flag. A flag other than - says why the sidecar answered, as in Envoy: UF is no connection, UH no healthy endpoint, RL throttled.",
			unit: unitRequests, width: 8, stacked: true, targets: []target{{
				expr:   s.in.requests(vocab.LabelCode, vocab.LabelFlags),
				legend: "{{" + vocab.LabelCode + "}} {{" + vocab.LabelFlags + "}}",
			}}}.graph(),
		panel{title: "Latency distribution", about: "How many requests per second took how long.",
			unit: unitMillis, width: 8, targets: []target{{
				expr:   sumBy([]string{vocab.LabelBucket}, s.in.rate(vocab.MetricRequestDuration+suffixBucket)),
				legend: "{{" + vocab.LabelBucket + "}}", exemplars: true,
			}}}.heatmap(),
		panel{title: "Latency at both ends", about: "95 % of requests took at most this long. The gap between callers and service is the way between their sidecars.",
			unit: unitMillis, width: 8, targets: []target{
				{expr: bothEnds(s, vocab.ReporterSource), legend: "seen by callers", mayBeEmpty: emptyEdge},
				{expr: bothEnds(s, vocab.ReporterDestination), legend: "seen by the service"},
			}}.graph(),
	}
}

// bothEnds compares the same requests, so only those that have a sidecar at
// either end.
func bothEnds(s subject, reporter string) string {
	matchers := append([]string(nil), s.in[0][1:]...) // all but the reporter
	return reported(reporter, matchers...).quantile("0.95", vocab.MetricRequestDuration)
}

// objective measures a service against the share of good requests promised.
// A burn rate of 1 spends the budget exactly by the end of the period; the
// pairs of windows at which to wake somebody are 1 h and 5 m above 14.4, 6 h
// and 30 m above 6 (Google SRE Workbook, chapter 5).
func objective(s subject) []*panelJSON {
	allowed := "(1 - $" + objectiveVar + " / 100)"
	burn := func(window string) string {
		return "(" + strings.ReplaceAll(s.in.errorShare(), "[$__rate_interval]", "["+window+"]") + ") / " + allowed
	}
	return []*panelJSON{
		row("Objective"),
		panel{title: "Error budget left", about: "Share of the errors allowed over the chosen time range that is left. Below zero the objective is missed.",
			unit: unitShare, width: 6, steps: []step{{0, "red"}, {0, "orange"}, {0.25, "green"}},
			below: true, targets: []target{{expr: "1 - " + burn("$__range")}}}.stat(),
		panel{title: "Burn rate", about: "How fast the error budget is spent: at 1 it just lasts. Wake somebody when 1 h and 5 m are above 14.4, or 6 h and 30 m above 6.",
			unit: unitCount, width: 18, targets: []target{
				{expr: burn("5m"), legend: "5m"}, {expr: burn("30m"), legend: "30m"},
				{expr: burn("1h"), legend: "1h"}, {expr: burn("6h"), legend: "6h"},
			}}.graph(),
	}
}

func objectiveVariable() variable {
	values := []string{"99", "99.5", "99.9", "99.95", "99.99"}
	return variable{
		Name: objectiveVar, Label: "Objective %", Description: "Percentage of requests that are to succeed.",
		Type: "custom", Query: strings.Join(values, ","), Current: currentValue{Text: "99.9", Value: "99.9"},
	}
}
