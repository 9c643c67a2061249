package main

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"time"
)

// cores is what a second core brings: requests a second with the proxy on one
// core and on all. Load and backend run on the same cores and take their share,
// so that both ends of a request cost what they cost; the CPU of a request says
// whether the cores get in each other's way.
func cores(ctx context.Context, o options) error {
	all := runtime.NumCPU()
	if all < 2 {
		return fmt.Errorf("this machine has one core")
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	b.rest = "0-" + strconv.Itoa(all-1)
	sets := []string{"0", b.rest}
	rps, cpu := map[string][]float64{}, map[string][]float64{}
	for round := range o.rounds {
		for i := range sets {
			if round%2 == 1 {
				i = len(sets) - 1 - i
			}
			r := &row{}
			b.proxyCores = sets[i]
			if err := b.turn(ctx, target{name: "mesh-proxy", protocol: "http1", mesh: true}, r); err != nil {
				return err
			}
			rps[sets[i]], cpu[sets[i]] = append(rps[sets[i]], r.RPS...), append(cpu[sets[i]], r.CPU...)
			fmt.Printf("round %d on cores %-4s %7.0f rps, %5.2f µs CPU a request\n", round+1, sets[i], r.RPS[0], r.CPU[0])
			time.Sleep(100 * time.Millisecond)
		}
	}
	fmt.Printf("on %d cores %.2f times the requests of one, at %.2f times the CPU a request\n",
		all, median(rps[b.rest])/median(rps["0"]), median(cpu[b.rest])/median(cpu["0"]))
	return nil
}
