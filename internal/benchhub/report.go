package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// figure is what is measured, and what is wanted.
type figure struct {
	key, text, unit string
	limit           float64 // 0 if none
	least           bool    // the limit is a lower one
}

var figures = []figure{
	{"encode_us", "encode a record in the sidecar, CPU", "µs", 0.8, false},
	{"decode_us", "decode it in the hub, CPU", "µs", 0.3, false},
	{"wire_bytes_per_record", "on the wire", "B", 57, false},
	{"socket_to_sealed_us", "from the socket to durable, counted, sealed and read back: CPU of the whole hub", "µs", 2, false},
	{"bytes_per_record", "on disk, index included", "B", 40, false},
	{"records_per_second", "records a second while it lasted, generator beside it", "", 0, false},
	{"segments", "segments", "", 0, false},
	{"resident_mb", "resident memory of the hub afterwards", "MB", 0, false},
	{"find_warm_p50_ms", "find all records of a request by HTTP, warm, p50", "ms", 2, false},
	{"find_warm_p99_ms", "p99", "ms", 8, false},
	{"find_cold_p50_ms", "the same, cold from disk, p50", "ms", 0, false},
	{"find_cold_p99_ms", "p99", "ms", 30, false},
	{"find_s3_p50_ms", "the same by another hub, from S3 on loopback, p50", "ms", 0, false},
	{"find_s3_p99_ms", "p99", "ms", 60, false},
	{"find_s3_reads", "reads of the bucket for each of them", "", 0, false},
	{"graph_p50_ms", "graph of the last minute by HTTP, p50", "ms", 0, false},
	{"graph_p99_ms", "p99", "ms", 0, false},
	{"visible_p50_ms", "from a batch's departure until its records are found, p50", "ms", 0, false},
	{"visible_p99_ms", "p99", "ms", 0, false},
	{"visible_after_response_p50_ms", "from a response through a real sidecar until its request is found, p50", "ms", 0, false},
	{"visible_after_response_p99_ms", "p99", "ms", 1500, false},
	{"errors_ms_per_million", "errors of one service in 15 minutes, CPU for a million records kept", "ms", 10, false},
	{"group_by_million_rows_per_second", "group by source, destination and status with a histogram, million rows a second and core", "", 20, true},
	{"paced_edges", "edges that sidecars told, at 20,000 records a second", "", 0, false},
	{"paced_cpu_us", "CPU a record at that pace", "µs", 0, false},
	{"paced_resident_peak_mb", "resident memory at most meanwhile", "MB", 400, false},
}

type report struct {
	Time    time.Time             `json:"time"`
	Machine string                `json:"machine"`
	Figures map[string]float64    `json:"-"`
	Spread  map[string][2]float64 `json:"spread"`
}

func newReport(options) *report {
	return &report{
		Time: time.Now().UTC().Truncate(time.Second), Machine: fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
		Figures: make(map[string]float64), Spread: make(map[string][2]float64),
	}
}

// set notes a figure, the median of its rounds, and says it.
func (r *report) set(key string, rounds ...float64) {
	s := sorted(rounds)
	r.Figures[key] = round(quantile(s, 0.5))
	if len(s) > 1 {
		r.Spread[key] = [2]float64{round(s[0]), round(s[len(s)-1])}
	}
	line := fmt.Sprintf("%-34s %v", key, r.Figures[key])
	if spread, ok := r.Spread[key]; ok {
		line += fmt.Sprintf(" (%v to %v)", spread[0], spread[1])
	}
	fmt.Println(line)
}

func (r *report) quantiles(key string, took []float64) {
	s := sorted(took)
	r.set(key+"_p50_ms", quantile(s, 0.5))
	r.set(key+"_p99_ms", quantile(s, 0.99))
}

// round keeps three significant digits, and all before the point.
func round(v float64) float64 {
	if math.Abs(v) >= 1000 {
		return math.Round(v)
	}
	short, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64) // what was just formatted
	return short
}

func (r *report) write(dir string) error {
	if dir == "" {
		return nil
	}
	all := map[string]any{"time": r.Time, "machine": r.Machine, "spread": r.Spread}
	for k, v := range r.Figures {
		all[k] = v
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "hub.json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "hub.md"), []byte(r.page()), 0o644)
}

func (r *report) page() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# What it costs to keep every request

Written by `+"`make bench-hub`"+`. A mesh-hub takes the records of a small mesh over gRPC:
Bookinfo's services, reviews in three versions, three replicas each, both sides of
each hop, one request in a hundred failing; batches of 1,000 records with the
counters of their edges. CPU is that of the whole process, divided by the records.
Every request that is looked up must have all its records.

Machine: %s, %s. %.0f records.

| | measured | rounds | wanted | |
|---|---|---|---|---|
`, r.Machine, r.Time.Format(time.DateOnly), r.Figures["records"])
	for _, f := range figures {
		v, ok := r.Figures[f.key]
		if !ok {
			continue
		}
		spread, limit, verdict := "", "", ""
		if s, ok := r.Spread[f.key]; ok {
			spread = fmt.Sprintf("%v to %v", s[0], s[1])
		}
		if f.limit > 0 {
			limit, verdict = fmt.Sprintf("≤ %v", f.limit), "met"
			if f.least {
				limit = fmt.Sprintf("≥ %v", f.limit)
			}
			if f.least != (v >= f.limit) && v != f.limit {
				verdict = "**missed**"
			}
		}
		fmt.Fprintf(&b, "| %s | **%v** %s | %s | %s | %s |\n", f.text, v, f.unit, spread, limit, verdict)
	}
	return b.String()
}
