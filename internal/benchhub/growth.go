package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/telemesh/telemesh/internal/figures"
	"github.com/telemesh/telemesh/internal/procstat"
	"github.com/telemesh/telemesh/internal/recordgen"
)

// growth measures how what a hub costs grows with those who send to it and with
// what it keeps.
func growth(ctx context.Context, o options) error {
	r := figures.New()
	senders, err := bySenders(ctx, o)
	if err != nil {
		return err
	}
	records, err := byRecords(ctx, o)
	if err != nil {
		return err
	}
	page := fmt.Sprintf("# How a hub's cost grows\n\nWritten by `make growth-hub`. Machine: %s, %s; the generator beside the hub.\nAn exponent is the slope of the last column's logarithm over the first's: 0 is constant, 1 is proportional.\n\n%s\n%s",
		r.Machine, r.Time.Format(time.DateOnly), senders, records)
	fmt.Print(page)
	if o.out == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(o.out, "hub-growth.md"), []byte(page), 0o644)
}

// table is one in Markdown.
type table struct {
	rows [][]float64
}

// exponent is the slope of column y over column x, both as logarithms, by least
// squares.
func (t *table) exponent(x, y int) float64 {
	var sx, sy, sxx, sxy float64
	n := float64(len(t.rows))
	for _, r := range t.rows {
		lx, ly := math.Log(r[x]), math.Log(r[y])
		sx, sy, sxx, sxy = sx+lx, sy+ly, sxx+lx*lx, sxy+lx*ly
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

func (t *table) markdown(title, text string, columns ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n\n| %s |\n|%s\n", title, text, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, r := range t.rows {
		for _, v := range r {
			fmt.Fprintf(&b, "| %v ", figures.Round(v))
		}
		b.WriteString("|\n")
	}
	b.WriteString("| exponent ")
	for i := 1; i < len(columns); i++ {
		fmt.Fprintf(&b, "| %.2f ", t.exponent(0, i))
	}
	b.WriteString("|\n")
	return b.String()
}

// growthPace is how long each number of senders sends.
const growthPace = 12 * time.Second

// bySenders sends 20,000 records a second by ever more sidecars, each once a second.
func bySenders(ctx context.Context, o options) (string, error) {
	var t table
	for _, n := range []int{1, 10, 100, 1000} {
		dir := filepath.Join(o.dir, fmt.Sprint("senders-", n))
		h, err := startHub(ctx, filepath.Join(o.bin, "mesh-hub"), dir)
		if err != nil {
			return "", err
		}
		row, err := paceOf(ctx, o, h, n)
		if err = errors.Join(err, h.kill()); err != nil {
			return "", err
		}
		t.rows = append(t.rows, row)
	}
	return t.markdown("With senders", "20,000 records a second in all, over connections of their own; each sends once a second, with the counters of its edges, one for each pair of replicas that met. CPU is from the socket to the log; sealing comes later and is in the other table.",
		"connected senders", "CPU a record, µs", "resident at most, MB"), nil
}

func paceOf(ctx context.Context, o options, h *hub, senders int) ([]float64, error) {
	const workloads = 7
	l, err := newLoad(ctx, recordgen.Options{Seed: o.seed, Replicas: (senders + workloads - 1) / workloads, Start: time.Now(), Step: time.Second / pacePerSecond}, 1<<30, 1<<30, h.grpc)
	if err != nil {
		return nil, err
	}
	l.only(senders)
	r := figures.New()
	if err := errors.Join(measurePace(ctx, growthPace, h, l, r), l.close()); err != nil {
		return nil, err
	}
	return []float64{float64(senders), r.Values["paced_cpu_us"], r.Values["paced_resident_peak_mb"]}, nil
}

// growthLookUps are made at each size.
const growthLookUps = 1000

// byRecords keeps ever more records, up to those that were asked for.
func byRecords(ctx context.Context, o options) (string, error) {
	o.dir = filepath.Join(o.dir, "records")
	h, err := startHub(ctx, filepath.Join(o.bin, "mesh-hub"), o.dir, "--seal-bytes", fmt.Sprint(o.sealBytes), "--seal-after", sealAfter.String())
	if err != nil {
		return "", err
	}
	l, err := newLoad(ctx, recordgen.Options{Seed: o.seed, Step: step}, batchRecords, max(o.records/7/20_000, 1), h.grpc)
	if err != nil {
		return "", errors.Join(err, h.kill())
	}
	var t table
	for size := 1_000_000; size <= o.records && err == nil; size *= 10 {
		var row []float64
		if row, err = keepTo(ctx, o, h, l, size); err == nil {
			t.rows = append(t.rows, row)
		}
	}
	if err = errors.Join(err, l.close(), h.kill()); err != nil {
		return "", err
	}
	return t.markdown("With records", "One hub that keeps more and more; CPU from the socket to sealed is of those that came last.",
		"records", "CPU a record, µs", "bytes a record", "segments", "find p50, ms", "find p99, ms", "resident, MB"), nil
}

// keepTo sends until the hub keeps so many, and measures there.
func keepTo(ctx context.Context, o options, h *hub, l *load, size int) ([]float64, error) {
	o.records = size - l.records
	r := figures.New()
	if err := ingest(ctx, o, h, l, r); err != nil {
		return nil, err
	}
	o.lookUps = growthLookUps
	if err := find(ctx, o, h, l.samples, r); err != nil {
		return nil, err
	}
	f := r.Values
	return []float64{
		float64(l.records), f["socket_to_sealed_us"], f["bytes_per_record"], f["segments"],
		f["find_warm_p50_ms"], f["find_warm_p99_ms"], procstat.RSS(h.cmd.Process.Pid) / 1e6,
	}, nil
}
