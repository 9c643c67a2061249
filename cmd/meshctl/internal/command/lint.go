package command

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/authz"
)

// maxPolicyBytes is one more than the parser takes, so that a file that is too
// large is refused by it and not read whole.
const maxPolicyBytes = 1<<20 + 1

type lintedRule struct {
	Name string `json:"name"`
	Does string `json:"does"`
}

type lintedPolicy struct {
	Kind      string       `json:"kind,omitempty"` // empty for a TrafficPolicy
	File      string       `json:"file"`
	Line      int          `json:"line"`
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	Mode      string       `json:"mode"`
	Targets   []string     `json:"targets"`
	Rules     []lintedRule `json:"rules"`
}

type lintDocument struct {
	SchemaVersion int                      `json:"schemaVersion"`
	Files         []string                 `json:"files"`
	Policies      []lintedPolicy           `json:"policies"`
	Problems      []topologyv1.PolicyError `json:"problems"`
}

func (a *app) policyLintCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lint FILE|DIR...",
		Short: "Check policy files as the hub would, without a hub",
		Long: `Check policy files as the hub would, without a hub. Of a directory, *.yaml and *.yml are read, not
those of directories below it; - is stdin. Problems are file:line:column: reason, and the exit code is 2.`,
		Example: `  meshctl policy lint policies/
  meshctl policy lint ratings.yaml details.yaml
  kubectl get configmap mesh-hub-policies -o jsonpath='{.data.ratings\.yaml}' | meshctl policy lint -`,
		Args: arguments(1, -1, "one FILE or DIR at least"),
	}
	o := outputFlag(cmd, formatTable, formatJSON, formatYAML)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.check(cmd); err != nil {
			return err
		}
		files, err := policyFiles(args)
		if err != nil {
			return err
		}
		doc, err := a.lint(files)
		if err != nil {
			return err
		}
		done, err := o.document(a.Out, doc, nil)
		if !done {
			err = writeLint(a.Out, doc, a.style())
		}
		if err != nil {
			return err
		}
		if n := len(doc.Problems); n > 0 {
			return &ExitError{
				Code: CodeProblems, Err: fmt.Errorf("%s in %s", render.Count(n, "problem"), render.Count(len(files), "file")),
				Hint: "the hub would refuse such a file whole and keep what it said before",
			}
		}
		return nil
	}
	return cmd
}

// policyFiles lists the files that arguments name, in their order.
func policyFiles(args []string) ([]string, error) {
	var files []string
	for _, arg := range args {
		if arg == "-" {
			files = append(files, arg)
			continue
		}
		info, err := os.Stat(arg)
		if err != nil {
			return nil, fmt.Errorf("look for policies: %w", err)
		}
		if !info.IsDir() {
			files = append(files, arg)
			continue
		}
		entries, err := os.ReadDir(arg)
		if err != nil {
			return nil, fmt.Errorf("look for policies: %w", err)
		}
		before := len(files)
		for _, e := range entries {
			ext := filepath.Ext(e.Name())
			if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && (ext == ".yaml" || ext == ".yml") {
				files = append(files, filepath.Join(arg, e.Name()))
			}
		}
		if len(files) == before {
			return nil, &ExitError{
				Code: CodeFailure, Err: fmt.Errorf("no *.yaml or *.yml in %s", arg),
				Hint: "directories below are not read, by the hub neither; name them",
			}
		}
	}
	return files, nil
}

func (a *app) lint(files []string) (*lintDocument, error) {
	doc := &lintDocument{SchemaVersion: topologyv1.SchemaVersion, Files: files, Policies: []lintedPolicy{}, Problems: []topologyv1.PolicyError{}}
	owners := make(map[string]lintedPolicy) // by ID
	for _, file := range files {
		name, data, err := a.readPolicy(file)
		if err != nil {
			return nil, err
		}
		policies, problems := policy.Parse(name, data)
		access, more := authz.Parse(name, data)
		problems = append(problems, more...)
		for _, p := range problems {
			doc.Problems = append(doc.Problems, topologyv1.PolicyError{File: p.File, Line: p.Line, Column: p.Column, Reason: p.Reason})
		}
		for _, p := range policies {
			doc.own(owners, p.ID(), linted(name, p))
		}
		for _, r := range access {
			doc.own(owners, r.ID(), lintedAccess(name, r))
		}
	}
	return doc, nil
}

// own adds a policy, or the problem that another file defines it.
func (d *lintDocument) own(owners map[string]lintedPolicy, id string, l lintedPolicy) {
	if first, taken := owners[id]; taken {
		d.Problems = append(d.Problems, topologyv1.PolicyError{
			File: l.File, Line: l.Line, Column: 1,
			Reason: fmt.Sprintf("policy %s is already defined at %s:%d", id, first.File, first.Line),
		})
		return
	}
	owners[id] = l
	d.Policies = append(d.Policies, l)
}

func lintedAccess(file string, r *authz.Resource) lintedPolicy {
	l := lintedPolicy{
		Kind: r.Kind, File: file, Line: r.Line, Namespace: r.Metadata.Namespace, Name: r.Metadata.Name, Mode: r.Mode(), Targets: r.Targets(),
	}
	for _, rule := range r.Summaries() {
		l.Rules = append(l.Rules, lintedRule{Name: rule.Name, Does: rule.Does})
	}
	return l
}

func (a *app) readPolicy(file string) (name string, data []byte, err error) {
	in, name := a.In, "stdin"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", nil, fmt.Errorf("read policy: %w", err)
		}
		defer f.Close()
		in, name = f, file
	}
	data, err = io.ReadAll(io.LimitReader(in, maxPolicyBytes))
	if err != nil {
		return "", nil, fmt.Errorf("read policy: %w", err)
	}
	return name, data, nil
}

func linted(file string, p *policy.TrafficPolicy) lintedPolicy {
	l := lintedPolicy{
		File: file, Line: p.Line, Namespace: p.Metadata.Namespace, Name: p.Metadata.Name, Mode: p.Spec.Mode, Targets: p.Targets(),
	}
	for i, does := range p.Summaries() {
		l.Rules = append(l.Rules, lintedRule{Name: p.Spec.Rules[i].Name, Does: does})
	}
	return l
}

func writeLint(w io.Writer, d *lintDocument, s render.Style) error {
	var b strings.Builder
	for _, p := range d.Problems {
		fmt.Fprintf(&b, "%s:%d:%d: %s\n", p.File, p.Line, p.Column, s.Paint(render.Red, render.Clean(p.Reason)))
	}
	if len(d.Problems) == 0 {
		for _, p := range d.Policies {
			fmt.Fprintf(&b, "%s:%d: %s/%s, mode %s, for %s\n", p.File, p.Line, p.Namespace, p.Name, p.Mode, strings.Join(p.Targets, ", "))
			for _, r := range p.Rules {
				fmt.Fprintf(&b, "  %s: %s\n", r.Name, render.Clean(r.Does))
			}
		}
		fmt.Fprintf(&b, "no problems: %s in %s\n", render.Count(len(d.Policies), "policy"), render.Count(len(d.Files), "file"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
