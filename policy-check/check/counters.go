package check

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"

	"github.com/telemesh/telemesh/policy-check/lease"
)

// decision is what a rule did, as telemetry's policy counters name it.
type decision int

const (
	decisionAllow decision = iota
	decisionDeny
	decisionThrottle
	decisionShadowAllow
	decisionShadowDeny
	decisionShadowThrottle
	decisionError // an expression could not be evaluated
	decisionCount
)

func (d decision) String() string {
	return [...]string{
		vocab.DecisionAllow, vocab.DecisionDeny, vocab.DecisionThrottle,
		vocab.DecisionShadowAllow, vocab.DecisionShadowDeny, vocab.DecisionShadowThrottle, vocab.DecisionError,
	}[d]
}

// origins in the order of counts' columns.
func origins() [3]lease.Origin {
	return [...]lease.Origin{lease.OriginLocal, lease.OriginLease, lease.OriginFallback}
}

type countKey struct{ policy, rule string }

// counts are one rule's decisions. They outlive the rule: counters never fall.
type counts [decisionCount][3]atomic.Uint64

func (c *counts) add(d decision, o lease.Origin) {
	column := 0
	switch o {
	case lease.OriginLease:
		column = 1
	case lease.OriginFallback:
		column = 2
	}
	c[d][column].Add(1)
}

func (c *Checker) countsOf(policy, rule string) *counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := countKey{policy, rule}
	if c.counts[k] == nil {
		c.counts[k] = &counts{}
	}
	return c.counts[k]
}

// Counter is how often a rule decided something, since the checker began. Its
// fields are those of telemetryv1.PolicyCounter.
type Counter struct {
	Policy, Rule, Decision, Origin string
	Count                          uint64
}

// Counters returns every counter above zero, ordered by policy and rule. Rules
// of policies that are gone stay: the memory is bounded by the names that
// policies ever had.
func (c *Checker) Counters() []Counter {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Counter
	for k, n := range c.counts {
		for d := range decisionCount {
			for column, origin := range origins() {
				if v := n[d][column].Load(); v > 0 {
					out = append(out, Counter{Policy: k.policy, Rule: k.rule, Decision: d.String(), Origin: string(origin), Count: v})
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Counter) int {
		return cmp.Or(cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Rule, b.Rule))
	})
	return out
}

// errorLog says at most once a minute that a rule's expressions fail, and how
// often they did: a caller chooses when that happens.
type errorLog struct {
	mu      sync.Mutex // guards the fields below
	next    time.Time
	pending uint64
}

func (l *errorLog) report(log *slog.Logger, now time.Time, rule string, err error) {
	l.mu.Lock()
	l.pending++
	n := l.pending
	due := !now.Before(l.next)
	if due {
		l.next, l.pending = now.Add(time.Minute), 0
	}
	l.mu.Unlock()
	if due {
		log.Warn("policy expression could not be evaluated", "rule", rule, "times", n, "error", err)
	}
}
