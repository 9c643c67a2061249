package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/client"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "policy",
		Short: "Check policy files, convert those of others, see which policies are in force",
		Example: `  meshctl policy lint policies/
  meshctl policy get
  meshctl policy get ratings -o yaml
  meshctl policy convert mixer/ > policies/quotas.yaml`,
	})
	cmd.AddCommand(a.policyLintCommand(), a.policyGetCommand(), a.policyConvertCommand())
	return cmd
}

func (a *app) policyGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get [NAME]",
		Short: "Policies in force, what each rule does and did",
		Example: `  meshctl policy get
  meshctl policy get default/ratings
  meshctl policy get -o json | jq '.policies[].rules'`,
		Args: arguments(0, 1, "one NAME at most"),
	}
	o := outputFlag(cmd, formatTable, formatWide, formatJSON, formatYAML, formatName)
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := o.check(cmd); err != nil {
			return err
		}
		list, err := c.Policies(cmd.Context())
		if err != nil {
			return err
		}
		if len(args) == 1 {
			if list, err = onlyPolicy(list, args[0]); err != nil {
				return err
			}
		}
		for _, e := range list.Errors {
			a.warn("refused, the last good version stays in force: %s:%d:%d: %s", e.File, e.Line, e.Column, e.Reason)
		}
		return a.writePolicies(o, list)
	})
	return cmd
}

func onlyPolicy(list *topologyv1.PolicyList, name string) (*topologyv1.PolicyList, error) {
	only := &topologyv1.PolicyList{Policies: []topologyv1.PolicyStatus{}, Errors: list.Errors}
	for _, p := range list.Policies {
		if p.Name == name || p.Namespace+"/"+p.Name == name || policyID(p) == name {
			only.Policies = append(only.Policies, p)
		}
	}
	if len(only.Policies) == 0 {
		return nil, &ExitError{
			Code: CodeFailure, Err: fmt.Errorf("no policy %q is in force", name),
			Hint: "`meshctl policy get` lists those that are and the files that were refused",
		}
	}
	return only, nil
}

// policyID names a policy as records do: Istio's kinds by their kind, too.
func policyID(p topologyv1.PolicyStatus) string {
	if p.Kind == "" {
		return p.Namespace + "/" + p.Name
	}
	return strings.ToLower(p.Kind) + "/" + p.Namespace + "/" + p.Name
}

func (a *app) writePolicies(o *output, list *topologyv1.PolicyList) error {
	names := make([]string, len(list.Policies))
	for i, p := range list.Policies {
		names[i] = "policy/" + policyID(p)
	}
	if done, err := o.document(a.Out, list, names); done {
		return err
	}
	if len(list.Policies) == 0 {
		a.warn("no policy is in force; put a file into the hub's policy directory (meshctl policy lint checks it)")
		return nil
	}
	t := &render.Table{Header: []string{"POLICY", "MODE", "SIDECARS", "RULE", "ALLOWED", "DENIED", "THROTTLED", "DOES"}}
	t.Numbers("ALLOWED", "DENIED", "THROTTLED")
	wide := o.format == formatWide
	if wide {
		t.Header = append(t.Header, "TARGETS", "FILE", "VERSION")
	}
	for _, p := range list.Policies {
		for _, r := range p.Rules {
			programmed := render.Cell{Text: fmt.Sprintf("%d/%d", p.Programmed, p.Sidecars)}
			if p.Programmed < p.Sidecars {
				programmed.Paint = render.Yellow
			}
			row := []any{policyID(p), p.Mode, programmed, r.Name, r.Allowed, r.Denied, r.Throttled, r.Summary}
			if wide {
				row = append(row, fmt.Sprint(p.Targets), p.File, p.Version)
			}
			t.Row(row...)
		}
	}
	return t.Write(a.Out, a.style())
}
