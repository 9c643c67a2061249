package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/telemesh/telemesh/internal/figures"
)

// wanted is what is measured, in the order of the page.
var wanted = []figures.Figure{
	figures.AtMost("worst_second_over_pct", "worst aligned second above a limit of 10,000, shifting demand", "%", 5),
	figures.AtMost("unused_pct", "of what such a limit could have admitted, unused", "%", 2),
	figures.AtMost("unfair_pct", "distance from max-min shares while demand exceeds it", "%", 5),
	figures.AtMost("small_limit_unused_pct", "unused of a limit of 50 over 100 sidecars", "%", 10),
	figures.Free("pulls_per_second", "messages a second at the hub", ""),
	figures.Free("held_pct", "requests that wait for a message", "%"),
	figures.AtMost("take_ns", "take one credit", "ns", 20),
	figures.AtMost("take_allocs", "allocations", "", 0),
	figures.AtMost("decision_ns", "whole local decision: two terms, one key, no response headers", "ns", 250),
	figures.AtMost("decision_allocs", "allocations", "", 0),
	figures.Free("decision_with_headers_ns", "the same with the IETF's response headers", "ns"),
	figures.Free("decision_with_headers_allocs", "allocations", ""),
	figures.AtMost("hub_ms_per_1000_requests", "CPU of the hub for 1,000 requests at the sidecars, gRPC included", "ms", 5),
	figures.AtMost("rls_us_per_check", "CPU of the hub for one of Envoy's ShouldRateLimit, 10,000 keys, 64 callers", "µs", 30),
	figures.Free("ext_authz_us_per_check", "for one of Envoy's ext_authz Check, two rules", "µs"),
	figures.AtMost("bytes_per_key", "memory of the hub for a key", "B", 64),
}

// report is what was found.
type report struct {
	*figures.Report
	tables []table
}

func newReport() *report { return &report{Report: figures.New()} }

// setAll notes one figure of several runs.
func (r *report) setAll(key string, runs []outcome, of func(outcome) float64, which func([]float64) float64) {
	var all []float64
	for _, x := range runs {
		all = append(all, of(x))
	}
	r.Note(key, all, which)
}

func most(v []float64) float64 { return slices.Max(v) }

// write writes policy.json and policy.md.
func (r *report) write(dir string) error { return r.Write(dir, "policy", r.page()) }

func (r *report) page() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# What limits cost, and how well they are kept

Written by `+"`make bench-policy`"+`. Machine: %s, %s.

%s`, r.Machine, r.Time.Format(time.DateOnly), r.Table(wanted))
	fmt.Fprintf(&b, `
Percentages are the worst of all runs, the others the median of the rounds. CPU in
the sidecar is that of the thread, in the hub that of a whole mesh-hub which %d
sidecars ask over gRPC on loopback, each over its own connection, with the demand
below, whose total changes faster there; sidecars are not in it. The hub's memory is the heap
with %.0f keys of 15 bytes whose buckets are not full, after they came at %d a second,
so that those of the last seconds still have all that an active key has.

## The simulation

The code of policy-check, hub and sidecars, on a virtual clock: %d sidecars, %v there
and back, for %v. Requests arrive as Poisson processes; in all 0.6, 1.5, 0.95, 3 and
0.8 times the limit for 20, 40, 20, 20 and 20 s, Zipf %v over the sidecars, in an order
that changes when the hot set moves, with log-normal noise (σ %v) per sidecar and
%v. Every figure is the mean of its seeds, a worst the worst of them.

*Over* is what was admitted above the limit: the mean over aligned seconds, the worst
of them, and the worst of all windows of 1 s and of 100 ms. *Bound* is what the policy
promises for any second. *Unused* could have been admitted and was not. *Unfair* is
the distance from max-min shares in seconds with too much demand, 100 if nobody got
what was due. *Held* requests waited for a message. A check per request is the same
bucket at one place that answers at once: what the default burst of 50 ms alone makes
of it. Credits can do better than that for a small limit, because tokens that come back
while demand waits are kept for a horizon beyond the burst.
`, sidecars, r.Values["keys"], keysPerSecond, sidecars, rtt, simulated, zipf, noiseSigma, noiseEvery)
	for _, t := range r.tables {
		b.WriteString(t.markdown())
	}
	return b.String()
}

func (t *table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s\n\n| | over, mean %% | worst second %% | worst 1 s %% | bound %% | worst 100 ms %% | unused %% | unfair %% | messages/s | held %% |\n|%s\n", t.title, strings.Repeat("---|", 10))
	for _, r := range t.rows {
		mean := func(of func(outcome) float64) float64 {
			sum := 0.0
			for _, x := range r.all {
				sum += of(x)
			}
			return sum / float64(len(r.all))
		}
		worst := func(of func(outcome) float64) float64 {
			v := 0.0
			for _, x := range r.all {
				v = math.Max(v, of(x))
			}
			return v
		}
		bound := "–"
		if v := r.all[0].bound; v > 0 {
			bound = fmt.Sprintf("%.0f", v)
		}
		fmt.Fprintf(&b, "| %s | %.2f | %.1f | %.1f | %s | %.0f | %.2f | %.1f | %.0f | %.1f |\n", r.name,
			mean(func(x outcome) float64 { return x.over }),
			worst(func(x outcome) float64 { return x.worstSecond }),
			worst(func(x outcome) float64 { return x.worstSliding }), bound,
			worst(func(x outcome) float64 { return x.worst100ms }),
			mean(func(x outcome) float64 { return x.unused }),
			mean(func(x outcome) float64 { return x.unfair }),
			mean(func(x outcome) float64 { return x.pulls }),
			mean(func(x outcome) float64 { return x.held }))
	}
	return b.String()
}
