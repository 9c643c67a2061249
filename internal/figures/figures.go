// Package figures is what a benchmark of this repository has measured: it says each
// figure as it comes, holds it against what is wanted, and writes all as JSON and as
// a page.
package figures

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Figure is what is measured, and what is wanted of it.
type Figure struct {
	key, text, unit string
	bound           bound
	limit           float64
}

type bound int

const (
	free bound = iota
	most
	least
)

// Free is a figure of which nothing is wanted.
func Free(key, text, unit string) Figure { return Figure{key: key, text: text, unit: unit} }

// AtMost is a figure that should not be above a limit.
func AtMost(key, text, unit string, limit float64) Figure {
	return Figure{key, text, unit, most, limit}
}

// AtLeast is a figure that should not be below a limit.
func AtLeast(key, text, unit string, limit float64) Figure {
	return Figure{key, text, unit, least, limit}
}

// Report is what was found, by key. It is not safe for concurrent use.
type Report struct {
	Time    time.Time
	Machine string
	Values  map[string]float64
	Spread  map[string][2]float64 // least and most of several rounds
}

// New begins a report of this machine.
func New() *Report {
	return &Report{
		Time: time.Now().UTC().Truncate(time.Second), Machine: fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
		Values: make(map[string]float64), Spread: make(map[string][2]float64),
	}
}

// Set notes a figure, the median of its rounds, and says it.
func (r *Report) Set(key string, rounds ...float64) { r.Note(key, rounds, Median) }

// Note is Set with another choice than the median.
func (r *Report) Note(key string, rounds []float64, which func([]float64) float64) {
	r.Values[key] = Round(which(rounds))
	line := fmt.Sprintf("%-34s %v", key, r.Values[key])
	if len(rounds) > 1 {
		spread := [2]float64{Round(slices.Min(rounds)), Round(slices.Max(rounds))}
		r.Spread[key] = spread
		line += fmt.Sprintf(" (%v to %v)", spread[0], spread[1])
	}
	fmt.Println(line)
}

// Quantiles notes KEY_p50_ms and KEY_p99_ms of what took so many milliseconds.
func (r *Report) Quantiles(key string, took []float64) {
	s := slices.Sorted(slices.Values(took))
	r.Set(key+"_p50_ms", quantile(s, 0.5))
	r.Set(key+"_p99_ms", quantile(s, 0.99))
}

func quantile(sorted []float64, q float64) float64 {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// Median of at least one value.
func Median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// Round keeps three significant digits, and all before the point.
func Round(v float64) float64 {
	if math.Abs(v) >= 1000 {
		return math.Round(v)
	}
	short, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64) // what was just formatted
	return short
}

// Write writes dir/NAME.json and, with page in it, dir/NAME.md; nothing if dir is
// empty.
func (r *Report) Write(dir, name, page string) error {
	if dir == "" {
		return nil
	}
	all := map[string]any{"time": r.Time, "machine": r.Machine, "spread": r.Spread}
	for k, v := range r.Values {
		all[k] = v
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name+".json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".md"), []byte(page), 0o644)
}

// Table is the part of a page that has those of the figures that were measured.
func (r *Report) Table(all []Figure) string {
	var b strings.Builder
	b.WriteString("| | measured | rounds | wanted | |\n|---|---|---|---|---|\n")
	for _, f := range all {
		v, ok := r.Values[f.key]
		if !ok {
			continue
		}
		spread := ""
		if s, ok := r.Spread[f.key]; ok {
			spread = fmt.Sprintf("%v to %v", s[0], s[1])
		}
		limit, verdict := f.judge(v)
		fmt.Fprintf(&b, "| %s | **%v** %s | %s | %s | %s |\n", f.text, v, f.unit, spread, limit, verdict)
	}
	return b.String()
}

func (f *Figure) judge(v float64) (limit, verdict string) {
	met := true
	switch f.bound {
	case free:
		return "", ""
	case most:
		limit, met = fmt.Sprintf("≤ %v", f.limit), v <= f.limit
	case least:
		limit, met = fmt.Sprintf("≥ %v", f.limit), v >= f.limit
	}
	if met {
		return limit, "met"
	}
	return limit, "**missed**"
}
