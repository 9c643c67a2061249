// Benchpolicy measures what limits across the mesh cost, and how well they are
// kept: the code of policy-check, on a virtual clock where it is about time, and
// over gRPC on loopback for the hub's CPU. "simulate" and "costs" measure one of the
// two and write nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

type options struct {
	bin    string
	out    string
	seed   uint64
	seeds  int
	rounds int
	keys   int
	pace   time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.out, "out", "docs/performance", "folder for policy.json and policy.md; empty writes nothing")
	flag.StringVar(&o.bin, "bin", "bin", "folder of mesh-hub")
	flag.Uint64Var(&o.seed, "seed", 1, "of the simulated demand; the first of them")
	flag.IntVar(&o.seeds, "seeds", 2, "how many demands are simulated")
	flag.IntVar(&o.rounds, "rounds", 7, "of the measurements of CPU")
	flag.IntVar(&o.keys, "keys", 10_000_000, "keys that the hub holds when its memory is measured")
	flag.DurationVar(&o.pace, "pace", 6*time.Second, "how long sidecars ask a hub in real time, for its CPU")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "benchpolicy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, what string) error {
	r := newReport()
	switch what {
	case "":
		if err := simulations(o, r); err != nil {
			return err
		}
		if err := costs(ctx, o, r); err != nil {
			return err
		}
		return r.write(o.out)
	case "simulate": // writes nothing
		return simulations(o, r)
	case "costs": // writes nothing
		return costs(ctx, o, r)
	}
	return fmt.Errorf("%q is nothing that can be measured: say simulate, costs, or nothing", what)
}

// costs measures CPU and memory.
func costs(ctx context.Context, o options, r *report) error {
	if err := decisions(ctx, o, r); err != nil {
		return err
	}
	if err := hubCost(ctx, o, r); err != nil {
		return err
	}
	if err := envoys(ctx, o, r); err != nil {
		return err
	}
	return memory(o, r)
}
