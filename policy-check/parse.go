package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/telemesh/telemesh/policy-check/expr"
)

const (
	maxFileBytes = 1 << 20
	maxBodyBytes = 16 << 10

	defaultHoldTimeout = 20 * time.Millisecond
	defaultMaxKeys     = 100_000

	// burstTime is the default burst as a share of the rate. It is small
	// because a burst adds to every window, at each quiet moment again.
	burstTime = 50 * time.Millisecond
)

// securityGroup is of Istio's access policies, which package authz reads from the
// same files.
const securityGroup = "security.istio.io"

// Parse reads every policy of a YAML file with one or more documents, but for
// those of Istio's access policies. It is strict: what it does not know it names. It returns the policies without a
// problem and all problems of the others, in the order of the file; a caller
// that wants all or nothing looks at the problems first.
func Parse(file string, data []byte) ([]*TrafficPolicy, []*ParseError) {
	if len(data) > maxFileBytes {
		return nil, []*ParseError{{File: file, Line: 1, Column: 1, Reason: fmt.Sprintf("file of %d bytes is larger than %d", len(data), maxFileBytes)}}
	}
	compiler, err := expr.NewCompiler()
	if err != nil {
		return nil, []*ParseError{{File: file, Line: 1, Column: 1, Reason: err.Error()}}
	}
	r := &reader{file: file, source: strings.Split(string(data), "\n"), compiler: compiler}
	var out []*TrafficPolicy
	seen := make(map[string]int) // by ID, the line
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.failSyntax(err)
			break
		}
		if doc.Kind != yaml.DocumentNode || emptyDocument(doc.Content[0]) || IsForeign(doc.Content[0], securityGroup) {
			continue
		}
		before := len(r.problems)
		p := r.policy(doc.Content[0])
		if first, twice := seen[p.ID()]; twice && len(r.problems) == before {
			r.fail(doc.Content[0], "policy %s is already defined at line %d", p.ID(), first)
		}
		if len(r.problems) == before {
			seen[p.ID()] = p.Line
			out = append(out, p)
		}
	}
	return out, r.problems
}

func emptyDocument(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null" && n.Value == ""
}

// failSyntax reports what is not YAML. The library gives a line at best.
func (r *reader) failSyntax(err error) {
	reason := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if rest, ok := strings.CutPrefix(reason, "line "); ok {
		number, message, found := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil && found {
			line, reason = n, message
		}
	}
	r.failAt(line, 1, "not valid YAML: "+reason)
}

func (r *reader) policy(n *yaml.Node) *TrafficPolicy {
	p := &TrafficPolicy{Line: n.Line}
	r.object(n, "document", []field{
		{name: "apiVersion", required: true, read: func(n *yaml.Node) {
			r.word(n, "apiVersion", &p.APIVersion, []string{APIVersion}, nil)
		}},
		{name: "kind", required: true, read: func(n *yaml.Node) { r.word(n, "kind", &p.Kind, []string{Kind}, nil) }},
		{name: "metadata", required: true, read: func(n *yaml.Node) { r.metadata(n, &p.Metadata) }},
		{name: "spec", required: true, read: func(n *yaml.Node) { r.spec(n, p) }},
		{name: "status", unavailable: true},
	})
	return p
}

func (r *reader) metadata(n *yaml.Node, m *Metadata) {
	m.Namespace = "default"
	r.object(n, "metadata", []field{
		{name: "name", required: true, read: func(n *yaml.Node) { m.Name = r.name(n, "metadata.name") }},
		{name: "namespace", read: func(n *yaml.Node) { m.Namespace = r.name(n, "metadata.namespace") }},
	})
}

// name reads a DNS label, the form of Kubernetes' names. It keeps
// namespace/policy/rule unambiguous without quoting.
func (r *reader) name(n *yaml.Node, what string) string {
	v, ok := r.text(n, what)
	if ok && !isLabel(v) {
		r.fail(n, "%s must be at most 63 lower-case letters, digits and hyphens, is %q", what, v)
	}
	return v
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		return c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9')
	})
}

func (r *reader) spec(n *yaml.Node, p *TrafficPolicy) {
	s := &p.Spec
	s.Side, s.Mode, s.EnforcePercent = SideInbound, ModeEnforce, 100
	s.FailurePolicy = FailurePolicy{OnHubDown: HubDownLocalShare, HoldTimeout: Duration(defaultHoldTimeout)}
	r.object(n, "spec", []field{
		{name: "targetRefs", required: true, read: func(n *yaml.Node) {
			r.list(n, "spec.targetRefs", func(n *yaml.Node) { s.TargetRefs = append(s.TargetRefs, r.targetRef(n)) })
		}},
		{name: "side", read: func(n *yaml.Node) { r.word(n, "side", &s.Side, []string{SideInbound, SideOutbound}, nil) }},
		{name: "mode", read: func(n *yaml.Node) {
			r.word(n, "mode", &s.Mode, []string{ModeEnforce, ModeShadow, ModeDisabled}, nil)
		}},
		{name: "enforcePercent", read: func(n *yaml.Node) { s.EnforcePercent = int(r.integer(n, "enforcePercent", 0, 100)) }},
		{name: "failurePolicy", read: func(n *yaml.Node) { r.failurePolicy(n, &s.FailurePolicy) }},
		{name: "rules", required: true, read: func(n *yaml.Node) {
			names := make(map[string]bool)
			r.list(n, "spec.rules", func(n *yaml.Node) { s.Rules = append(s.Rules, r.rule(n, names)) })
		}},
	})
	for i, t := range s.TargetRefs {
		if t.Kind == TargetNamespace && p.Metadata.Namespace != "" && t.Name != p.Metadata.Namespace {
			r.fail(targetNode(n, i), "a policy can target its own namespace only: name must be %s, is %s", p.Metadata.Namespace, t.Name)
		}
	}
}

// targetNode finds the i-th target of a spec again: its namespace can be
// compared only once metadata is read, wherever it stands in the document.
func targetNode(spec *yaml.Node, i int) *yaml.Node {
	for k := 0; k+1 < len(spec.Content); k += 2 {
		if spec.Content[k].Value == "targetRefs" && i < len(spec.Content[k+1].Content) {
			return spec.Content[k+1].Content[i]
		}
	}
	return spec
}

func (r *reader) targetRef(n *yaml.Node) TargetRef {
	var t TargetRef
	r.object(n, "targetRef", []field{
		{name: "kind", required: true, read: func(n *yaml.Node) {
			r.word(n, "targetRef.kind", &t.Kind, []string{TargetService, TargetNamespace}, []string{"HTTPRoute", "Gateway"})
		}},
		{name: "name", required: true, read: func(n *yaml.Node) { t.Name = r.name(n, "targetRef.name") }},
		{name: "group", read: func(n *yaml.Node) {
			if v, ok := r.text(n, "targetRef.group"); ok && v != "" {
				r.fail(n, `targetRef.group must be "", is %q`, v)
			}
		}},
	})
	return t
}

func (r *reader) failurePolicy(n *yaml.Node, f *FailurePolicy) {
	r.object(n, "failurePolicy", []field{
		{name: "onHubDown", read: func(n *yaml.Node) {
			r.word(n, "failurePolicy.onHubDown", &f.OnHubDown, []string{HubDownLocalShare, HubDownAllow, HubDownDeny}, nil)
		}},
		{name: "holdTimeout", read: func(n *yaml.Node) {
			f.HoldTimeout = r.duration(n, "failurePolicy.holdTimeout", time.Millisecond, time.Second)
		}},
	})
}

func (r *reader) rule(n *yaml.Node, names map[string]bool) Rule {
	var rule Rule
	var response *yaml.Node
	r.object(n, "rule", []field{
		{name: "name", required: true, read: func(n *yaml.Node) {
			rule.Name = r.name(n, "rule.name")
			if names[rule.Name] {
				r.fail(n, "rule %s is already defined", rule.Name)
			}
			if rule.Name == ImplicitDeny {
				r.fail(n, "rule name %s is reserved", ImplicitDeny)
			}
			names[rule.Name] = true
		}},
		{name: "match", read: func(n *yaml.Node) { rule.Match = r.condition(n, "match") }},
		{name: "access", read: func(n *yaml.Node) { rule.Access = r.access(n) }},
		{name: "limit", read: func(n *yaml.Node) { rule.Limit = r.limit(n) }},
		{name: "response", read: func(n *yaml.Node) { response = n }},
	})
	if n.Kind == yaml.MappingNode && (rule.Access == nil) == (rule.Limit == nil) && !has(n, "access", "limit") {
		r.fail(n, "rule %s must have either access or limit", rule.Name)
	}
	rule.Response = r.response(response, &rule)
	return rule
}

// has tells whether exactly one of the keys is present: a refused value is a
// problem of its own and no reason to say that it is missing.
func has(n *yaml.Node, keys ...string) bool {
	count := 0
	for i := 0; i+1 < len(n.Content); i += 2 {
		if slices.Contains(keys, n.Content[i].Value) {
			count++
		}
	}
	return count == 1
}

func (r *reader) access(n *yaml.Node) *Access {
	a := &Access{}
	r.object(n, "access", []field{
		{name: "action", required: true, read: func(n *yaml.Node) {
			r.word(n, "access.action", &a.Action, []string{ActionAllow, ActionDeny}, []string{"Ask"})
		}},
		{name: "provider", unavailable: true},
		{name: "cache", unavailable: true},
	})
	return a
}

func (r *reader) limit(n *yaml.Node) *Limit {
	l := &Limit{Algorithm: AlgorithmGCRA, Scope: ScopeMesh, MaxKeys: defaultMaxKeys, Overflow: OverflowSharedBucket}
	r.object(n, "limit", []field{
		{name: "key", read: func(n *yaml.Node) {
			r.list(n, "limit.key", func(n *yaml.Node) { l.Key = append(l.Key, r.key(n, "limit.key")) })
		}},
		{name: "algorithm", read: func(n *yaml.Node) {
			r.word(n, "algorithm", &l.Algorithm, []string{AlgorithmGCRA}, []string{"SlidingWindow", "FixedWindow", "Concurrency"})
		}},
		{name: "rates", required: true, read: func(n *yaml.Node) { l.Rates = r.rates(n) }},
		{name: "overrides", read: func(n *yaml.Node) {
			r.list(n, "limit.overrides", func(n *yaml.Node) { l.Overrides = append(l.Overrides, r.override(n)) })
		}},
		{name: "scope", read: func(n *yaml.Node) {
			r.word(n, "limit.scope", &l.Scope, []string{ScopeMesh, ScopePod}, []string{"Zone", "Node"})
		}},
		{name: "maxKeys", read: func(n *yaml.Node) { l.MaxKeys = int(r.integer(n, "limit.maxKeys", 1, 100_000_000)) }},
		{name: "overflow", read: func(n *yaml.Node) {
			r.word(n, "limit.overflow", &l.Overflow, []string{OverflowSharedBucket, OverflowAllow, OverflowDeny}, nil)
		}},
		{name: "calendar", unavailable: true},
		{name: "cost", unavailable: true},
		{name: "accuracy", unavailable: true},
		{name: "fairness", unavailable: true},
	})
	return l
}

func (r *reader) override(n *yaml.Node) Override {
	var o Override
	r.object(n, "override", []field{
		{name: "match", required: true, read: func(n *yaml.Node) { o.Match = r.condition(n, "override.match") }},
		{name: "rates", required: true, read: func(n *yaml.Node) { o.Rates = r.rates(n) }},
	})
	return o
}

func (r *reader) rates(n *yaml.Node) []Rate {
	var out []Rate
	r.list(n, "rates", func(n *yaml.Node) {
		var rate Rate
		before := len(r.problems)
		r.object(n, "rate", []field{
			{name: "limit", required: true, read: func(n *yaml.Node) { rate.Limit = r.integer(n, "rate.limit", 1, math.MaxInt64) }},
			{name: "window", required: true, read: func(n *yaml.Node) {
				rate.Window = r.duration(n, "rate.window", 100*time.Millisecond, 24*time.Hour)
			}},
			{name: "burst", read: func(n *yaml.Node) { rate.Burst = r.integer(n, "rate.burst", 1, 1_000_000_000) }},
		})
		if len(r.problems) == before {
			perSecond := float64(rate.Limit) / time.Duration(rate.Window).Seconds()
			if perSecond > 1e7 {
				r.fail(n, "rate of %.0f requests per second is above 10000000", perSecond)
			}
			if rate.Burst == 0 {
				rate.Burst = max(1, int64(perSecond*burstTime.Seconds()))
			}
		}
		out = append(out, rate)
	})
	return out
}

func (r *reader) response(n *yaml.Node, rule *Rule) Response {
	var out Response
	fields := []field{
		{name: "status", read: func(n *yaml.Node) { out.Status = int(r.integer(n, "response.status", 400, 599)) }},
		{name: "body", read: func(n *yaml.Node) {
			body, _ := r.text(n, "response.body")
			if len(body) > maxBodyBytes {
				r.fail(n, "response.body of %d bytes is longer than %d", len(body), maxBodyBytes)
			}
			out.Body = body
		}},
	}
	switch {
	case rule.Limit != nil:
		out.Status, out.Headers = 429, HeadersIETF
		fields = append(fields, field{name: "headers", read: func(n *yaml.Node) {
			r.word(n, "response.headers", &out.Headers, []string{HeadersIETF, HeadersLegacy, HeadersBoth, HeadersNone}, nil)
		}})
	case rule.Access != nil && rule.Access.Action == ActionDeny:
		out.Status = 403
	case rule.Access != nil && rule.Access.Action == ActionAllow:
		if n != nil && !(n.Kind == yaml.MappingNode && len(n.Content) == 0) {
			r.fail(n, "an Allow rule has no response")
		}
		return out
	default: // refused already
		return out
	}
	if n != nil {
		r.object(n, "response", fields)
	}
	return out
}
