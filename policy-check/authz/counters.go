package authz

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/telemesh/telemesh/internal/vocab"
)

// outcome is what a rule did.
type outcome int

const (
	allowed outcome = iota
	denied
	audited
	shadowAllowed
	shadowDenied
	outcomeCount
)

func (o outcome) String() string {
	return [...]string{vocab.DecisionAllow, vocab.DecisionDeny, vocab.DecisionAudit, vocab.DecisionShadowAllow, vocab.DecisionShadowDeny}[o]
}

// counts are one rule's outcomes. They outlive the rule: counters never fall.
type counts [outcomeCount]atomic.Uint64

func (c *counts) add(o outcome) { c[o].Add(1) }

type countKey struct{ policy, rule string }

func (e *Enforcer) countsOf(policy, rule string) *counts {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := countKey{policy, rule}
	if e.counts[k] == nil {
		e.counts[k] = &counts{}
	}
	return e.counts[k]
}

// Counter is how often a rule decided something, since the enforcer began.
type Counter struct {
	Policy, Rule, Decision string
	Count                  uint64
}

// Counters returns every counter above zero, ordered by policy and rule.
func (e *Enforcer) Counters() []Counter {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Counter
	for k, c := range e.counts {
		for o := range outcomeCount {
			if n := c[o].Load(); n > 0 {
				out = append(out, Counter{Policy: k.policy, Rule: k.rule, Decision: o.String(), Count: n})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Counter) int {
		return cmp.Or(cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Rule, b.Rule))
	})
	return out
}
