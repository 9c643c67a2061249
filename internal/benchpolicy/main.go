// Benchpolicy measures what limits cost and how well they are kept.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	t0 := time.Now()
	seed, _ := strconv.ParseUint(os.Getenv("SEED"), 10, 64)

	for _, s := range scenarios() {
		o, err := map[bool]func(scenario, uint64) (outcome, error){false: simulate, true: central}[os.Getenv("CENTRAL") != ""](s, seed)
		if err != nil {
			fmt.Fprintln(os.Stderr, "benchpolicy:", err)
			os.Exit(1)
		}
		fmt.Printf("L=%d move=%v h=%v: over %.2f worst %.1f sliding %.1f 100ms %.0f unused %.2f unfair %.1f pulls %.0f held %.1f (%v)\n", s.limit, s.move, s.horizon, o.over, o.worstSecond, o.worstSliding, o.worst100ms, o.unused, o.unfair, o.pulls, o.held, time.Since(t0).Round(time.Millisecond))
	}
}

func scenarios() []scenario {
	var all []scenario
	for _, limit := range []int{10_000, 50} {
		for _, move := range []time.Duration{10 * time.Second, 2 * time.Second} {
			for _, h := range []time.Duration{100} {
				if limit == 50 && h != 100 {
					continue
				}
				all = append(all, scenario{limit, move, h * time.Millisecond})
			}
		}
	}
	return all
}
