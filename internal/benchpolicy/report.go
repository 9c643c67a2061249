package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// figure is what is measured, and what is wanted.
type figure struct {
	key, text, unit string
	limit           float64 // at most; -1 if nothing is wanted
}

var figures = []figure{
	{"worst_second_over_pct", "worst aligned second above a limit of 10,000, shifting demand", "%", 5},
	{"unused_pct", "of what such a limit could have admitted, unused", "%", 2},
	{"unfair_pct", "distance from max-min shares while demand exceeds it", "%", 5},
	{"small_limit_unused_pct", "unused of a limit of 50 over 100 sidecars", "%", 10},
	{"pulls_per_second", "messages a second at the hub", "", -1},
	{"held_pct", "requests that wait for a message", "%", -1},
	{"take_ns", "take one credit", "ns", 20},
	{"take_allocs", "allocations", "", 0},
	{"decision_ns", "whole local decision: two terms, one key, no response headers", "ns", 250},
	{"decision_allocs", "allocations", "", 0},
	{"decision_with_headers_ns", "the same with the IETF's response headers", "ns", -1},
	{"decision_with_headers_allocs", "allocations", "", -1},
	{"hub_ms_per_1000_requests", "CPU of the hub for 1,000 requests at the sidecars, gRPC included", "ms", 5},
	{"bytes_per_key", "memory of the hub for a key", "B", 64},
}

// report is what was found.
type report struct {
	Time    time.Time
	Machine string
	Figures map[string]float64
	Spread  map[string][2]float64
	tables  []table
}

func newReport() *report {
	return &report{
		Time: time.Now().UTC().Truncate(time.Second), Machine: fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
		Figures: make(map[string]float64), Spread: make(map[string][2]float64),
	}
}

// set notes a figure, the median of its rounds, and says it.
func (r *report) set(key string, rounds ...float64) { r.note(key, rounds, median) }

// setAll notes one figure of several runs.
func (r *report) setAll(key string, runs []outcome, of func(outcome) float64, which func([]float64) float64) {
	var all []float64
	for _, x := range runs {
		all = append(all, of(x))
	}
	r.note(key, all, which)
}

func (r *report) note(key string, rounds []float64, which func([]float64) float64) {
	r.Figures[key] = round(which(rounds))
	line := fmt.Sprintf("%-34s %v", key, r.Figures[key])
	if len(rounds) > 1 {
		r.Spread[key] = [2]float64{round(slices.Min(rounds)), round(slices.Max(rounds))}
		line += fmt.Sprintf(" (%v to %v)", r.Spread[key][0], r.Spread[key][1])
	}
	fmt.Println(line)
}

func most(v []float64) float64 { return slices.Max(v) }

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// round keeps three significant digits, and all before the point.
func round(v float64) float64 {
	if math.Abs(v) >= 1000 {
		return math.Round(v)
	}
	short, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64) // what was just formatted
	return short
}

func (r *report) write(dir string) error {
	if dir == "" {
		return nil
	}
	all := map[string]any{"time": r.Time, "machine": r.Machine, "spread": r.Spread}
	for k, v := range r.Figures {
		all[k] = v
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "policy.json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "policy.md"), []byte(r.page()), 0o644)
}

func (r *report) page() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# What limits cost, and how well they are kept

Written by `+"`make bench-policy`"+`. Machine: %s, %s.

| | measured | rounds | wanted | |
|---|---|---|---|---|
`, r.Machine, r.Time.Format(time.DateOnly))
	for _, f := range figures {
		v, ok := r.Figures[f.key]
		if !ok {
			continue
		}
		spread, limit, verdict := "", "", ""
		if s, ok := r.Spread[f.key]; ok {
			spread = fmt.Sprintf("%v to %v", s[0], s[1])
		}
		if f.limit >= 0 {
			limit, verdict = fmt.Sprintf("≤ %v", f.limit), "met"
			if v > f.limit {
				verdict = "**missed**"
			}
		}
		fmt.Fprintf(&b, "| %s | **%v** %s | %s | %s | %s |\n", f.text, v, f.unit, spread, limit, verdict)
	}
	fmt.Fprintf(&b, `
Percentages are the worst of all runs, the others the median of the rounds. CPU in
the sidecar is that of the thread, in the hub that of a process of its own which %d
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
`, sidecars, r.Figures["keys"], keysPerSecond, sidecars, rtt, simulated, zipf, noiseSigma, noiseEvery)
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
