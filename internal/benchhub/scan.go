package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/telemesh/telemesh/internal/figures"
	"github.com/telemesh/telemesh/internal/histogram"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
)

// scans asks the sealed segments what an engine would be asked, in this process
// and on one core, warm.
func scans(ctx context.Context, dir string, r *figures.Report) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil || len(paths) == 0 {
		return errors.Join(err, errors.New("no segment to scan"))
	}
	decoder, err := segment.NewDecoder()
	if err != nil {
		return err
	}
	defer decoder.Close()
	var all []*segment.Segment
	rows, last := 0, int64(0)
	for _, p := range paths {
		s, done, err := open(p, decoder)
		if err != nil {
			return err
		}
		defer done()
		all = append(all, s)
		rows += s.Rows()
		if _, end := s.Span(); end > last {
			last = end
		}
	}
	from := time.Unix(0, last).Add(-15 * time.Minute)
	var failed, grouped []float64
	for range 7 {
		took, _, err := measure(ctx, all, segment.Query{From: from, Destination: "reviews", Failed: true, Columns: []segment.Column{segment.TraceID, segment.Start, segment.Code}}, func(*segment.Rows) {})
		if err != nil {
			return err
		}
		failed = append(failed, took.Seconds()*1000/(float64(rows)/1e6))
		groups := newGroups()
		took, n, err := measure(ctx, all, segment.Query{From: from, Columns: []segment.Column{segment.SourceService, segment.DestinationService, segment.Code, segment.Duration}}, groups.add)
		if err != nil {
			return err
		}
		grouped = append(grouped, float64(n)/took.Seconds()/1e6)
	}
	r.Set("errors_ms_per_million", failed...)
	r.Set("group_by_million_rows_per_second", grouped...)
	return nil
}

func open(path string, d *segment.Decoder) (*segment.Segment, func(), error) {
	data, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	index, err := os.Open(segment.IndexPath(path))
	if err != nil {
		return nil, nil, errors.Join(err, data.Close())
	}
	done := func() { _, _ = data.Close(), index.Close() } // only read
	info, err := index.Stat()
	if err != nil {
		done()
		return nil, nil, err
	}
	s, err := segment.Open(segment.LocalRange{R: data}, index, info.Size(), segment.Options{Name: path, Decoder: d})
	if err != nil {
		done()
	}
	return s, done, err
}

func measure(ctx context.Context, all []*segment.Segment, q segment.Query, each func(*segment.Rows)) (took time.Duration, rows int, err error) {
	from := selfCPU()
	for _, s := range all {
		if err := s.Scan(ctx, q, func(r *segment.Rows) bool {
			rows += len(r.Selected())
			each(r)
			return true
		}); err != nil {
			return 0, 0, err
		}
	}
	return selfCPU() - from, rows, nil
}

// groups count requests and durations by source, destination and code.
type groups struct {
	by    map[groupKey]int
	cells [][histogram.Buckets]uint32
}

type groupKey struct {
	source, destination string
	code                int64
}

func newGroups() *groups { return &groups{by: make(map[groupKey]int)} }

func (g *groups) add(r *segment.Rows) {
	sources, source := r.Texts(segment.SourceService)
	destinations, destination := r.Texts(segment.DestinationService)
	codes, durations := r.Ints(segment.Code), r.Ints(segment.Duration)
	// Of a row group's few pairs each is looked up once; codes are mostly one.
	places := make([]int, len(sources)*len(destinations))
	for i := range places {
		places[i] = -1
	}
	for _, row := range r.Selected() {
		pair := int(source[row])*len(destinations) + int(destination[row])
		at := places[pair]
		if at < 0 || codes[row] != 200 {
			k := groupKey{sources[source[row]], destinations[destination[row]], codes[row]}
			var ok bool
			if at, ok = g.by[k]; !ok {
				at = len(g.cells)
				g.by[k], g.cells = at, append(g.cells, [histogram.Buckets]uint32{})
			}
			if codes[row] == 200 {
				places[pair] = at
			}
		}
		g.cells[at][histogram.Index(uint64(durations[row]))]++
	}
}
