package authz

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/authz/jwt"
)

// Rules are compiled policies, ready to be put in force. Immutable.
type Rules struct {
	http, tcp      stages
	authentication *authentication // nil without
	sources        []*jwt.Source
}

// stages are the rules of a workload in the order in which they are asked.
type stages struct {
	deny, allow, audit      []*rule
	shadowDeny, shadowAllow []*rule
	// implicit is set with an ALLOW policy, even one without rules: the refusal
	// of what no ALLOW rule matches.
	implicit, shadowImplicit *rule
}

// rule is one compiled rule.
type rule struct {
	policy, name string
	detail       string // of records
	counts       *counts
	from, to     [][]condition // one must hold; none is as one that does
	when         []condition
}

func ruleName(i int) string { return strconv.Itoa(i) }

// Compile prepares the resources that are for the workload. Nothing changes
// before Use.
func (e *Enforcer) Compile(rs []*Resource) (*Rules, error) {
	mine := make([]*Resource, 0, len(rs))
	for _, r := range rs {
		if r.Applies(e.o.Workload) {
			mine = append(mine, r)
		}
	}
	// What is blamed must not depend on how policies arrived.
	slices.SortStableFunc(mine, func(a, b *Resource) int { return strings.Compare(a.ID(), b.ID()) })
	out := &Rules{}
	for _, r := range mine {
		var err error
		if r.Authorization != nil {
			err = e.compilePolicy(r, out)
		} else {
			err = e.compileAuthentication(r, out)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (e *Enforcer) compileAuthentication(r *Resource, into *Rules) error {
	for i := range r.Authentication.JWTRules {
		one, source, err := e.compileJWT(r, i)
		if err != nil {
			return err
		}
		if into.authentication == nil {
			into.authentication = &authentication{}
		}
		into.authentication.add(one)
		into.sources = append(into.sources, source)
	}
	return nil
}

func (e *Enforcer) compilePolicy(r *Resource, into *Rules) error {
	for _, s := range []*stages{&into.http, &into.tcp} {
		s.open(e, r)
	}
	for i := range r.Authorization.Rules {
		one, err := e.compileRule(r, i)
		if err != nil {
			return fmt.Errorf("%s: rule %d: %w", r.ID(), i, err)
		}
		into.http.add(r, one)
		if opaque := one.overTCP(r.Authorization.Action); opaque != nil {
			into.tcp.add(r, opaque)
		}
	}
	return nil
}

// open notes that there is an ALLOW policy.
func (s *stages) open(e *Enforcer, r *Resource) {
	if r.Authorization.Action != ActionAllow {
		return
	}
	at := &s.implicit
	if r.DryRun() {
		at = &s.shadowImplicit
	}
	if *at == nil {
		*at = &rule{
			policy: r.ID(), name: policy.ImplicitDeny, detail: "rbac_access_denied_matched_policy[none]", counts: e.countsOf(r.ID(), policy.ImplicitDeny),
		}
	}
}

func (s *stages) add(r *Resource, one *rule) {
	list := map[string]*[]*rule{ActionAllow: &s.allow, ActionDeny: &s.deny, ActionAudit: &s.audit}[r.Authorization.Action]
	if r.DryRun() {
		list = map[string]*[]*rule{ActionAllow: &s.shadowAllow, ActionDeny: &s.shadowDeny}[r.Authorization.Action]
	}
	*list = append(*list, one)
}

func (s *stages) empty() bool {
	return len(s.deny)+len(s.audit)+len(s.shadowDeny) == 0 && s.implicit == nil && s.shadowImplicit == nil
}

func (e *Enforcer) compileRule(r *Resource, i int) (*rule, error) {
	spec := &r.Authorization.Rules[i]
	name := ruleName(i)
	out := &rule{
		policy: r.ID(), name: name, counts: e.countsOf(r.ID(), name),
		// Istio's name of a rule in Envoy's configuration.
		detail: fmt.Sprintf("rbac_access_denied_matched_policy[ns[%s]-policy[%s]-rule[%d]]", r.Metadata.Namespace, r.Metadata.Name, i),
	}
	for _, from := range spec.From {
		all, err := e.compileFields(from.Source.fields(), r)
		if err != nil {
			return nil, err
		}
		out.from = append(out.from, all)
	}
	for _, to := range spec.To {
		all, err := e.compileFields(to.Operation.fields(), r)
		if err != nil {
			return nil, err
		}
		out.to = append(out.to, all)
	}
	var when []field
	for j := range spec.When {
		f, err := spec.When[j].field()
		if err != nil {
			return nil, err
		}
		when = append(when, f)
	}
	var err error
	out.when, err = e.compileFields(when, r)
	return out, err
}

func (e *Enforcer) compileFields(fs []field, r *Resource) ([]condition, error) {
	out := make([]condition, 0, len(fs))
	for i := range fs {
		c, err := fs[i].compile(r.Metadata.Namespace, e.o.TrustDomain)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fs[i].name, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// overTCP is the rule for opaque connections: one that asks for HTTP allows none
// of them, and refuses or audits as if it did not ask. Nil if it never matches.
func (r *rule) overTCP(action string) *rule {
	out := *r
	asks := false
	plain := func(all []condition) []condition {
		kept := slices.DeleteFunc(slices.Clone(all), func(c condition) bool { return c.attribute.httpOnly() })
		asks = asks || len(kept) < len(all)
		return kept
	}
	out.from, out.to = slices.Clone(r.from), slices.Clone(r.to)
	for _, lists := range [][][]condition{out.from, out.to} {
		for i := range lists {
			lists[i] = plain(lists[i])
		}
	}
	if out.when = plain(r.when); asks && action == ActionAllow {
		return nil
	}
	return &out
}

// matches tells whether the rule is about the request.
func (r *rule) matches(v *view) bool { return anyOf(r.from, v) && anyOf(r.to, v) && all(r.when, v) }

func anyOf(lists [][]condition, v *view) bool {
	for i := range lists {
		if all(lists[i], v) {
			return true
		}
	}
	return len(lists) == 0
}

func all(conditions []condition, v *view) bool {
	for i := range conditions {
		if !conditions[i].holds(v) {
			return false
		}
	}
	return true
}

func first(rules []*rule, v *view) *rule {
	for _, r := range rules {
		if r.matches(v) {
			return r
		}
	}
	return nil
}
