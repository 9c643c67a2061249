// Command soak proves the sidecars, or breaks them: a hub, two sidecars and an
// application that is killed, started again and stalled at random, under mixed
// traffic in which every request can be told from every other. Afterwards it
// holds against each other what the clients saw, what the application saw and
// what the hub was told, and what the sidecars still hold. `make soak` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() {
	var o options
	var app, seen string
	flag.DurationVar(&o.duration, "duration", 10*time.Minute, "of the traffic")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().Unix()), "of everything random")
	flag.DurationVar(&o.pace, "pace", 60*time.Millisecond, "mean pause of each of the workers between two calls")
	flag.StringVar(&o.tls, "tls", "", "folder with cert.pem, key.pem and ca.pem, for mutual TLS between the sidecars")
	flag.StringVar(&o.bin, "bin", "bin", "folder of mesh-proxy and mesh-hub")
	flag.StringVar(&app, "app", "", "internal: serve as the application at this address")
	flag.StringVar(&seen, "seen", "", "internal: the application's list of requests")
	flag.Parse()
	var err error
	if app != "" {
		err = serveApp(app, seen)
	} else {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		err = soak(ctx, o)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

type options struct {
	duration time.Duration
	seed     uint64
	pace     time.Duration
	bin, tls string
}

// warmUp is how long there is traffic before the first look at what the
// sidecars hold.
const warmUp = 5 * time.Second

func soak(ctx context.Context, o options) error {
	fmt.Printf("soak: %s, seed %d\n", o.duration, o.seed)
	m, err := startMesh(ctx, o)
	if err != nil {
		return err
	}
	defer m.stop()
	s := &session{o: o, mesh: m, traffic: &traffic{mesh: m, ledger: &ledger{}, seed: o.seed, pace: o.pace}}
	if err := s.run(ctx); err != nil {
		return err
	}
	began := time.Now()
	edges, err := countEdges(ctx, m)
	if err != nil {
		return err
	}
	verdicts, err := verify(m, s.traffic.ledger.calls, s.disturbances)
	if err != nil {
		return err
	}
	fmt.Printf("compared with the hub's records in %s\n\n", time.Since(began).Round(time.Second))
	if s.report(verdicts, edges) {
		return nil
	}
	return errors.New("failed")
}

// session is one run and what was seen of it.
type session struct {
	o            options
	mesh         *mesh
	traffic      *traffic
	disturbances []disturbance
	before       map[string]usage // by sidecar, settled
	after        map[string]usage
	during       map[string][]usage
}

// run warms up, looks, drives the traffic under disturbance, and looks again.
func (s *session) run(ctx context.Context) (err error) {
	m := s.mesh
	if err := s.drive(ctx, warmUp); err != nil {
		return err
	}
	if s.before, err = settle(ctx, m.caller, m.callee); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watchers sync.WaitGroup
	callee, caller := []usage{}, []usage{}
	watchers.Go(func() { m.callee.watch(watching, &callee) })
	watchers.Go(func() { m.caller.watch(watching, &caller) })
	var disturbed error
	watchers.Go(func() {
		s.disturbances, disturbed = disturb(watching, m, rand.New(rand.NewPCG(s.o.seed, 1)))
	})
	if err := s.drive(ctx, s.o.duration); err != nil {
		return err
	}
	stop()
	watchers.Wait()
	s.during = map[string][]usage{m.callee.name: callee, m.caller.name: caller}
	if disturbed != nil {
		return disturbed
	}
	s.after, err = settle(ctx, m.caller, m.callee)
	return errors.Join(err, ctx.Err())
}

func (s *session) drive(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return s.traffic.run(ctx)
}
