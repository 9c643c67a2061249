// Package command is the commands of meshctl that read the mesh. Output on
// stdout is data only; warnings and progress go to stderr. Exit codes are in
// exit.go.
package command

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/client"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
)

const (
	defaultHub = "http://127.0.0.1:15080"
	envHub     = "MESHCTL_HUB"
	// defaultWidth is for output that is no terminal.
	defaultWidth = 120
)

// Streams is what a command has of the world.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Terminal says that a person looks at Out, Width how many columns they see
	// (0 means unknown).
	Terminal bool
	Width    int
	Getenv   func(string) string
	Now      func() time.Time
	// OpenBrowser shows a page to the person. Nil where there is no browser.
	OpenBrowser func(url string) error
}

// Standard is the process's own streams.
func Standard() Streams {
	s := Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Now: time.Now}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		s.Terminal = true
		// Without a size the default stands.
		s.Width, _, _ = term.GetSize(int(os.Stdout.Fd()))
	}
	if path, err := exec.LookPath("xdg-open"); err == nil {
		// xdg-open hands the page to a browser and ends.
		s.OpenBrowser = func(url string) error { return exec.Command(path, url).Run() }
	}
	return s
}

// app is what the commands share: the streams and the flags of all commands.
type app struct {
	Streams
	hub   string
	color string
}

// Root is meshctl with the commands that read. The caller adds the commands
// that start processes, and runs it with Execute.
func Root(streams Streams) *cobra.Command {
	a := &app{Streams: streams}
	root := group(&cobra.Command{
		Use:   "meshctl",
		Short: "Look into the mesh and start it",
		Long:  "meshctl shows what the hub knows of the mesh: its graph, its numbers, every request by its ID.",
		Example: `  meshctl status                                        # is everything there, and what is worst
  meshctl stat                                          # golden signals of every workload
  meshctl trace 4bf92f35-77b3-4da6-a3ce-929d0e0e4736    # what became of one request`,
	})
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%w", err) })
	root.PersistentFlags().StringVar(&a.hub, "hub", "", "URL of the hub (default $"+envHub+", else "+defaultHub+")")
	root.PersistentFlags().StringVar(&a.color, "color", "auto", "auto, always or never; auto heeds NO_COLOR")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.check(cmd) }
	root.AddCommand(
		a.statusCommand(), a.statCommand(), a.graphCommand(), a.traceCommand(), a.tapCommand(), a.queryCommand(),
		a.storeCommand(), a.policyCommand(), a.dashboardCommand(), a.versionCommand(),
	)
	addCompletion(root)
	return root
}

// addCompletion takes cobra's own command and gives it examples.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		group(c)
		c.Example = `  source <(meshctl completion bash)
  meshctl completion zsh > "${fpath[1]}/_meshctl"
  meshctl completion fish > ~/.config/fish/completions/meshctl.fish`
		for _, shell := range c.Commands() {
			shell.Example = "  meshctl completion " + shell.Name()
		}
	}
}

// check refuses wrong values of the shared flags before a command begins.
func (a *app) check(cmd *cobra.Command) error {
	switch a.color {
	case "auto", "always", "never":
	default:
		return usage(cmd, "--color %q: want auto, always or never", a.color)
	}
	return nil
}

// style is how output may look.
func (a *app) style() render.Style {
	s := render.Style{Width: a.Width}
	if s.Width <= 0 {
		s.Width = defaultWidth
	}
	// no-color.org: any value that is not empty means no colour.
	s.Color = a.color == "always" || a.color == "auto" && a.Terminal && a.Getenv("NO_COLOR") == "" && a.Getenv("TERM") != "dumb"
	return s
}

// client is of the hub that flag, environment or default name, in this order.
// The caller closes it.
func (a *app) client(cmd *cobra.Command) (*client.Client, error) {
	hub := a.hub
	if hub == "" {
		hub = a.Getenv(envHub)
	}
	if hub == "" {
		hub = defaultHub
	}
	c, err := client.New(hub)
	if err != nil {
		return nil, usage(cmd, "%w", err)
	}
	return c, nil
}

// warn tells a person something that is no data.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintln(a.Err, "warning: "+render.Clean(fmt.Sprintf(format, args...)))
}

// group makes a command that only has others below it: alone it shows its
// help, and with a word that it does not know it suggests.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		meant := cmd.SuggestionsFor(args[0])
		if len(meant) == 0 {
			return usage(cmd, "unknown command %q for %q", args[0], cmd.CommandPath())
		}
		return usage(cmd, "unknown command %q for %q; did you mean %s?", args[0], cmd.CommandPath(), strings.Join(meant, " or "))
	}
	return cmd
}

// arguments demands between least and most arguments, and says which.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			return usage(cmd, "want %s, got %d arguments", what, len(args))
		}
		return nil
	}
}
