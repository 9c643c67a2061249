package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/client"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
)

const (
	kindWorkload = "workload"
	kindService  = "service"
)

// statRow is the golden signals of what one workload or service received.
type statRow struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Sidecars that are connected, of those known.
	Meshed   int `json:"meshed"`
	Sidecars int `json:"sidecars"`

	Health       topologyv1.Health  `json:"health"`
	HealthReason string             `json:"healthReason"`
	Inbound      topologyv1.Signals `json:"inbound"`
	// LatencyIsBound: percentiles are the highest of several workloads, which
	// none of the service exceeds.
	LatencyIsBound bool                  `json:"latencyIsBound"`
	Saturation     topologyv1.Saturation `json:"saturation"`
}

type statDocument struct {
	SchemaVersion int       `json:"schemaVersion"`
	WindowSeconds int       `json:"windowSeconds"`
	Rows          []statRow `json:"rows"`
}

func (a *app) statCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stat [KIND[/NAME] | NAME]",
		Short: "Golden signals of workloads or services",
		Long: `Golden signals of the requests that each workload (default) or service received.
KIND is workload or service; NAME may have its namespace in front, as in default/reviews-v2.
A latency with ≤ is the highest of a service's workloads: the service as a whole is not slower.`,
		Example: `  meshctl stat                               # every workload
  meshctl stat services --window 5m          # by service
  meshctl stat workload/reviews-v2 -o wide   # one, with saturation`,
		Args: arguments(0, 1, "one KIND, KIND/NAME or NAME at most"),
	}
	o := outputFlag(cmd, formatTable, formatWide, formatJSON, formatYAML, formatName)
	w := windowFlag(cmd)
	cmd.ValidArgsFunction = a.completeNames
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := firstError(o.check(cmd), w.check(cmd)); err != nil {
			return err
		}
		g, err := c.Graph(cmd.Context(), time.Duration(*w))
		if err != nil {
			return err
		}
		rows, err := selectRows(g, strings.Join(args, ""))
		if err != nil {
			return err
		}
		doc := statDocument{SchemaVersion: topologyv1.SchemaVersion, WindowSeconds: g.WindowSeconds, Rows: rows}
		if done, err := o.document(a.Out, doc, rowNames(rows)); done {
			return err
		}
		if len(rows) == 0 {
			a.warn("the hub knows no workload yet; start one behind a sidecar with `meshctl run`, or try `meshctl demo`")
			return nil
		}
		return statTable(rows, o.format == formatWide).Write(a.Out, a.style())
	})
	return cmd
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func rowNames(rows []statRow) []string {
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.Kind + "/" + r.Namespace + "/" + r.Name
	}
	return names
}

// kindOf reads a kind by the names that people try.
func kindOf(word string) (string, bool) {
	switch strings.ToLower(word) {
	case "workload", "workloads", "wl":
		return kindWorkload, true
	case "service", "services", "svc":
		return kindService, true
	}
	return "", false
}

// selectRows finds what an argument of stat names.
func selectRows(g *topologyv1.Graph, arg string) ([]statRow, error) {
	first, rest, _ := strings.Cut(arg, "/")
	kind, isKind := kindOf(first)
	name := rest
	if !isKind {
		kind, name = kindWorkload, arg
	}
	rows := statRows(g, kind)
	if name == "" {
		return rows, nil
	}
	found := matching(rows, name)
	if len(found) == 0 && !isKind {
		found = matching(statRows(g, kindService), name)
	}
	if len(found) == 0 {
		return nil, &ExitError{
			Code: CodeFailure, Err: fmt.Errorf("the hub knows no %s %q", kind, name),
			Hint: "known: " + strings.Join(shortNames(append(statRows(g, kindWorkload), statRows(g, kindService)...)), ", "),
		}
	}
	return found, nil
}

func matching(rows []statRow, name string) []statRow {
	return slices.DeleteFunc(slices.Clone(rows), func(r statRow) bool {
		return r.Name != name && r.Namespace+"/"+r.Name != name
	})
}

func shortNames(rows []statRow) []string {
	if len(rows) == 0 {
		return []string{"nothing yet"}
	}
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.Kind + "/" + r.Name
	}
	return names
}

// statRows sums the graph's nodes up by kind, ordered by namespace and name.
func statRows(g *topologyv1.Graph, kind string) []statRow {
	byName := make(map[string]*statRow)
	for i := range g.Nodes {
		n := &g.Nodes[i]
		name := n.Workload
		if kind == kindService {
			name = n.Service
		} else if n.Kind != kindWorkload {
			continue
		}
		if name == "" || name == "unknown" {
			continue
		}
		key := n.Namespace + "/" + name
		row, seen := byName[key]
		if !seen {
			row = &statRow{Kind: kind, Namespace: n.Namespace, Name: name}
			byName[key] = row
		}
		row.add(n)
	}
	rows := make([]statRow, 0, len(byName))
	for _, r := range byName {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b statRow) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return rows
}

// severity orders health from the best to the worst.
func severity(h topologyv1.Health) int {
	order := []topologyv1.Health{"", topologyv1.Idle, topologyv1.Healthy, topologyv1.Degraded, topologyv1.Lost, topologyv1.Failing}
	return slices.Index(order, h)
}

func (r *statRow) add(n *topologyv1.Node) {
	for _, i := range n.Instances {
		r.Sidecars++
		if i.Connected {
			r.Meshed++
		}
	}
	if severity(n.Health) > severity(r.Health) {
		r.Health, r.HealthReason = n.Health, n.HealthReason
	}
	if n.Inbound.Requests > 0 && r.Inbound.Requests > 0 {
		r.LatencyIsBound = true
	}
	r.Inbound = sum(r.Inbound, n.Inbound)
	s := &r.Saturation
	s.InFlight += n.Saturation.InFlight
	s.PoolActive += n.Saturation.PoolActive
	s.PoolIdle += n.Saturation.PoolIdle
	s.PoolPending += n.Saturation.PoolPending
	s.CPUCores += n.Saturation.CPUCores
	s.MemoryBytes += n.Saturation.MemoryBytes
	s.ReportQueue = max(s.ReportQueue, n.Saturation.ReportQueue)
}

// sum adds traffic up. A percentile of the whole is at most the highest of its
// parts, and that is what it becomes.
func sum(a, b topologyv1.Signals) topologyv1.Signals {
	a.Requests += b.Requests
	a.Rate += b.Rate
	a.Errors += b.Errors
	a.ClientErrors += b.ClientErrors
	a.Denied += b.Denied
	a.Throttled += b.Throttled
	a.BytesIn += b.BytesIn
	a.BytesOut += b.BytesOut
	a.P50, a.P95, a.P99 = max(a.P50, b.P50), max(a.P95, b.P95), max(a.P99, b.P99)
	a.ErrorShare = 0
	if a.Requests > 0 {
		a.ErrorShare = float64(a.Errors) / float64(a.Requests)
	}
	return a
}

func statTable(rows []statRow, wide bool) *render.Table {
	t := &render.Table{Header: []string{"NAME", "MESHED", "SUCCESS", "RPS", "P50", "P95", "P99", "ERR", "THROTTLED"}}
	if wide {
		t.Header = append(t.Header, "DENIED", "4XX", "IN-FLIGHT", "CPU", "MEMORY", "NAMESPACE", "HEALTH", "REASON")
	}
	t.Numbers("SUCCESS", "RPS", "P50", "P95", "P99", "ERR", "THROTTLED", "DENIED", "4XX", "IN-FLIGHT", "CPU", "MEMORY")
	for _, r := range rows {
		s := r.Inbound
		bound := ""
		if r.LatencyIsBound {
			bound = "≤"
		}
		row := []any{
			r.Name, fmt.Sprintf("%d/%d", r.Meshed, r.Sidecars),
			render.Cell{Text: render.Success(s), Paint: render.HealthPaint(r.Health)},
			render.Rate(s.Rate), bound + render.Latency(s, s.P50), bound + render.Latency(s, s.P95), bound + render.Latency(s, s.P99),
			s.Errors, s.Throttled,
		}
		if s.Requests == 0 {
			row = []any{r.Name, row[1], row[2], render.None, render.None, render.None, render.None, render.None, render.None}
		}
		if wide {
			row = append(row, s.Denied, s.ClientErrors, r.Saturation.InFlight, fmt.Sprintf("%.2f", r.Saturation.CPUCores),
				render.Bytes(r.Saturation.MemoryBytes), r.Namespace, render.Cell{Text: string(r.Health), Paint: render.HealthPaint(r.Health)}, r.HealthReason)
		}
		t.Row(row...)
	}
	return t
}

// completeNames offers what is in the mesh now. A shell does not wait long.
func (a *app) completeNames(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := a.client(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer c.Close()
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, time.Second)
	defer cancel()
	g, err := c.Graph(ctx, time.Minute)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return shortNames(append(statRows(g, kindWorkload), statRows(g, kindService)...)), cobra.ShellCompDirectiveNoFileComp
}
