package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// usage is what a process holds at a moment.
type usage struct {
	goroutines  int
	descriptors int // without pipes
	pipes       int // ends of those that splice(2) needs: a pool, which the garbage collector empties
	residentMB  float64
	kept        int // upstream connections, in use or kept for later
}

func (s *sidecar) usage() (u usage, err error) {
	all, err := families("http://" + s.address["admin"])
	if err != nil {
		return u, err
	}
	u.goroutines = int(total(all["go_goroutines"], nil))
	u.kept = int(total(all["mesh_pool_connections"], nil))
	dir := fmt.Sprintf("/proc/%d/fd", s.pid)
	open, err := os.ReadDir(dir)
	if err != nil {
		return u, err
	}
	for _, fd := range open {
		if to, _ := os.Readlink(filepath.Join(dir, fd.Name())); strings.HasPrefix(to, "pipe:") {
			u.pipes++
		} else {
			u.descriptors++
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.pid))
	if f := strings.Fields(string(text)); len(f) > 1 {
		var pages int
		_, err = fmt.Sscan(f[1], &pages)
		u.residentMB = float64(pages*os.Getpagesize()) / 1e6
	}
	return u, err
}

// settleWithin is longer than a sidecar keeps a connection to another one.
const settleWithin = 45 * time.Second

// settle waits until the sidecars have closed the connections that they keep for
// later, and returns what they hold then.
func settle(ctx context.Context, all ...*sidecar) (map[string]usage, error) {
	held := make(map[string]usage)
	for end := time.Now().Add(settleWithin); ; {
		kept := 0
		for _, s := range all {
			u, err := s.usage()
			if err != nil {
				return nil, err
			}
			held[s.name], kept = u, kept+u.kept
		}
		if kept == 0 || time.Now().After(end) {
			return held, nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

const sampleEvery = time.Second

// watch samples the resident memory until ctx ends.
func (s *sidecar) watch(ctx context.Context, samples *[]usage) {
	for {
		if u, err := s.usage(); err == nil {
			*samples = append(*samples, u)
		}
		select {
		case <-time.After(sampleEvery):
		case <-ctx.Done():
			return
		}
	}
}

// thirds is the mean resident memory of the first and of the last third.
func thirds(samples []usage) (first, last float64) {
	n := max(len(samples)/3, 1)
	if len(samples) < n {
		return 0, 0
	}
	for i := range n {
		first += samples[i].residentMB / float64(n)
		last += samples[len(samples)-1-i].residentMB / float64(n)
	}
	return first, last
}

// families reads a metrics page.
func families(base string) (map[string]*dto.MetricFamily, error) {
	r, err := http.Get(base + "/metrics")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	return p.TextToMetricFamilies(r.Body)
}

// total sums the series that have all these labels.
func total(f *dto.MetricFamily, labels map[string]string) (sum float64) {
	for _, m := range f.GetMetric() {
		has := 0
		for _, l := range m.GetLabel() {
			if labels[l.GetName()] == l.GetValue() && l.GetValue() != "" {
				has++
			}
		}
		if has == len(labels) {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}
