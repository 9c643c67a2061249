// Compat has sidecars of one version talk to a hub of another, both ways, and
// compares what the hub knows with what was sent: counts by reporter and status,
// records, and requests looked up by their ID. `make compat REV=...` builds the other
// version and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	older := flag.String("old", "", "folder of the other version's mesh-hub and mesh-proxy")
	newer := flag.String("new", "bin", "folder of this version's")
	requests := flag.Int("requests", 2000, "requests of each pairing, one in 20 failing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *older, *newer, *requests); err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, older, newer string, requests int) error {
	if older == "" {
		return errors.New("--old: say where the other version's programs are; make compat REV=REVISION builds them")
	}
	var errs []error
	for _, p := range []struct{ name, hub, caller, callee string }{
		{"old sidecars, new hub", newer, older, older},
		{"new sidecars, old hub", older, newer, newer},
		{"old caller, new callee, new hub", newer, older, newer},
		{"new caller, old callee, new hub", newer, newer, older},
	} {
		err := try(ctx, p.hub, p.caller, p.callee, requests)
		if err != nil {
			fmt.Printf("%-34s differs\n", p.name)
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
			continue
		}
		fmt.Printf("%-34s %d requests, all counted and found\n", p.name, requests)
	}
	return errors.Join(errs...)
}
