// Benchhub measures what keeping records costs the hub: a real mesh-hub takes the
// records of a small mesh over gRPC, and is asked for them. With "kill" it ends the
// hub at random moments instead, and looks whether all is there; with "full" it has the
// disk fill up; with "share" two hubs share a bucket and are lost in turn; with "growth" it
// measures ever more senders and records; with "scan" it only reads what an earlier run has left in -dir.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/telemesh/telemesh/internal/figures"
)

type options struct {
	bin, dir, out string
	records       int
	sealBytes     int64
	lookUps       int
	responses     int
	paced         time.Duration
	rounds        int
	seed          uint64
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder of mesh-hub")
	flag.StringVar(&o.dir, "dir", "", "folder for the hub's data; a temporary one if empty")
	flag.StringVar(&o.out, "out", "docs/performance", "folder for hub.json and hub.md; empty writes nothing")
	flag.IntVar(&o.records, "records", 2_000_000, "records to send")
	flag.Int64Var(&o.sealBytes, "seal-bytes", 128<<20, "size of a log when it is sealed")
	flag.IntVar(&o.lookUps, "look-ups", 1000, "requests to look up, warm; a third of them cold")
	flag.IntVar(&o.responses, "responses", 200, "requests through a real sidecar, to look up as soon as they are answered")
	flag.DurationVar(&o.paced, "paced", 30*time.Second, "how long 20,000 records a second of 1,000 edges are sent, for the hub's memory")
	flag.IntVar(&o.rounds, "rounds", 200, "how often kill kills")
	flag.Uint64Var(&o.seed, "seed", 1, "of records and moments")
	profile := flag.String("cpuprofile", "", "file for a CPU profile of this process")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "benchhub:", err)
			os.Exit(1)
		}
		defer pprof.StopCPUProfile()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "benchhub:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, what string) (err error) {
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "benchhub"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	} else if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	switch what {
	case "":
		return bench(ctx, o)
	case "scan":
		return scans(ctx, filepath.Join(o.dir, "data", "records"), figures.New())
	case "kill":
		return kills(ctx, o)
	case "full":
		return full(ctx, o)
	case "growth":
		return growth(ctx, o)
	case "share":
		return share(ctx, o)
	}
	return fmt.Errorf("%q is nothing that can be measured: say scan, kill, full, share, growth, or nothing", what)
}
