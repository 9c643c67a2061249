package command

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/client"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	"github.com/telemesh/telemesh/dashboards"
)

const (
	envGrafanaURL   = "GRAFANA_URL"
	envGrafanaToken = "GRAFANA_TOKEN"
	defaultBoardDir = "telemesh-grafana"
)

func (a *app) dashboardCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "dashboard",
		Short: "Get to the right page: the hub's UI, Grafana, the metrics",
		Example: `  meshctl dashboard ui
  meshctl dashboard grafana --grafana-url http://localhost:3000
  meshctl dashboard prometheus --print-url`,
	})
	cmd.AddCommand(
		a.pageCommand("ui", "Open the hub's UI", "/", ""),
		a.pageCommand("prometheus", "Open the hub's metrics", "/metrics",
			"as a Prometheus data source the hub's URL is %s; `meshctl query` evaluates PromQL"),
		a.grafanaCommand(),
	)
	return cmd
}

// pageCommand prints a page's URL and, for a person with a browser, opens it.
// The note is told when it does more than print.
func (a *app) pageCommand(name, short, path, note string) *cobra.Command {
	var printOnly bool
	cmd := &cobra.Command{
		Use:   name,
		Short: short,
		Long:  short + ". Prints the URL; opens a browser only from a terminal.",
		Example: fmt.Sprintf(`  meshctl dashboard %[1]s
  meshctl dashboard %[1]s --print-url
  meshctl --hub http://127.0.0.1:25080 dashboard %[1]s`, name),
		Args: arguments(0, 0, "no argument"),
	}
	cmd.Flags().BoolVar(&printOnly, "print-url", false, "print the URL and do nothing else")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		page := c.URL() + path
		if !printOnly {
			// A page that is not there would only be a browser's error.
			if _, err := c.Status(cmd.Context()); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(a.Out, page); err != nil || printOnly {
			return err
		}
		if note != "" {
			fmt.Fprintf(a.Err, note+"\n", c.URL())
		}
		if a.Terminal && a.OpenBrowser != nil {
			if err := a.OpenBrowser(page); err != nil {
				a.warn("no browser opened (%v); open the URL yourself", err)
			}
		}
		return nil
	})
	return cmd
}

// grafanaFlags are of `dashboard grafana`.
type grafanaFlags struct {
	dir, url, token, folder string
}

func (a *app) grafanaCommand() *cobra.Command {
	var f grafanaFlags
	cmd := &cobra.Command{
		Use:   "grafana",
		Short: "Make Grafana boards of what is in the mesh now, and push them",
		Long: `Make Grafana boards of what is in the mesh now: the mesh, each service, each workload, the hub.
With a Grafana's URL and token they are pushed, with data source and folder, and their URLs printed;
pushing again changes only what differs. Without, they are written as files, and what is printed says
how to get a Grafana that shows them.`,
		Example: `  meshctl dashboard grafana                                # write files, say how to go on
  GRAFANA_TOKEN=... meshctl dashboard grafana --grafana-url http://localhost:3000
  meshctl dashboard grafana --dir boards --folder "Shop"`,
		Args: arguments(0, 0, "no argument"),
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "write boards and provisioning here (default "+defaultBoardDir+" without a Grafana, else none)")
	cmd.Flags().StringVar(&f.url, "grafana-url", "", "Grafana to push to (default $"+envGrafanaURL+")")
	cmd.Flags().StringVar(&f.token, "token", "", "token of a service account with the role Admin, or user:password (default $"+envGrafanaToken+", which other users of the machine cannot see)")
	cmd.Flags().StringVar(&f.folder, "folder", "", "title of the folder to push into (default telemesh)")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if f.url == "" {
			f.url = a.Getenv(envGrafanaURL)
		}
		if f.token == "" {
			f.token = a.Getenv(envGrafanaToken)
		}
		if f.url != "" && f.token == "" {
			return usage(cmd, "a Grafana was given without a token: set %s or --token", envGrafanaToken)
		}
		if f.url == "" && f.folder != "" {
			a.warn("--folder is for a Grafana that boards are pushed to; files go to the folder that their provisioning names")
		}
		return a.grafana(cmd, c, f)
	})
	return cmd
}

func (a *app) grafana(cmd *cobra.Command, c *client.Client, f grafanaFlags) error {
	// The widest window has the most complete inventory.
	g, err := c.Graph(cmd.Context(), maxWindow)
	if err != nil {
		return err
	}
	inventory := dashboards.FromGraph(g)
	if len(inventory.Workloads) == 0 {
		a.warn("the hub knows no workload yet, so there are boards for mesh and hub only; run this again once there is traffic")
	}
	boards := dashboards.Generate(inventory)
	if f.dir == "" && f.url == "" {
		f.dir = defaultBoardDir
	}
	if f.dir != "" {
		if err := writeBoards(f.dir, c.URL(), boards); err != nil {
			return err
		}
		fmt.Fprintf(a.Err, "%s written to %s\n", render.Count(len(boards), "board"), filepath.Join(f.dir, "boards"))
	}
	if f.url == "" {
		_, err := fmt.Fprint(a.Out, dashboards.Instructions(f.dir, c.URL()))
		return err
	}
	return a.push(cmd, c.URL(), f, boards)
}

func writeBoards(dir, hub string, boards []dashboards.Board) error {
	if err := dashboards.Write(dir, boards); err != nil {
		return err
	}
	return dashboards.WriteDataSource(dir, hub, "")
}

func (a *app) push(cmd *cobra.Command, hub string, f grafanaFlags, boards []dashboards.Board) error {
	res, err := dashboards.Push(cmd.Context(), dashboards.PushOptions{
		GrafanaURL: f.url, Token: f.token, HubURL: hub, Folder: f.folder, Boards: boards,
	})
	if err != nil {
		return &ExitError{
			Code: CodeFailure, Err: err,
			Hint: "check that Grafana answers at " + f.url + " and that the token's service account has the role Admin; the same command goes on where this one ended",
		}
	}
	fmt.Fprintf(a.Err, "%s saved\n", render.Count(res.Saved, "change"))
	t := &render.Table{Header: []string{"TITLE", "URL"}}
	t.Row("folder", res.FolderURL)
	for i, url := range res.BoardURLs {
		t.Row(boards[i].Title, url)
	}
	return t.Write(a.Out, a.style())
}
