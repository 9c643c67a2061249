package render

import (
	"fmt"
	"io"
	"strings"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// Name is what a person calls a node: its workload, else its service.
func Name(n topologyv1.Node) string {
	switch {
	case n.Kind == "workload" && n.Workload != "":
		return n.Workload
	case n.Kind == "service" && n.Service != "":
		return n.Service
	}
	return n.ID
}

// NodeNames maps the IDs of a graph's nodes to names. Where two nodes share
// one, the namespace is in front.
func NodeNames(nodes []topologyv1.Node) map[string]string {
	uses := make(map[string]int)
	for _, n := range nodes {
		uses[Name(n)]++
	}
	names := make(map[string]string, len(nodes))
	for _, n := range nodes {
		names[n.ID] = Name(n)
		if uses[Name(n)] > 1 {
			names[n.ID] = n.Namespace + "/" + Name(n)
		}
	}
	return names
}

// EdgeTable lists the edges of a graph.
func EdgeTable(g *topologyv1.Graph, wide bool) *Table {
	t := &Table{Header: []string{"SOURCE", "DESTINATION", "SERVICE", "HEALTH", "RPS", "SUCCESS", "P50", "P95", "P99", "ERR", "DENIED", "THROTTLED"}}
	if wide {
		t.Header = append(t.Header, "PROTOCOL", "SECURITY", "REPORTER", "SOURCE-TOTAL", "DESTINATION-TOTAL", "REASON")
	}
	t.Numbers("RPS", "SUCCESS", "P50", "P95", "P99", "ERR", "DENIED", "THROTTLED", "SOURCE-TOTAL", "DESTINATION-TOTAL")
	names := NodeNames(g.Nodes)
	for _, e := range g.Edges {
		s := e.Signals
		row := []any{
			nameOr(names, e.Source), nameOr(names, e.Destination), e.DestinationService,
			Cell{string(e.Health), HealthPaint(e.Health)},
			Rate(s.Rate), Success(s), Latency(s, s.P50), Latency(s, s.P95), Latency(s, s.P99), s.Errors, s.Denied, s.Throttled,
		}
		if wide {
			row = append(row, e.Protocol, e.Security, e.Reporter, e.SourceTotal, e.DestinationTotal, e.HealthReason)
		}
		t.Row(row...)
	}
	return t
}

func nameOr(names map[string]string, id string) string {
	if name, ok := names[id]; ok {
		return name
	}
	return id
}

// edgeLabel is what stands beside an arrow.
func edgeLabel(e topologyv1.Edge) string {
	if e.Signals.Requests == 0 {
		return "idle"
	}
	label := Rate(e.Signals.Rate) + "/s, p95 " + Millis(e.Signals.P95)
	if e.Signals.Errors > 0 {
		label += ", " + Share(e.Signals.ErrorShare) + " fail"
	}
	if e.Signals.Denied > 0 {
		label += fmt.Sprintf(", %d denied", e.Signals.Denied)
	}
	if e.Signals.Throttled > 0 {
		label += fmt.Sprintf(", %d throttled", e.Signals.Throttled)
	}
	return label
}

// graphColor is Okabe and Ito's palette, which the colour-blind can tell apart.
func graphColor(h topologyv1.Health) string {
	switch h {
	case topologyv1.Healthy:
		return "#009E73"
	case topologyv1.Degraded:
		return "#E69F00"
	case topologyv1.Failing, topologyv1.Lost:
		return "#D55E00"
	}
	return "#999999"
}

// Dot writes the graph in Graphviz' language.
func Dot(w io.Writer, g *topologyv1.Graph) error {
	var b strings.Builder
	b.WriteString("digraph telemesh {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n")
	names := NodeNames(g.Nodes)
	for _, n := range g.Nodes {
		fmt.Fprintf(&b, "  %s [label=%s, color=%q];\n", dotText(n.ID), dotText(names[n.ID], string(n.Health)), graphColor(n.Health))
	}
	for _, e := range g.Edges {
		style := "solid"
		if e.Health != topologyv1.Healthy {
			style = "dashed"
		}
		fmt.Fprintf(&b, "  %s -> %s [label=%s, color=%q, style=%s];\n",
			dotText(e.Source), dotText(e.Destination), dotText(edgeLabel(e)), graphColor(e.Health), style)
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// dotText quotes lines of text as one string of Graphviz' language.
func dotText(lines ...string) string {
	for i, s := range lines {
		lines[i] = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(Clean(s))
	}
	return `"` + strings.Join(lines, `\n`) + `"`
}

// Mermaid writes the graph as a Mermaid flow chart.
func Mermaid(w io.Writer, g *topologyv1.Graph) error {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	names, short := NodeNames(g.Nodes), make(map[string]string)
	for i, n := range g.Nodes {
		short[n.ID] = fmt.Sprintf("n%d", i)
		fmt.Fprintf(&b, "  n%d[%s]:::%s\n", i, mermaidText(names[n.ID]), n.Health)
	}
	for _, e := range g.Edges {
		arrow := "-->"
		if e.Health != topologyv1.Healthy {
			arrow = "-.->"
		}
		fmt.Fprintf(&b, "  %s %s|%s| %s\n", short[e.Source], arrow, mermaidText(edgeLabel(e)), short[e.Destination])
	}
	for _, h := range []topologyv1.Health{topologyv1.Healthy, topologyv1.Degraded, topologyv1.Failing, topologyv1.Idle, topologyv1.Lost} {
		fmt.Fprintf(&b, "  classDef %s stroke:%s,stroke-width:2px\n", h, graphColor(h))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// mermaidText quotes text; Mermaid escapes by entity, with # for &.
func mermaidText(s string) string {
	return `"` + strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "`", "#96;").Replace(Clean(s)) + `"`
}
