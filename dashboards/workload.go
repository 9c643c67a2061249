package dashboards

import "github.com/telemesh/telemesh/internal/vocab"

// workloadBoard shows one workload by what its own sidecars counted: what it
// served, what it asked of others, and how full it is.
func workloadBoard(w Workload, inv Inventory) Board {
	served := reported(vocab.ReporterDestination,
		equal(vocab.LabelDestinationWorkloadNamespace, w.Namespace), equal(vocab.LabelDestinationWorkload, w.Name))
	asked := reported(vocab.ReporterSource,
		equal(vocab.LabelSourceWorkloadNamespace, w.Namespace), equal(vocab.LabelSourceWorkload, w.Name))
	s := subject{
		name:     w.Name,
		in:       served,
		split:    []labelColumn{{vocab.LabelSourceWorkload, "Caller"}},
		siblings: []labelColumn{{vocab.LabelSidecar, "Sidecar"}},
		sidecars: []string{equal(vocab.LabelNamespace, w.Namespace), equal(vocab.LabelWorkload, w.Name)},
	}
	leaf := ""
	if !w.Calls {
		leaf = emptyLeaf
	}
	if !w.Serves {
		s.idle = emptyNotServing
	}
	panels := append(goldenStats(s), goldenGraphs(s)...)
	panels = append(panels, row("Edges"),
		redTable("Served", "Requests that "+w.Name+" served, by caller.", served, []labelColumn{
			{vocab.LabelSourceWorkloadNamespace, "Namespace"}, {vocab.LabelSourceWorkload, "Caller"},
			{vocab.LabelSourceVersion, "Version"}, {vocab.LabelProtocol, "Protocol"},
		}, s.idle),
		redTable("Asked", "Requests that "+w.Name+" sent, by destination.", asked, []labelColumn{
			{vocab.LabelDestinationServiceNamespace, "Namespace"}, {vocab.LabelDestinationServiceName, "Service"},
			{vocab.LabelDestinationWorkload, "Workload"}, {vocab.LabelProtocol, "Protocol"},
		}, leaf))
	panels = append(panels, outbound(asked, leaf)...)
	panels = append(panels, saturation(s)...)
	panels = append(panels, verdicts(s)...)
	panels = append(panels, sizes(s)...)

	links := navigation()
	for _, svc := range inv.Services {
		if w.Namespace == svc.Namespace && w.Service == svc.Name {
			links = append(links, linkTo("Service "+svc.Name, uidOf("svc", svc.Namespace, svc.Name), "The service that this workload is part of"))
		}
	}
	return Board{
		UID: uidOf("wl", w.Namespace, w.Name), Title: "Workload " + w.Name + " (" + w.Namespace + ")",
		Slug: slugOf("workload", w.Namespace, w.Name), Tags: []string{tagAll, tagWorkload},
		description: "Golden signals of " + w.Name + " inbound and outbound, its sidecars' saturation and verdicts.",
		variables:   []variable{dataSourceVariable()},
		links:       links, panels: panels,
	}
}

// outbound is how the calls of a workload go, seen from it.
func outbound(asked traffic, mayBeEmpty string) []*panelJSON {
	to := []string{vocab.LabelDestinationServiceName}
	each := "{{" + vocab.LabelDestinationServiceName + "}}"
	latency := panel{title: "Outbound latency", about: "95 % of the calls to each service took at most this long, the network included.",
		unit: unitMillis, width: 8, targets: []target{{
			expr: asked.quantile("0.95", vocab.MetricRequestDuration, to...), legend: each, exemplars: true, mayBeEmpty: mayBeEmpty,
		}}}
	return []*panelJSON{
		panel{title: "Outbound traffic", about: "Requests per second that it sends, by the service called.",
			unit: unitRequests, width: 8, stacked: true,
			targets: []target{{expr: asked.requests(to...), legend: each, mayBeEmpty: mayBeEmpty}}}.graph(),
		panel{title: "Outbound errors", about: "Share of its calls that fail, by the service called.",
			unit: unitShare, width: 8, targets: []target{{expr: asked.errorShare(to...), legend: each, mayBeEmpty: mayBeEmpty}}}.graph(),
		latency.graph(),
	}
}
