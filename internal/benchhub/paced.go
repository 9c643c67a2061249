package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/telemesh/telemesh/internal/figures"
	"github.com/telemesh/telemesh/internal/procstat"
	"github.com/telemesh/telemesh/internal/recordgen"
)

const (
	pacePerSecond = 20_000 // records
	paceReplicas  = 10
	paceTick      = 100 * time.Millisecond
)

// paced sends at a fixed pace and looks at the hub's memory.
func paced(ctx context.Context, o options, r *figures.Report) error {
	h, err := startHub(ctx, filepath.Join(o.bin, "mesh-hub"), filepath.Join(o.dir, "paced"), "--seal-after", "10s")
	if err != nil {
		return err
	}
	l, err := newLoad(ctx, recordgen.Options{Seed: o.seed, Replicas: paceReplicas, Start: time.Now(), Step: time.Second / pacePerSecond}, 1<<30, 1<<30, h.grpc)
	if err == nil {
		err = errors.Join(measurePace(ctx, o.paced, h, l, r), l.close())
	}
	return errors.Join(err, h.kill())
}

func measurePace(ctx context.Context, lasts time.Duration, h *hub, l *load, r *figures.Report) error {
	before, err := h.cpu()
	if err != nil {
		return err
	}
	peak, err := pace(ctx, lasts, h, l)
	if err == nil {
		err = l.settle(ctx)
	}
	if err != nil {
		return err
	}
	after, err := h.cpu()
	if err != nil {
		return err
	}
	edges := 0
	for _, s := range l.mesh.Senders {
		edges += s.Known()
	}
	r.Set("paced_edges", float64(edges))
	r.Set("paced_resident_peak_mb", peak)
	r.Set("paced_cpu_us", micros(after-before, max(l.records, 1)))
	return nil
}

// pace sends for so long, and returns the most memory that the hub had
// resident meanwhile, in MB.
func pace(ctx context.Context, lasts time.Duration, h *hub, l *load) (peak float64, err error) {
	tick := time.NewTicker(paceTick)
	defer tick.Stop()
	for i := range int((lasts + paceTick - 1) / paceTick) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if err := l.send(int(pacePerSecond * paceTick / time.Second)); err != nil {
			return 0, err
		}
		if i%int(time.Second/paceTick) == int(time.Second/paceTick)-1 { // a sidecar reports once a second
			if err := l.flush(1); err != nil {
				return 0, err
			}
		}
		peak = max(peak, procstat.RSS(h.cmd.Process.Pid)/1e6)
	}
	return peak, nil
}
