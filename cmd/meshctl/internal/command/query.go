package command

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/client"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	"github.com/telemesh/telemesh/internal/vocab"
)

const labelName = "__name__"

func (a *app) queryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "query PROMQL",
		Short: "Evaluate a PromQL expression on the hub, now",
		Long: `Evaluate a PromQL expression on the hub, now.
Of many series the table shows the labels in which they differ; -o wide shows all.`,
		Example: `  meshctl query 'sum by (destination_service_name) (rate(istio_requests_total{reporter="source"}[1m]))'
  meshctl query 'mesh_sidecar_connected == 0'
  meshctl query 'istio_requests_total{response_code="503"}' -o wide`,
		Args: arguments(1, 1, "one expression (quote it)"),
	}
	o := outputFlag(cmd, formatTable, formatWide, formatJSON, formatYAML)
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := o.check(cmd); err != nil {
			return err
		}
		answer, err := c.Query(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		for _, w := range answer.Warnings {
			a.warn("%s", w)
		}
		if done, err := o.document(a.Out, answer.Raw, nil); done {
			return err
		}
		if len(answer.Series) == 0 {
			a.warn("no series matches; `meshctl query 'count by (__name__) ({__name__=~\".+\"})'` lists the metrics")
			return nil
		}
		return answerTable(answer, o.format == formatWide).Write(a.Out, a.style())
	})
	return cmd
}

func answerTable(answer *client.Answer, wide bool) *render.Table {
	labels := labelColumns(answer.Series, wide)
	t := &render.Table{}
	for _, l := range labels {
		t.Header = append(t.Header, strings.ToUpper(l))
	}
	matrix := answer.Type == "matrix"
	if matrix {
		t.Header = append(t.Header, "TIME")
	}
	t.Header = append(t.Header, "VALUE")
	t.Numbers("VALUE")
	for _, s := range answer.Series {
		for _, sample := range s.Samples {
			var row []any
			for _, l := range labels {
				row = append(row, s.Labels[l])
			}
			if matrix {
				row = append(row, sample.Time.Format(time.RFC3339))
			}
			t.Row(append(row, sample.Value)...)
		}
	}
	return t
}

// labelColumns are the labels worth a column, the metric's name first: all of
// them, or those that tell the series apart.
func labelColumns(series []client.Series, all bool) []string {
	values := make(map[string]map[string]bool)
	for _, s := range series {
		for name := range s.Labels {
			values[name] = make(map[string]bool)
		}
	}
	for _, s := range series {
		for name := range values {
			values[name][s.Labels[name]] = true
		}
	}
	names := slices.Sorted(maps.Keys(values)) // underscores sort before letters
	return slices.DeleteFunc(names, func(name string) bool {
		if all || name == labelName {
			return false
		}
		if len(series) > 1 {
			return len(values[name]) < 2
		}
		return values[name][""] || values[name][vocab.Unknown]
	})
}
