package command

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/client"
)

// Formats of -o that most commands have.
const (
	formatTable = "table"
	formatWide  = "wide"
	formatJSON  = "json"
	formatYAML  = "yaml"
	formatName  = "name"
)

// output is the flag -o of one command.
type output struct {
	format  string
	allowed []string
}

// outputFlag gives a command -o; the first of the formats is the default.
func outputFlag(cmd *cobra.Command, allowed ...string) *output {
	o := &output{allowed: allowed}
	cmd.Flags().StringVarP(&o.format, "output", "o", allowed[0], strings.Join(allowed, "|"))
	must(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp)))
	return o
}

// must is for cobra's complaints about our own flag names.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (o *output) check(cmd *cobra.Command) error {
	if !slices.Contains(o.allowed, o.format) {
		return usage(cmd, "-o %q: want %s", o.format, strings.Join(o.allowed, ", "))
	}
	return nil
}

// document writes doc in a machine's format, and reports whether the format
// was one.
func (o *output) document(w io.Writer, doc any, names []string) (done bool, err error) {
	switch o.format {
	case formatJSON:
		return true, writeJSON(w, doc)
	case formatYAML:
		b, err := yaml.Marshal(doc)
		if err != nil {
			return true, fmt.Errorf("encode as YAML: %w", err)
		}
		_, err = w.Write(b)
		return true, err
	case formatName:
		for _, n := range names {
			if _, err := fmt.Fprintln(w, n); err != nil {
				return true, err
			}
		}
		return true, nil
	}
	return false, nil
}

func writeJSON(w io.Writer, doc any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(doc)
}

// maxWindow is how far back the hub's live graph reaches.
const maxWindow = 15 * time.Minute

// window is the flag --window of one command.
type window time.Duration

// windowFlag gives a command --window, and --since, which is the same by the
// name that kubectl and hubble have for it.
func windowFlag(cmd *cobra.Command) *window {
	w := window(time.Minute)
	cmd.Flags().DurationVar((*time.Duration)(&w), "window", time.Minute, "how far back numbers are taken, 1s to 15m")
	cmd.Flags().DurationVar((*time.Duration)(&w), "since", time.Minute, "the same as --window")
	return &w
}

func (w *window) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("window") && cmd.Flags().Changed("since") {
		return usage(cmd, "--window and --since are the same: give one")
	}
	if d := time.Duration(*w); d < time.Second || d > maxWindow {
		return usage(cmd, "--window %s: the live graph has 1s to %s", d, maxWindow)
	}
	return nil
}

// withClient runs a command that asks the hub.
func (a *app) withClient(run func(cmd *cobra.Command, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.client(cmd)
		if err != nil {
			return err
		}
		defer c.Close()
		return run(cmd, c, args)
	}
}
