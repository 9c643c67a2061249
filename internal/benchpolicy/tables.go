package main

import (
	"fmt"
	"time"

	"github.com/telemesh/telemesh/policy-check/lease"
)

const (
	bigLimit   = 10_000
	smallLimit = 50
)

// simulations runs all scenarios with every seed.
func simulations(o options, r *report) error {
	moves := []time.Duration{10 * time.Second, 2 * time.Second}
	var wanted []outcome // of the horizon in use
	for _, move := range moves {
		t := table{title: fmt.Sprintf("%d a second, hot set moves every %v", bigLimit, move)}
		for _, horizon := range []time.Duration{20 * time.Millisecond, 50 * time.Millisecond, lease.DefaultHorizon, 250 * time.Millisecond} {
			all, err := t.add(fmt.Sprintf("credits, horizon %v", horizon), o, simulate, scenario{bigLimit, move, horizon})
			if err != nil {
				return err
			}
			if horizon == lease.DefaultHorizon {
				wanted = append(wanted, all...)
			}
		}
		if _, err := t.add("a check per request", o, central, scenario{bigLimit, move, 0}); err != nil {
			return err
		}
		r.tables = append(r.tables, t)
	}
	r.setAll("worst_second_over_pct", wanted, func(x outcome) float64 { return x.worstSecond }, most)
	r.setAll("unused_pct", wanted, func(x outcome) float64 { return x.unused }, most)
	r.setAll("unfair_pct", wanted, func(x outcome) float64 { return x.unfair }, most)
	r.setAll("pulls_per_second", wanted, func(x outcome) float64 { return x.pulls }, most)
	r.setAll("held_pct", wanted, func(x outcome) float64 { return x.held }, most)
	t := table{title: fmt.Sprintf("%d a second, hot set moves every %v", smallLimit, moves[0])}
	small, err := t.add(fmt.Sprintf("credits, horizon %v", lease.DefaultHorizon), o, simulate, scenario{smallLimit, moves[0], lease.DefaultHorizon})
	if err != nil {
		return err
	}
	if _, err := t.add("a check per request", o, central, scenario{smallLimit, moves[0], 0}); err != nil {
		return err
	}
	r.tables = append(r.tables, t)
	r.setAll("small_limit_unused_pct", small, func(x outcome) float64 { return x.unused }, most)
	return nil
}

// table is scenarios with the same demand.
type table struct {
	title string
	rows  []row
}

// row is one scenario with every seed.
type row struct {
	name string
	all  []outcome
}

func (t *table) add(name string, o options, how func(scenario, uint64) (outcome, error), s scenario) ([]outcome, error) {
	var all []outcome
	for i := range o.seeds {
		x, err := how(s, o.seed+uint64(i))
		if err != nil {
			return nil, err
		}
		all = append(all, x)
	}
	t.rows = append(t.rows, row{name, all})
	return all, nil
}
