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
}

func (s *sidecar) usage() (u usage, err error) {
	all, err := families("http://" + s.address["admin"])
	if err != nil {
		return u, err
	}
	u.goroutines = int(total(all["go_goroutines"], nil))
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

// settled returns the usage once the connections that are kept for later have
// been closed: the least of some seconds.
func (s *sidecar) settled() (least usage, err error) {
	for i := range 40 {
		u, err := s.usage()
		if err != nil {
			return u, err
		}
		if i == 0 || u.goroutines+u.descriptors < least.goroutines+least.descriptors {
			least = u
		}
		time.Sleep(200 * time.Millisecond)
	}
	return least, nil
}

// watch samples the resident memory until ctx ends.
func (s *sidecar) watch(ctx context.Context, samples *[]usage) {
	for {
		if u, err := s.usage(); err == nil {
			*samples = append(*samples, u)
		}
		select {
		case <-time.After(500 * time.Millisecond):
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
