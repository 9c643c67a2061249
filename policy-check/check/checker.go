// Package check decides one request against the traffic policies of a workload:
// the sidecar's half of policy-check. Deny rules come first, then Allow rules,
// then every limit that matches. It knows nothing of HTTP libraries and asks the
// hub for nothing but credits (package lease).
package check

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/telemesh/telemesh/internal/vocab"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/expr"
	"github.com/telemesh/telemesh/policy-check/lease"
)

// Side is the direction of a request as the workload sees it.
type Side int

// The two sides.
const (
	Inbound Side = iota
	Outbound
	sideCount
)

// Header is a response header, its name in lower case.
type Header struct{ Name, Value string }

// Decision is what to do with a request. The request goes on unless Verdict is
// vocab.VerdictDenied or vocab.VerdictThrottled.
type Decision struct {
	Verdict string
	// Policy ("namespace/name") and Rule made the verdict; empty when it is ok.
	Policy, Rule string
	// Status, Body and ContentType answer a refused request.
	Status            int
	Body, ContentType string
	// Detail is the response code detail for records.
	Detail string
	// Headers go on the response, of admitted requests too. The slice is the
	// caller's.
	Headers []Header
}

// Refused tells whether the request must not go on.
func (d *Decision) Refused() bool { return d.Status != 0 }

// Leases is where limits are spent; lease.Client implements it. All methods are
// called concurrently.
type Leases interface {
	// Configure replaces the limits.
	Configure(buckets []policy.Bucket)
	// Take takes one credit, waiting no longer than the limit's holdTimeout.
	Take(ctx context.Context, limit, key string) lease.Taken
	// Return gives back what Take took.
	Return(limit, key string, t lease.Taken)
}

// Options are what code passes. Namespace and Service name the workload's
// service; the others have defaults.
type Options struct {
	Namespace, Service string
	// Leases defaults to a client without a hub: limits then follow their
	// failure policies.
	Leases Leases
	Clock  func() time.Time
	Logger *slog.Logger
	// Rand draws from [0, 1) for enforcePercent.
	Rand func() float64
}

// Checker decides requests. It is safe for concurrent use.
type Checker struct {
	opts    Options
	log     *slog.Logger
	current atomic.Pointer[[sideCount]*rules] // a nil side has no rules

	mu     sync.Mutex // guards the field below
	counts map[countKey]*counts
}

// New makes a checker without policies: everything is admitted.
func New(o Options) *Checker {
	if o.Leases == nil {
		o.Leases = lease.NewClient(lease.ClientOptions{})
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	c := &Checker{opts: o, log: o.Logger, counts: make(map[countKey]*counts)}
	c.current.Store(&[sideCount]*rules{})
	return c
}

// Apply compiles the policies that target this workload and puts them in force
// at once. After an error the old ones stay.
func (c *Checker) Apply(ps []*policy.TrafficPolicy) error {
	mine := make([]*policy.TrafficPolicy, 0, len(ps))
	for _, p := range ps {
		if p.Spec.Mode != policy.ModeDisabled && p.Applies(c.opts.Namespace, c.opts.Service) {
			mine = append(mine, p)
		}
	}
	// The order of evaluation must not depend on how policies arrived.
	slices.SortStableFunc(mine, func(a, b *policy.TrafficPolicy) int { return strings.Compare(a.ID(), b.ID()) })
	compiler, err := expr.NewCompiler()
	if err != nil {
		return err
	}
	var next [sideCount]*rules
	var buckets []policy.Bucket
	for _, p := range mine {
		side := Inbound
		if p.Spec.Side == policy.SideOutbound {
			side = Outbound
		}
		if next[side] == nil {
			next[side] = &rules{}
		}
		if err := c.compile(compiler, p, next[side]); err != nil {
			return fmt.Errorf("compile policy %s: %w", p.ID(), err)
		}
		buckets = append(buckets, p.AllBuckets()...)
	}
	for _, r := range next {
		if r != nil {
			r.orderLimits()
			slices.Sort(r.reads)
			r.reads = slices.Compact(r.reads)
		}
	}
	// Buckets first: a rule in force must find its bucket.
	c.opts.Leases.Configure(buckets)
	c.current.Store(&next)
	return nil
}

// Waits reports whether Check may wait: whether there is a limit.
func (c *Checker) Waits() bool {
	for _, r := range c.current.Load() {
		if r != nil && len(r.limits) > 0 {
			return true
		}
	}
	return false
}

// Rules reports whether there is anything to check on a side; without, Check
// admits.
func (c *Checker) Rules(side Side) bool { return c.current.Load()[side] != nil }

// Reads names what the access rules of a side ask of a request, sorted, as
// expr.BoolProgram.Reads does. settled tells that requests that agree in these
// get the same access decision until policies change: that it is not drawn for a
// share of the requests. The slice is the checker's.
func (c *Checker) Reads(side Side) (names []string, settled bool) {
	r := c.current.Load()[side]
	if r == nil {
		return nil, true
	}
	return r.reads, !r.draws
}

// Check decides one request. It waits at most for credits, as each limit's
// holdTimeout allows. a is not kept.
func (c *Checker) Check(ctx context.Context, side Side, a *Attributes) Decision {
	r := c.current.Load()[side]
	if r == nil {
		return Decision{Verdict: vocab.VerdictOK}
	}
	e := evaluation{checker: c, source: source{a}, out: Decision{Verdict: vocab.VerdictOK}}
	if r.draws {
		e.draw = 100 * c.opts.Rand()
	}
	if e.access(r) {
		e.limits(ctx, r.limits)
	}
	return e.out
}
