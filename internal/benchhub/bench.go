package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/internal/figures"
	"github.com/telemesh/telemesh/internal/procstat"
	"github.com/telemesh/telemesh/internal/recordgen"
)

const (
	// batchRecords is what a batch of a busy sidecar has.
	batchRecords = 1000
	step         = 100 * time.Microsecond // between two records: 10,000 a second
)

// bench measures everything, one after the other.
func bench(ctx context.Context, o options) error {
	r := figures.New()
	if err := codec(r); err != nil {
		return err
	}
	h, err := startHub(ctx, filepath.Join(o.bin, "mesh-hub"), o.dir, "--seal-bytes", fmt.Sprint(o.sealBytes), "--seal-after", sealAfter.String())
	if err != nil {
		return err
	}
	samples, err := kept(ctx, o, h, r)
	if err = errors.Join(err, h.kill()); err != nil {
		return err
	}
	if err := visibleAfter(ctx, o, r); err != nil {
		return err
	}
	if err := scans(ctx, filepath.Join(o.dir, "data", "records"), r); err != nil {
		return err
	}
	if err := fromS3(ctx, o, samples, r); err != nil {
		return err
	}
	if o.paced > 0 {
		if err := paced(ctx, o, r); err != nil {
			return err
		}
	}
	return write(r, o.out)
}

// sealAfter is long enough for a log to fill, and short enough to wait for: what an
// idle hub needs meanwhile is no cost of records.
const sealAfter = 5 * time.Second

// selfCPU is what this process has used.
func selfCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func micros(d time.Duration, n int) float64 {
	return float64(d) / float64(time.Microsecond) / float64(n)
}

// kept measures taking records in, and finding them. It returns what can be
// looked up.
func kept(ctx context.Context, o options, h *hub, r *figures.Report) ([]sample, error) {
	l, err := newLoad(ctx, recordgen.Options{Seed: o.seed, Step: step}, batchRecords, max(o.records/7/20_000, 1), h.grpc)
	if err != nil {
		return nil, err
	}
	err = ingest(ctx, o, h, l, r)
	if err == nil {
		err = find(ctx, o, h, l.samples, r)
	}
	if err == nil {
		err = graph(ctx, h, r)
	}
	if err == nil {
		err = visible(ctx, h, l, r)
	}
	return l.samples, errors.Join(err, l.close())
}

// ingest sends all and waits until it is sealed.
func ingest(ctx context.Context, o options, h *hub, l *load, r *figures.Report) error {
	had := l.records
	before, err := h.cpu()
	if err != nil {
		return err
	}
	from := time.Now()
	if err := errors.Join(l.send(o.records), l.settle(ctx)); err != nil {
		return err
	}
	took := time.Since(from)
	// One batch more than seals takes the last log with it.
	for until := time.Now().Add(3*sealAfter + 2*took); ; {
		select {
		case <-time.After(sealAfter / 10):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := errors.Join(l.send(1), l.settle(ctx)); err != nil {
			return err
		}
		s, err := h.status(ctx)
		if err != nil {
			return err
		}
		if s.Store.UnsealedLogs == 0 && s.Store.SealedRecords+2*batchRecords > uint64(l.records) {
			break
		}
		if time.Now().After(until) {
			return fmt.Errorf("not sealed in time: %+v", s.Store)
		}
	}
	after, err := h.cpu()
	if err != nil {
		return err
	}
	r.Set("socket_to_sealed_us", micros(after-before, l.records-had))
	r.Set("records", float64(l.records))
	r.Set("records_per_second", float64(l.records-had)/took.Seconds())
	bytes, segments, err := sealedBytes(filepath.Join(o.dir, "data", "records"))
	if err != nil {
		return err
	}
	s, err := h.status(ctx)
	if err != nil {
		return err
	}
	r.Set("bytes_per_record", float64(bytes)/float64(s.Store.SealedRecords))
	r.Set("segments", float64(segments))
	r.Set("resident_mb", procstat.RSS(h.cmd.Process.Pid)/1e6)
	if s.Store.Records != uint64(l.records) || s.Store.Corruptions != 0 {
		return fmt.Errorf("the store has %d records and %d corruptions, want %d and none", s.Store.Records, s.Store.Corruptions, l.records)
	}
	return nil
}

// sealedBytes is the size of the segments with their indexes.
func sealedBytes(dir string) (bytes int64, segments int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.Contains(d.Name(), ".parquet") {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		if strings.HasSuffix(path, ".parquet") {
			segments++
		}
		return err
	})
	return bytes, segments, err
}

// find looks requests up, spread over all that was sent.
func find(ctx context.Context, o options, h *hub, samples []sample, r *figures.Report) error {
	pick := func(n int) (list []sample) {
		for i := range n {
			list = append(list, samples[i*len(samples)/n])
		}
		return list
	}
	measure := func(list []sample, before func() error) (took []float64, err error) {
		for _, s := range list {
			if err := before(); err != nil {
				return nil, err
			}
			d, err := h.lookUp(ctx, s)
			if err != nil {
				return nil, err
			}
			took = append(took, d.Seconds()*1000)
		}
		return took, nil
	}
	nothing := func() error { return nil }
	if _, err := measure(pick(o.lookUps), nothing); err != nil { // to warm up
		return err
	}
	warm, err := measure(pick(o.lookUps), nothing)
	if err != nil {
		return err
	}
	cold, err := measure(pick(max(o.lookUps/3, 1)), func() error { return forget(filepath.Join(o.dir, "data", "records")) })
	if err != nil {
		return err
	}
	r.Quantiles("find_warm", warm)
	r.Quantiles("find_cold", cold)
	return nil
}

// forget has the kernel drop the segments from its memory.
func forget(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.parquet*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		fd, err := syscall.Open(f, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		const dontNeed = 4
		_, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, uintptr(fd), 0, 0, dontNeed, 0, 0)
		if err := syscall.Close(fd); err != nil || errno != 0 {
			return errors.Join(err, fmt.Errorf("fadvise %s: %w", f, errno))
		}
	}
	return nil
}

// graph asks for the graph of the last minute.
func graph(ctx context.Context, h *hub, r *figures.Report) error {
	var took []float64
	for range 300 {
		var g topologyv1.Graph
		from := time.Now()
		if err := h.get(ctx, "/api/mesh/v1/graph?window=60", &g); err != nil {
			return err
		}
		took = append(took, time.Since(from).Seconds()*1000)
	}
	r.Quantiles("graph", took)
	return nil
}

// visible measures from a batch's departure until its records are found; a
// sidecar adds what it waits for more records, a second at most.
func visible(ctx context.Context, h *hub, l *load, r *figures.Report) error {
	var took []float64
	for range 100 {
		from := time.Now()
		trace, records := l.mesh.Request()
		l.records += records
		if err := l.flush(1); err != nil {
			return err
		}
		for {
			if _, err := h.lookUp(ctx, sample{trace, records}); err == nil {
				break
			}
			if time.Since(from) > 5*time.Second {
				return fmt.Errorf("request %x is not found five seconds after it was sent", trace)
			}
		}
		took = append(took, time.Since(from).Seconds()*1000)
	}
	r.Quantiles("visible", took)
	return l.settle(ctx)
}

// quantile of a sorted list.
