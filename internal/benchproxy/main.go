// Command benchproxy measures what a request costs in CPU in each of several
// proxies, all in one run and in turn: mesh-proxy with all its telemetry on
// against nginx, haproxy and nghttpx. `make bench-proxy` runs it. With the
// argument upgrade it replaces mesh-proxy under load instead and tells what
// callers saw of it: `make bench-upgrade`; with body, idle or pace it measures large
// bodies, a sidecar with nothing to do, and a low rate: `make bench-proxy-more`.
//
// The proxy under test has core 0 for itself; load, backend and hub share the
// others. What is compared is CPU time of the proxy's processes per request that
// the load generator completed: it holds on a shared machine, where requests per
// second do not.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	var o options
	var backend string
	flag.IntVar(&o.rounds, "rounds", 5, "how often every target has its turn")
	o.duration = 5 * time.Second
	flag.Func("duration", "of one turn, such as 5s; a number alone is seconds (default 5s)", func(text string) (err error) {
		if _, err := strconv.Atoi(text); err == nil {
			text += "s"
		}
		o.duration, err = time.ParseDuration(text)
		return err
	})
	flag.StringVar(&o.bin, "bin", "bin", "folder of mesh-proxy and mesh-hub")
	flag.StringVar(&o.out, "out", "docs/performance", "folder for proxy.json and proxy.md")
	flag.StringVar(&o.only, "only", "", "http1 or grpc; empty for both")
	flag.StringVar(&o.targets, "targets", "", "comma-separated names; empty for all")
	flag.StringVar(&backend, "backend", "", "internal: serve as the backend http1 or grpc")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	switch what := backend + flag.Arg(0); what {
	case "http1", "grpc": // a backend ends by its signal
		stop()
		err = map[string]func() error{"http1": serveHTTP1, "grpc": serveGRPC}[what]()
	case "upgrade":
		err = upgrade(ctx, o)
	case "body":
		err = bodies(ctx, o)
	case "idle":
		err = idle(ctx, o)
	case "cores":
		err = cores(ctx, o)
	case "pace":
		err = pace(ctx, o)
	case "":
		err = run(ctx, o)
	default:
		err = fmt.Errorf("%q: want upgrade, body, cores, idle, pace or nothing", what)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchproxy:", err)
		os.Exit(1)
	}
}

type options struct {
	rounds                  int
	duration                time.Duration
	bin, out, only, targets string
}

// run measures every target of every protocol in turn, round by round.
func run(ctx context.Context, o options) error {
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	var rows []*row
	for _, protocol := range []string{"http1", "grpc"} {
		if o.only != "" && o.only != protocol {
			continue
		}
		measured, err := b.measure(ctx, protocol)
		if err != nil {
			return err
		}
		rows = append(rows, measured...)
	}
	r := newReport(o, rows)
	fmt.Print(r.text())
	return r.write(o.out)
}
