package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	"github.com/telemesh/telemesh/policy-check/convert"
)

func (a *app) policyConvertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "convert FILE|DIR...",
		Short: "Make policies of what other limiters are configured with",
		Long: `Make policies of what other limiters are configured with: Istio Mixer's handlers, instances, rules,
QuotaSpecs and QuotaSpecBindings, envoyproxy/ratelimit's descriptors, Kuadrant's RateLimitPolicy and
Envoy Gateway's BackendTrafficPolicy. Name all files that belong together: an HTTPRoute says which
services a policy on it is for.

The policies go to standard output. What is not carried over is named on standard error, and the exit
code is 2 then: a rule that would lose a condition is left out whole.`,
		Example: `  meshctl policy convert mixer/ > policies/quotas.yaml
  meshctl policy convert ratelimit.yaml --service frontend --descriptor 'user=request.headers["x-user"]'
  kubectl get ratelimitpolicies,httproutes -A -o yaml | meshctl policy convert -`,
		Args: arguments(1, -1, "one FILE or DIR at least"),
	}
	var o convert.Options
	cmd.Flags().StringVar(&o.Namespace, "namespace", "default", "of objects without one")
	cmd.Flags().StringVar(&o.Service, "service", "", "target of what names no service, such as a Gateway or a domain of descriptors")
	var descriptors []string
	cmd.Flags().StringArrayVar(&descriptors, "descriptor", nil, "what a descriptor's key stands for, as KEY=EXPRESSION (repeatable)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Descriptors = make(map[string]string)
		for _, d := range descriptors {
			key, expression, ok := strings.Cut(d, "=")
			if !ok {
				return usage(cmd, "--descriptor %q: want KEY=EXPRESSION", d)
			}
			o.Descriptors[key] = expression
		}
		return a.convert(args, o)
	}
	return cmd
}

func (a *app) convert(args []string, o convert.Options) error {
	names, err := policyFiles(args)
	if err != nil {
		return err
	}
	files := make([]convert.File, len(names))
	for i, n := range names {
		if files[i].Name, files[i].Data, err = a.readPolicy(n); err != nil {
			return err
		}
	}
	r := convert.Convert(files, o)
	if _, err := a.Out.Write(r.Policies); err != nil {
		return fmt.Errorf("write policies: %w", err)
	}
	var b strings.Builder
	for _, d := range r.Differs {
		fmt.Fprintf(&b, "differs: %s\n", render.Clean(d.String()))
	}
	for _, l := range r.Left {
		fmt.Fprintf(&b, "not carried over: %s\n", render.Clean(l.String()))
	}
	if _, err := a.Err.Write([]byte(b.String())); err != nil {
		return fmt.Errorf("write remarks: %w", err)
	}
	if n := len(r.Left); n > 0 {
		return &ExitError{
			Code: CodeProblems, Err: fmt.Errorf("%s of %s not carried over, %s made", render.Count(n, "part"), render.Count(len(files), "file"), render.Count(r.Count, "policy")),
			Hint: "what is left out stands above; check what was made with `meshctl policy lint`",
		}
	}
	return nil
}
