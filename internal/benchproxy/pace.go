package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/telemesh/telemesh/internal/procstat"
)

const (
	paceRate  = 1000 // requests a second
	paceConns = 8
)

// pace is how long a request takes at a low rate, which a sidecar sees most of
// its life: 1,000 requests a second over 8 connections, one target after the
// other in every round.
func pace(ctx context.Context, o options) error {
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	all := []target{{name: "mesh-proxy", mesh: true}, nginx("nginx", "http1", "off", "", nginxHTTP), {name: "direct"}}
	half := map[string][]float64{} // medians, µs
	for round := range o.rounds {
		for i := range all {
			if round%2 == 1 {
				i = len(all) - 1 - i
			}
			r, err := b.paced(ctx, all[i])
			if err != nil {
				return fmt.Errorf("%s: %w", all[i].name, err)
			}
			half[all[i].name] = append(half[all[i].name], r.p50)
			fmt.Printf("round %d %-10s p50 %4.0f µs, p90 %4.0f µs, CPU %3.0f µs a request\n", round+1, all[i].name, r.p50, r.p90, r.cpu)
		}
	}
	direct := median(half["direct"])
	ours, theirs := median(half["mesh-proxy"])-direct, median(half["nginx"])-direct
	fmt.Printf("added p50: mesh-proxy %.0f µs, nginx %.0f µs, ratio %.2f\n", ours, theirs, ours/theirs)
	return nil
}

type paced struct{ p50, p90, cpu float64 }

// paced measures one target.
func (b *bench) paced(ctx context.Context, t target) (paced, error) {
	address := b.backends["http1"]
	pid := 0
	if t.name != "direct" {
		p, err := b.start(ctx, t, address)
		if err != nil {
			return paced{}, err
		}
		defer p.close()
		address, pid = p.address, p.cmd.Process.Pid
	}
	if _, err := atPace(address, time.Second); err != nil {
		return paced{}, err
	}
	var before time.Duration
	if pid != 0 {
		before, _ = procstat.CPU(pid) // an error shows with the second look
	}
	took, err := atPace(address, b.o.duration)
	if err != nil {
		return paced{}, err
	}
	r := paced{p50: took[len(took)/2], p90: took[len(took)*9/10]}
	if pid != 0 {
		after, err := procstat.CPU(pid)
		if err != nil {
			return paced{}, err
		}
		r.cpu = float64((after - before).Microseconds()) / float64(len(took))
	}
	return r, nil
}

// atPace sends requests at their times and returns how long each took, in
// microseconds, sorted.
func atPace(address string, d time.Duration) ([]float64, error) {
	var mu sync.Mutex // guards the two below
	var all []float64
	var failed error
	var clients sync.WaitGroup
	began := time.Now()
	for i := range paceConns {
		clients.Go(func() {
			took, err := client(address, began.Add(time.Duration(i)*time.Second/paceRate), d)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			if err != nil {
				failed = err
			}
		})
	}
	clients.Wait()
	slices.Sort(all)
	if failed == nil && len(all) == 0 {
		failed = fmt.Errorf("no request was made")
	}
	return all, failed
}

// client is one connection's requests, every paceConns/paceRate seconds.
func client(address string, at time.Time, d time.Duration) (took []float64, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for end := at.Add(d); at.Before(end); at = at.Add(paceConns * time.Second / paceRate) {
		time.Sleep(time.Until(at))
		began := time.Now()
		if _, err := io.WriteString(c, "GET /reviews/1 HTTP/1.1\r\nHost: reviews\r\nUser-Agent: pace\r\n\r\n"); err != nil {
			return took, err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return took, err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return took, err
		}
		_ = resp.Body.Close() // it was read
		took = append(took, float64(time.Since(began).Nanoseconds())/1e3)
	}
	return took, nil
}
