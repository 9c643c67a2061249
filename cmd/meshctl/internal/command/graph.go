package command

import (
	"time"

	"github.com/spf13/cobra"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/client"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
)

const (
	formatDot     = "dot"
	formatMermaid = "mermaid"
)

func (a *app) graphCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "graph",
		Short: "Who calls whom, how often and how well",
		Example: `  meshctl graph                                # one line per edge
  meshctl graph -o dot | dot -Tsvg > mesh.svg  # a picture
  meshctl graph -o mermaid --window 5m         # for a Markdown page`,
		Args: arguments(0, 0, "no argument"),
	}
	o := outputFlag(cmd, formatTable, formatWide, formatDot, formatMermaid, formatJSON, formatYAML, formatName)
	w := windowFlag(cmd)
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if err := firstError(o.check(cmd), w.check(cmd)); err != nil {
			return err
		}
		g, err := c.Graph(cmd.Context(), time.Duration(*w))
		if err != nil {
			return err
		}
		return a.writeGraph(o, g)
	})
	return cmd
}

func (a *app) writeGraph(o *output, g *topologyv1.Graph) error {
	names := make([]string, len(g.Edges))
	for i, e := range g.Edges {
		names[i] = "edge/" + e.ID
	}
	if done, err := o.document(a.Out, g, names); done {
		return err
	}
	if len(g.Edges) == 0 {
		a.warn("no requests in the graph yet; send some through a sidecar, or try `meshctl demo`")
	}
	switch o.format {
	case formatDot:
		return render.Dot(a.Out, g)
	case formatMermaid:
		return render.Mermaid(a.Out, g)
	}
	if len(g.Edges) == 0 {
		return nil
	}
	return render.EdgeTable(g, o.format == formatWide).Write(a.Out, a.style())
}
