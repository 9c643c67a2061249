package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/telemesh/telemesh/internal/procstat"
	"github.com/telemesh/telemesh/internal/scrape"
)

// usage is what a process holds at a moment.
type usage struct {
	goroutines  int
	descriptors int // without pipes
	pipes       int // ends of those that splice(2) needs: a pool, which the garbage collector empties
	residentMB  float64
	kept        int // upstream connections, in use or kept for later
}

func (s *sidecar) usage(ctx context.Context) (u usage, err error) {
	all, err := scrape.Get(ctx, "http://"+s.address["admin"])
	if err != nil {
		return u, err
	}
	u.goroutines = int(all.Sum("go_goroutines", nil))
	u.kept = int(all.Sum("mesh_pool_connections", nil))
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
	u.residentMB = procstat.RSS(s.pid) / 1e6
	return u, nil
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
			u, err := s.usage(ctx)
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
		if u, err := s.usage(ctx); err == nil {
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
