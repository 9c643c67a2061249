package authz

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	policy "github.com/telemesh/telemesh/policy-check"
)

// Mode is policy.ModeShadow for a policy in dry run, else policy.ModeEnforce.
func (r *Resource) Mode() string {
	if r.DryRun() {
		return policy.ModeShadow
	}
	return policy.ModeEnforce
}

// Targets say in words whom the resource is for.
func (r *Resource) Targets() []string {
	var out []string
	for _, t := range r.targets() {
		out = append(out, "Service "+r.Metadata.Namespace+"/"+t.Name)
	}
	if out != nil {
		return out
	}
	where := "Namespace " + r.Metadata.Namespace
	if r.Metadata.Namespace == defaultRootNamespace {
		where = "every namespace"
	}
	labels := r.selector()
	for i, key := range slices.Sorted(maps.Keys(labels)) {
		where += []string{", labels ", " and "}[min(i, 1)] + key + "=" + labels[key]
	}
	return []string{where}
}

// Summary is a rule by its name in verdicts, and what it does in words.
type Summary struct{ Name, Does string }

// Summaries are all rules in order, and the refusal of what none of them allows.
func (r *Resource) Summaries() []Summary {
	out := []Summary{}
	if r.Authentication != nil {
		for i := range r.Authentication.JWTRules {
			out = append(out, Summary{ruleName(i), "refuse invalid tokens of " + r.Authentication.JWTRules[i].Issuer})
		}
		return out
	}
	p := r.Authorization
	for i := range p.Rules {
		out = append(out, Summary{ruleName(i), strings.ToLower(p.Action) + " " + p.Rules[i].words()})
	}
	if p.Action == ActionAllow {
		out = append(out, Summary{policy.ImplicitDeny, "deny what no ALLOW policy of the workload allows"})
	}
	return out
}

func (r *Rule) words() string {
	var from, to, when []string
	for _, f := range r.From {
		if f.Source != nil {
			from = append(from, fieldWords(f.Source.fields()))
		}
	}
	for _, t := range r.To {
		if t.Operation != nil {
			to = append(to, fieldWords(t.Operation.fields()))
		}
	}
	for i := range r.When {
		f, err := r.When[i].field()
		if err != nil {
			continue // Parse has refused it
		}
		when = append(when, fieldWords([]field{f}))
	}
	var parts []string
	for _, list := range []struct {
		word  string
		items []string
		by    string
	}{{"from", from, " or "}, {"to", to, " or "}, {"when", when, " and "}} {
		if len(list.items) > 0 {
			parts = append(parts, list.word+" "+strings.Join(list.items, list.by))
		}
	}
	if len(parts) == 0 {
		return "every request"
	}
	return strings.Join(parts, " ")
}

func fieldWords(fs []field) string {
	var parts []string
	for _, f := range fs {
		if len(f.values) > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", f.name, strings.Join(f.values, "|")))
		}
		if len(f.not) > 0 {
			parts = append(parts, fmt.Sprintf("%s not %s", f.name, strings.Join(f.not, "|")))
		}
	}
	return strings.Join(parts, ", ")
}
