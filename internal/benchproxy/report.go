package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// ratio compares ours with a peer.
type ratio struct {
	key, protocol, peer string
	limit, aim          float64
}

var ratios = []ratio{
	{"http1_vs_nginx", "http1", "nginx", 1.05, 1.00},
	{"http1_vs_nginx_log", "http1", "nginx-log", 0.80, 0.75},
	{"http1_vs_haproxy_log", "http1", "haproxy-log", 0.65, 0.60},
	{"grpc_vs_nginx", "grpc", "nginx", 0.65, 0.65},
	{"grpc_vs_haproxy", "grpc", "haproxy", 0.95, 0.90},
	{"grpc_vs_nghttpx", "grpc", "nghttpx", 1.10, 1.05},
}

// report is what is written down.
type report struct {
	Time     time.Time          `json:"time"`
	Machine  string             `json:"machine"`
	Rounds   int                `json:"rounds"`
	Duration string             `json:"duration"`
	Rows     []*row             `json:"rows"`
	Ratios   map[string]float64 `json:"ratios"`
	// Spread is the lowest and the highest ratio of one round.
	Spread map[string][2]float64 `json:"spread"`
}

func newReport(o options, rows []*row) *report {
	r := &report{
		Time: time.Now().UTC().Truncate(time.Second), Machine: fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
		Rounds: o.rounds, Duration: o.duration.String(), Rows: rows, Ratios: make(map[string]float64), Spread: make(map[string][2]float64),
	}
	for _, want := range ratios {
		ours, peer := find(rows, want.protocol, "mesh-proxy"), find(rows, want.protocol, want.peer)
		if ours == nil || peer == nil {
			continue
		}
		r.Ratios[want.key] = round(median(ours.CPU)/median(peer.CPU), 3)
		var each []float64
		for i := range ours.CPU {
			each = append(each, ours.CPU[i]/peer.CPU[i])
		}
		r.Spread[want.key] = [2]float64{round(slices.Min(each), 3), round(slices.Max(each), 3)}
	}
	return r
}

func find(rows []*row, protocol, name string) *row {
	for _, r := range rows {
		if r.Protocol == protocol && r.Target == name {
			return r
		}
	}
	return nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// text is the report for a person, in Markdown.
func (r *report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| protocol | target | CPU a request, µs (median, lowest to highest) | requests/s | resident, MB |\n|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "| %s | %s | **%.2f** (%.2f to %.2f) | %.0f | %.1f |\n", row.Protocol, row.Target, median(row.CPU), slices.Min(row.CPU), slices.Max(row.CPU), median(row.RPS), median(row.RSS))
	}
	fmt.Fprintf(&b, "\n| ratio of CPU a request | measured | spread over rounds | limit | |\n|---|---|---|---|---|\n")
	for _, want := range ratios {
		got, ok := r.Ratios[want.key]
		if !ok {
			continue
		}
		verdict := "met"
		if got > want.limit {
			verdict = "**missed**"
		}
		fmt.Fprintf(&b, "| %s | **%.2f** | %.2f to %.2f | %.2f | %s |\n", want.key, got, r.Spread[want.key][0], r.Spread[want.key][1], want.limit, verdict)
	}
	return b.String()
}

const page = `# What a request costs in the sidecar

Written by ` + "`make bench-proxy`" + `. mesh-proxy carries requests to a local application with
everything on: identity, trace context, policy look-up, metrics, one record for
each request, streamed to a hub. 64 keep-alive connections (HTTP/1.1) or 8
connections with 8 streams each (gRPC unary), 1 KiB bodies. The proxy under test
is alone on core 0; load generator, backend and hub share the other cores. CPU is
that of all the proxy's processes, divided by the requests that the load generator
completed. Every target has its turn in every round.

`

// write puts the report into a folder, as JSON and as a page. A run over a part
// of the targets is only shown.
func (r *report) write(dir string) error {
	if len(r.Ratios) < len(ratios) {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "proxy.json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	text := page + fmt.Sprintf("Machine: %s. %d rounds of %s, %s.\n\n", r.Machine, r.Rounds, r.Duration, r.Time.Format(time.DateOnly)) + r.text()
	return os.WriteFile(filepath.Join(dir, "proxy.md"), []byte(text), 0o644)
}
