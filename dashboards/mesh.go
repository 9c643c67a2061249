package dashboards

import "github.com/telemesh/telemesh/internal/vocab"

const namespaceVar = "namespace"

// meshBoard shows every service and every edge of the mesh.
func meshBoard() Board {
	inNamespace := "$" + namespaceVar
	s := subject{
		name:     "the chosen namespaces",
		in:       callersSaw(regex(vocab.LabelDestinationServiceNamespace, inNamespace)),
		split:    []labelColumn{{vocab.LabelDestinationServiceNamespace, "Namespace"}, {vocab.LabelDestinationServiceName, "Service"}},
		siblings: []labelColumn{{vocab.LabelNamespace, "Namespace"}, {vocab.LabelWorkload, "Workload"}},
		sidecars: []string{regex(vocab.LabelNamespace, inNamespace)},
	}
	edges := []labelColumn{
		{vocab.LabelSourceWorkloadNamespace, "From namespace"}, {vocab.LabelSourceWorkload, "From"},
		{vocab.LabelDestinationServiceNamespace, "To namespace"}, {vocab.LabelDestinationServiceName, "To service"},
		{vocab.LabelDestinationWorkload, "To workload"}, {vocab.LabelProtocol, "Protocol"},
	}
	panels := append(goldenStats(s), goldenGraphs(s)...)
	panels = append(panels, row("Edges"),
		redTable("Requests by edge", "Requests, errors and latency of every edge of the graph, as the caller saw them. An unknown workload is a caller without a sidecar, or a request that reached nobody.",
			s.in, edges, ""))
	panels = append(panels, saturation(s)...)
	panels = append(panels, verdicts(s)...)
	panels = append(panels, sizes(s)...)
	panels = append(panels, about()...)
	return Board{
		UID: meshBoardUID, Title: "Mesh", Slug: "mesh", Tags: []string{tagAll, tagMesh},
		description: "Golden signals, edges, saturation and policy verdicts of the whole mesh.",
		variables:   []variable{dataSourceVariable(), namespaceVariable()},
		links:       navigation(), panels: panels,
	}
}

// about tells a newcomer what the numbers mean and where to go from them.
func about() []*panelJSON {
	return []*panelJSON{row("About"), text("Reading these boards", `**Each request is counted once**, although both its sidecars report it: as its caller saw it, and for a caller without a sidecar as the service saw it. A workload's own board shows what its own sidecars counted.

**Errors** are 5xx statuses, requests without a response, and gRPC failures. What policy denied or throttled is not an error and is shown by itself.

**From a number to a request**: click a dot on a latency graph to open that request in the hub, or run `+"`meshctl trace ID`"+` with the value of its x-request-id header.`, gridColumns, heightGraph)}
}

func namespaceVariable() variable {
	query := "label_values(" + vocab.MetricRequests + ", " + vocab.LabelDestinationServiceNamespace + ")"
	return variable{
		Name: namespaceVar, Label: "Namespace", Description: "Namespaces of the services that are called.",
		Type: "query", Query: map[string]any{"query": query, "refId": "Namespaces"},
		Datasource: boardDataSource(), IncludeAll: true, AllValue: ".*", Multi: true, Refresh: 2, Sort: 1,
		Current: currentValue{Text: []string{"All"}, Value: []string{"$__all"}},
	}
}
