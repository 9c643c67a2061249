package main

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"syscall"
	"time"

	policyv1 "github.com/telemesh/telemesh/api/policy/v1"
	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/policy-check/check"
	"github.com/telemesh/telemesh/policy-check/lease"
)

// user is the key of the requests that are decided.
const user = "ann"

// decisions measures what a request costs in the sidecar: one credit of a full
// pocket, and the whole decision about a request with two terms and a key.
func decisions(ctx context.Context, o options, r *report) error {
	const rate = "{limit: 10000000, window: 1s}"
	keyless, err := limitPolicy(rate, "", "")
	if err != nil {
		return err
	}
	client, err := filled(keyless, "")
	if err != nil {
		return err
	}
	limit := client.Limit(limitName)
	took := r.perOperation("take_ns", o.rounds, func() { limit.Take(ctx, "") })
	fmt.Printf("%-34s %v\n", "take_allocs", took)
	r.Values["take_allocs"] = took
	const rule = `    match: request.method == "GET" && request.path.startsWith("/api/")
`
	for _, c := range []struct{ key, headers string }{{"decision", "None"}, {"decision_with_headers", "IETF"}} {
		ps, err := limitPolicy(rate, `, key: ['request.headers["x-user"]']`, rule+"    response: {headers: "+c.headers+"}\n")
		if err != nil {
			return err
		}
		client, err := filled(ps, user)
		if err != nil {
			return err
		}
		checker := check.New(check.Options{Namespace: "shop", Service: "ratings", Leases: client})
		if err := checker.Apply(ps); err != nil {
			return err
		}
		a := &check.Attributes{Method: "GET", Path: "/api/items?id=1", Header: func(name string) string {
			if name == "x-user" {
				return user
			}
			return ""
		}}
		if d := checker.Check(ctx, check.Inbound, a); d.Refused() {
			return fmt.Errorf("refused by a full pocket: %+v", d)
		}
		allocs := r.perOperation(c.key+"_ns", o.rounds, func() { checker.Check(ctx, check.Inbound, a) })
		fmt.Printf("%-34s %v\n", c.key+"_allocs", allocs)
		r.Values[c.key+"_allocs"] = allocs
	}
	return nil
}

// filled is a client whose pocket for one key has more credits than are taken.
func filled(ps []*policy.TrafficPolicy, key string) (*lease.Client, error) {
	c := lease.NewClient(lease.ClientOptions{Sidecar: "a"})
	c.Configure(ps[0].AllBuckets())
	link := c.NewLink()
	link.Open()
	_, held := c.Ask(limitName, key)
	req := link.Next()
	if held == nil || req == nil {
		return nil, fmt.Errorf("an empty pocket wants no credits")
	}
	link.Answer(&policyv1.PullResponse{Sequence: req.GetSequence(), Grants: []*policyv1.Grant{
		{Limit: limitName, Key: key, Credits: math.MaxUint32, TtlNanos: int64(time.Hour)},
	}})
	if t, decided := held.Retry(); !decided || t.Origin != lease.OriginLease {
		return nil, fmt.Errorf("a full pocket gave %+v", t)
	}
	return c, nil
}

// perOperation notes the CPU time that one call of f takes, on one thread, and
// returns the allocations of a call.
func (r *report) perOperation(key string, rounds int, f func()) (allocs float64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const calls = 500_000
	var took []float64
	var before, after runtime.MemStats
	for i := range rounds + 1 {
		runtime.ReadMemStats(&before)
		from := threadCPU()
		for range calls {
			f()
		}
		d := threadCPU() - from
		runtime.ReadMemStats(&after)
		if i > 0 { // the first warms up
			took = append(took, float64(d)/calls)
			allocs = math.Round(10*float64(after.Mallocs-before.Mallocs)/calls) / 10
		}
	}
	r.Set(key, took...)
	return allocs
}

// threadCPU is the CPU time of this thread: what others do on the machine shows
// less in it than in the time that passes.
func threadCPU() time.Duration {
	const thread = 1
	var u syscall.Rusage
	_ = syscall.Getrusage(thread, &u) // cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
