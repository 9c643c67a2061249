package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/telemesh/telemesh/internal/procstat"
)

// bodySize is what goes through in one direction in one turn.
const bodySize = 1 << 30

// bodies is what a large body costs: one download and one upload of 1 GiB
// through each proxy, in turn.
func bodies(ctx context.Context, o options) error {
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	backend, err := serveBodies(ctx)
	if err != nil {
		return err
	}
	conf := func(pass string) string { return nginxHTTP + " client_max_body_size 0; " + pass }
	all := []target{
		{name: "mesh-proxy", mesh: true},
		nginx("nginx", "http1", "off", "", conf("")),
		nginx("nginx-unbuffered", "http1", "off", "", conf("proxy_buffering off; proxy_request_buffering off;")),
	}
	cost := map[string][]float64{}
	for round := range o.rounds {
		for i := range all {
			if round%2 == 1 {
				i = len(all) - 1 - i
			}
			for _, way := range []string{"down", "up"} {
				cpu, peak, err := b.pass(ctx, all[i], backend, way)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", all[i].name, way, err)
				}
				k := way + " " + all[i].name
				cost[k] = append(cost[k], cpu)
				fmt.Printf("round %d %-22s %6.3f s CPU for 1 GiB, resident %5.1f MB at most\n", round+1, k, cpu, peak)
			}
		}
	}
	for _, way := range []string{"down ", "up "} {
		ours := median(cost[way+"mesh-proxy"])
		best := min(median(cost[way+"nginx"]), median(cost[way+"nginx-unbuffered"]))
		fmt.Printf("%s: %.2f times nginx (%.3f to %.3f s), %.2f times nginx at its best for it\n",
			strings.TrimSpace(way), ours/median(cost[way+"nginx"]), slices.Min(cost[way+"mesh-proxy"]), slices.Max(cost[way+"mesh-proxy"]), ours/best)
	}
	return nil
}

// pass sends one body through a proxy and returns the proxy's CPU seconds and
// its greatest resident size.
func (b *bench) pass(ctx context.Context, t target, backend, way string) (cpu, peak float64, err error) {
	p, err := b.start(ctx, t, backend)
	if err != nil {
		return 0, 0, err
	}
	defer p.close()
	if err := transfer(ctx, p.address, way, 1<<20); err != nil { // warm
		return 0, 0, err
	}
	pid := p.cmd.Process.Pid
	before, err := procstat.CPU(pid)
	if err != nil {
		return 0, 0, err
	}
	watched, stop := context.WithCancel(ctx)
	peaks := make(chan float64)
	go func() { peaks <- peakOf(watched, pid) }()
	err = transfer(ctx, p.address, way, bodySize)
	stop()
	peak = <-peaks / 1e6
	if err != nil {
		return 0, 0, err
	}
	after, err := procstat.CPU(pid)
	return (after - before).Seconds(), peak, err
}

// peakOf looks at a process's memory until ctx ends.
func peakOf(ctx context.Context, pid int) (peak float64) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		peak = max(peak, procstat.RSS(pid))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return peak
		}
	}
}

// transfer moves size bytes through the proxy at address.
func transfer(ctx context.Context, address, way string, size int64) error {
	method, body := http.MethodGet, io.Reader(nil)
	if way == "up" {
		method, body = http.MethodPost, io.LimitReader(zeros{}, size)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+"/"+strconv.FormatInt(size, 10), body)
	if err != nil {
		return err
	}
	if way == "up" {
		req.ContentLength = size
	}
	c := &http.Client{Transport: &http.Transport{WriteBufferSize: 256 << 10, ReadBufferSize: 256 << 10, DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 256<<10))
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("answer %s", resp.Status)
	case way == "down" && n != size:
		return fmt.Errorf("%d bytes came, want %d", n, size)
	}
	return nil
}

// zeros reads without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// serveBodies answers GET /N with N bytes and takes any body.
func serveBodies(ctx context.Context) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 256<<10)
		if r.Method == http.MethodPost {
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, buf); err != nil {
				fmt.Fprintln(os.Stderr, "benchproxy: body backend:", err)
			}
			return
		}
		size, _ := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/"), 10, 64)
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		for ; size > 0; size -= int64(len(buf)) {
			if _, err := w.Write(buf[:min(size, int64(len(buf)))]); err != nil {
				return // the client has left
			}
		}
	})}
	go func() { _ = s.Serve(l) }() // ends with the program
	context.AfterFunc(ctx, func() { _ = s.Close() })
	return l.Addr().String(), nil
}
