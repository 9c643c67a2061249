package command

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/client"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	"github.com/telemesh/telemesh/internal/version"
)

// component is one program of the mesh and its version.
type component struct {
	Component string `json:"component"`
	Name      string `json:"name"`
	Version   string `json:"version"`
}

type versionDocument struct {
	SchemaVersion int         `json:"schemaVersion"`
	Components    []component `json:"components"`
}

func (a *app) versionCommand() *cobra.Command {
	var clientOnly bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Versions of meshctl, the hub and every sidecar",
		Example: `  meshctl version            # all, with a warning where they are too far apart
  meshctl version --client   # meshctl only, without a hub
  meshctl version -o json`,
		Args: arguments(0, 0, "no argument"),
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "do not ask the hub")
	o := outputFlag(cmd, formatTable, formatJSON, formatYAML)
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if err := o.check(cmd); err != nil {
			return err
		}
		list := []component{{Component: "meshctl", Version: version.String()}}
		var failed error
		if !clientOnly {
			s, err := c.Status(cmd.Context())
			failed = err // the versions known so far are still an answer
			if err == nil {
				list = append(list, components(c, s)...)
			}
		}
		for _, w := range skew(list) {
			a.warn("%s", w)
		}
		done, err := o.document(a.Out, versionDocument{topologyv1.SchemaVersion, list}, nil)
		if !done {
			t := &render.Table{Header: []string{"COMPONENT", "NAME", "VERSION"}}
			for _, c := range list {
				t.Row(c.Component, c.Name, c.Version)
			}
			err = t.Write(a.Out, a.style())
		}
		return firstError(err, failed)
	})
	return cmd
}

func components(c *client.Client, s *topologyv1.Status) []component {
	list := []component{{Component: "mesh-hub", Name: c.URL(), Version: s.Version}}
	for _, p := range s.Sidecars {
		list = append(list, component{Component: "mesh-proxy", Name: p.Name, Version: p.SoftwareVersion})
	}
	return list
}

// maxSkew is how many minor versions parts may be apart, as in Kubernetes.
const maxSkew = 1

// skew compares every part with the hub, or else says nothing.
func skew(list []component) (warnings []string) {
	if len(list) < 2 {
		return nil
	}
	hub := list[1]
	for _, c := range list {
		if c.Version == "" || c.Version == hub.Version {
			continue
		}
		if tooFar(c.Version, hub.Version) {
			warnings = append(warnings, fmt.Sprintf("%s has version %s and the hub %s; more than %d minor version apart is not tested, bring them to one",
				strings.TrimSpace(c.Component+" "+c.Name), c.Version, hub.Version, maxSkew))
		}
	}
	return warnings
}

func tooFar(a, b string) bool {
	majorA, minorA, okA := majorMinor(a)
	majorB, minorB, okB := majorMinor(b)
	if !okA || !okB {
		return true
	}
	return majorA != majorB || max(minorA-minorB, minorB-minorA) > maxSkew
}

// majorMinor reads 1 and 2 from 1.2.3+commit.
func majorMinor(v string) (major, minor int, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(v, "v"), ".", 3)
	if len(parts) < 2 {
		return 0, 0, false
	}
	major, err := strconv.Atoi(parts[0])
	if err != nil {
		return 0, 0, false
	}
	minor, err = strconv.Atoi(parts[1])
	return major, minor, err == nil
}
