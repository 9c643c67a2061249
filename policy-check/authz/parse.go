package authz

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/expr"
)

const maxFileBytes = 1 << 20

// ignored are fields of metadata that an API server writes and that say nothing
// about requests.
var ignored = []string{
	"creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "generation",
	"labels", "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
}

// Parse reads the documents of Group in a YAML file. It is strict: what it does
// not know it names. It returns the resources without a problem and all problems
// of the others. Documents of other groups, and text that is not YAML at all, are
// policy.Parse's to report.
func Parse(file string, data []byte) ([]*Resource, []*policy.ParseError) {
	if len(data) > maxFileBytes {
		return nil, nil
	}
	var out []*Resource
	var problems []*policy.ParseError
	seen := make(map[string]int) // by ID, the line
	for y := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		err := y.Decode(&doc)
		if errors.Is(err, io.EOF) || err != nil {
			return out, problems
		}
		if doc.Kind != yaml.DocumentNode || !policy.IsForeign(doc.Content[0], Group) {
			continue
		}
		d := &decoder{file: file, nodes: make(map[any]*yaml.Node)}
		r := d.resource(doc.Content[0])
		if first, twice := seen[r.ID()]; twice && len(d.problems) == 0 {
			d.fail(doc.Content[0], "%s is already defined at line %d", r.ID(), first)
		}
		problems = append(problems, d.problems...)
		if len(d.problems) == 0 {
			seen[r.ID()] = r.Line
			out = append(out, r)
		}
	}
}

// resource reads one document.
func (d *decoder) resource(n *yaml.Node) *Resource {
	r := &Resource{Line: n.Line, Metadata: Metadata{Namespace: "default"}}
	fields := []string{"apiVersion", "kind", "metadata", "spec"}
	have := make(map[string]*yaml.Node)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Value == "status": // an API server's report
		case !slices.Contains(fields, key.Value):
			d.fail(key, "%s", unknown("document", key.Value, fields))
		case have[key.Value] != nil:
			d.fail(key, "document: field %s is given twice", key.Value)
		default:
			have[key.Value] = n.Content[i+1]
		}
	}
	for _, name := range fields {
		if have[name] == nil {
			d.fail(n, "document: field %s is required", name)
			return r
		}
	}
	d.value(have["apiVersion"], reflect.ValueOf(&r.APIVersion).Elem(), "apiVersion")
	d.value(have["kind"], reflect.ValueOf(&r.Kind).Elem(), "kind")
	if v := r.APIVersion; v != "" && v != Group+"/v1" && v != Group+"/v1beta1" {
		d.fail(have["apiVersion"], "apiVersion must be %s/v1 or %s/v1beta1, is %q", Group, Group, v)
	}
	d.metadata(have["metadata"], r)
	d.spec(have["spec"], have["kind"], r)
	return r
}

func (d *decoder) metadata(n *yaml.Node, r *Resource) {
	known := *n
	known.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !slices.Contains(ignored, n.Content[i].Value) {
			known.Content = append(known.Content, n.Content[i], n.Content[i+1])
		}
	}
	d.value(&known, reflect.ValueOf(&r.Metadata).Elem(), "metadata")
	for what, name := range map[string]string{"name": r.Metadata.Name, "namespace": r.Metadata.Namespace} {
		if !isName(name) {
			d.fail(n, "metadata.%s must be lower-case letters, digits, hyphens and dots, is %q", what, name)
		}
	}
	// Only what is acted upon is kept: the others change without a meaning.
	value, given := r.Metadata.Annotations[dryRun]
	r.Metadata.Annotations = nil
	if !given {
		return
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		d.fail(n, "annotation %s must be \"true\" or \"false\", is %q", dryRun, value)
	}
	if on {
		r.Metadata.Annotations = map[string]string{dryRun: "true"}
	}
}

// isName checks a DNS subdomain, the form of Kubernetes' names.
func isName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		bad := strings.ContainsFunc(part, func(c rune) bool { return c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') })
		if bad || part == "" || part[0] == '-' || part[len(part)-1] == '-' {
			return false
		}
	}
	return true
}

func (d *decoder) spec(n, kind *yaml.Node, r *Resource) {
	switch r.Kind {
	case "":
	case KindAuthorizationPolicy:
		r.Authorization = &AuthorizationPolicy{}
		d.value(n, reflect.ValueOf(r.Authorization).Elem(), "spec")
		if r.Authorization.Action == "" {
			r.Authorization.Action = ActionAllow
		}
		d.checkAuthorization(n, r)
	case KindRequestAuthentication:
		r.Authentication = &RequestAuthentication{}
		d.value(n, reflect.ValueOf(r.Authentication).Elem(), "spec")
		if r.DryRun() {
			d.fail(n, "annotation %s is for AuthorizationPolicy only", dryRun)
		}
		d.checkAuthentication(n, r)
	default:
		reason := fmt.Sprintf("kind %s of %s is not available in this version (available: %s, %s)", r.Kind, Group, KindAuthorizationPolicy, KindRequestAuthentication)
		if near := expr.Nearest(r.Kind, []string{KindAuthorizationPolicy, KindRequestAuthentication}); near != "" {
			reason += "; did you mean " + near + "?"
		}
		d.fail(kind, "%s", reason)
	}
}

// checkTargets checks what both kinds have in common.
func (d *decoder) checkTargets(n *yaml.Node, r *Resource) {
	for key, value := range r.selector() {
		if key == "" || strings.Contains(key, "*") || strings.Contains(value, "*") {
			d.fail(n, "spec.selector.matchLabels: %q: %q has no wildcards in Istio; give the whole label", key, value)
		}
	}
	targets := r.targets()
	if len(targets) > 0 && r.selector() != nil {
		d.fail(n, "spec has both a selector and targetRefs; keep one")
	}
	for _, t := range targets {
		switch {
		case t.Kind != "Service" || t.Group != "" && t.Group != "core":
			d.fail(n, "spec.targetRefs: kind %q of group %q is not available in this version; use Service of group \"\", or a selector", t.Kind, t.Group)
		case t.Name == "":
			d.fail(n, "spec.targetRefs: field name is required")
		case t.Namespace != "" && t.Namespace != r.Metadata.Namespace:
			d.fail(n, "spec.targetRefs: a policy can target its own namespace only: namespace must be %s, is %s", r.Metadata.Namespace, t.Namespace)
		}
	}
}

func (d *decoder) checkAuthorization(n *yaml.Node, r *Resource) {
	d.checkTargets(n, r)
	p := r.Authorization
	switch p.Action {
	case ActionAllow:
	case ActionDeny, ActionAudit:
		if len(p.Rules) == 0 {
			d.fail(n, "spec: action %s without rules never does anything; give it rules, or [{}] for every request", p.Action)
		}
	case actionCustom:
		name := ""
		if p.Provider != nil {
			name = p.Provider.Name
		}
		d.failAt(&p.Action, "action CUSTOM: provider %q is unknown; this version calls no external authorizers, use ALLOW or DENY", name)
	default:
		d.failAt(&p.Action, "spec.action must be ALLOW, DENY or AUDIT, is %q", p.Action)
	}
	if p.Provider != nil && p.Action != actionCustom {
		d.failAt(&p.Provider, "spec.provider is for action CUSTOM only")
	}
	if r.DryRun() && p.Action == ActionAudit {
		d.fail(n, "annotation %s has no meaning with action AUDIT, which never refuses; remove it", dryRun)
	}
	for i := range p.Rules {
		d.checkRule(&p.Rules[i])
	}
}

func (d *decoder) checkRule(r *Rule) {
	for i := range r.From {
		s := r.From[i].Source
		if s == nil || reflect.ValueOf(*s).IsZero() {
			d.failAt(&r.From[i], "from: source is empty; leave from out to match every caller")
			continue
		}
		if len(s.ServiceAccounts)+len(s.NotServiceAccounts) > 0 && len(s.Principals)+len(s.NotPrincipals)+len(s.Namespaces)+len(s.NotNamespaces) > 0 {
			d.failAt(s, "source: serviceAccounts can't be combined with principals or namespaces; use one of them")
		}
		for _, f := range s.fields() {
			d.checkField(f)
		}
	}
	for i := range r.To {
		o := r.To[i].Operation
		if o == nil || reflect.ValueOf(*o).IsZero() {
			d.failAt(&r.To[i], "to: operation is empty; leave to out to match every request")
			continue
		}
		for _, f := range o.fields() {
			d.checkField(f)
		}
	}
	for i := range r.When {
		c := &r.When[i]
		f, err := c.field()
		if err != nil {
			at := any(&c.Key)
			if d.nodes[at] == nil {
				at = c
			}
			d.failAt(at, "%v", err)
			continue
		}
		if len(c.Values)+len(c.NotValues) == 0 {
			d.failAt(c, "when: %s has neither values nor notValues", c.Key)
		}
		d.checkField(f)
	}
}

// checkField compiles every value as the sidecar will.
func (d *decoder) checkField(f field) {
	for _, values := range [][]string{f.values, f.not} {
		for i := range values {
			one := f
			one.values, one.not = values[i:i+1], nil
			if _, err := one.compile("", ""); err != nil {
				d.failAt(&values[i], "%s: %v", f.name, err)
			}
		}
	}
}
