package command

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
	"github.com/telemesh/telemesh/cmd/meshctl/internal/render"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/telemetry-hub/segment"
	"github.com/telemesh/telemesh/telemetry-hub/store"
)

// widest is how many of the segments with the longest spans are listed.
const widest = 5

type storeStats struct {
	SchemaVersion  int            `json:"schemaVersion"`
	Segments       int            `json:"segments"`
	Records        int            `json:"records"` // in segments
	Bytes          int64          `json:"bytes"`   // of segments and their indexes
	BytesPerRecord float64        `json:"bytesPerRecord"`
	First          *time.Time     `json:"first,omitempty"` // start of the first record
	Last           *time.Time     `json:"last,omitempty"`
	Logs           logStats       `json:"logs"`
	Services       []serviceStats `json:"services"`
	Widest         []segmentStats `json:"widestSegments"`
}

type logStats struct {
	Files     int    `json:"files"`
	Bytes     int64  `json:"bytes"`
	Unsealed  int    `json:"unsealed"`
	OnlyInLog uint64 `json:"recordsOnlyInLog"`
}

type serviceStats struct {
	Service         string `json:"service"`
	Rows            uint64 `json:"rows"`
	SourceRows      uint64 `json:"sourceRows"`
	DestinationRows uint64 `json:"destinationRows"`
	Errors          uint64 `json:"errors"` // rows
}

type segmentStats struct {
	File    string    `json:"file"`
	Records int       `json:"records"`
	Bytes   int64     `json:"bytes"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

func (s *segmentStats) span() time.Duration { return s.Last.Sub(s.First) }

func (a *app) storeStatsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stats DIR",
		Short: "Say what a record store holds",
		Long: `Say what a record store holds: segments, records, bytes, times, rows of each service. It reads the
indexes and the logs that are not sealed yet, and no records. A hop inside the mesh has two rows, one of
each side.`,
		Example: `  meshctl store stats /var/lib/mesh-hub/records
  meshctl store stats /var/lib/mesh-hub/records -o json`,
		Args: arguments(1, 1, "one DIR"),
	}
	o := outputFlag(cmd, formatTable, formatJSON, formatYAML)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.check(cmd); err != nil {
			return err
		}
		files, err := listStore(args[0])
		if err != nil {
			return err
		}
		stats, damaged, err := a.storeStats(files)
		if err != nil {
			return err
		}
		done, err := o.document(a.Out, stats, nil)
		if !done {
			err = writeStoreStats(a.Out, stats, a.style())
		}
		if err == nil && damaged > 0 {
			err = &ExitError{Code: CodeFailure, Err: fmt.Errorf("%s could not be read whole", render.Count(damaged, "file")), Hint: "`meshctl store verify` says what is damaged and what to do"}
		}
		return err
	}
	return cmd
}

// storeStats reads the indexes and the logs. What is damaged is warned of,
// counted and left out.
func (a *app) storeStats(files store.Files) (stats *storeStats, damaged int, err error) {
	d, err := segment.NewDecoder()
	if err != nil {
		return nil, 0, err
	}
	defer d.Close()
	opened, missing, errs := openStore(files, d)
	defer closeStore(opened)
	a.warnMissing(missing)
	stats = &storeStats{SchemaVersion: topologyv1.SchemaVersion, Segments: len(opened), Services: []serviceStats{}, Widest: []segmentStats{}}
	services := make(map[string]*serviceStats)
	for _, r := range opened {
		stats.add(r)
		list, err := r.Aggregates()
		if err != nil {
			errs = append(errs, err)
		}
		for i := range list {
			addService(services, &list[i])
		}
	}
	errs = append(errs, stats.Logs.read(files.Logs)...)
	for _, err := range errs {
		a.warn("%v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		stats.Services = append(stats.Services, *services[name])
	}
	slices.SortStableFunc(stats.Services, func(x, y serviceStats) int { return cmp.Compare(y.Rows, x.Rows) })
	slices.SortStableFunc(stats.Widest, func(x, y segmentStats) int { return cmp.Compare(y.span(), x.span()) })
	stats.Widest = stats.Widest[:min(widest, len(stats.Widest))]
	if stats.Records > 0 {
		stats.BytesPerRecord = float64(stats.Bytes) / float64(stats.Records)
	}
	return stats, len(errs), nil
}

func (s *storeStats) add(r *store.SegmentReader) {
	s.Records += r.Rows()
	s.Bytes += r.Bytes
	if r.Rows() == 0 {
		return
	}
	from, to := r.Span()
	first, last := time.Unix(0, from).UTC(), time.Unix(0, to).UTC()
	if s.First == nil || first.Before(*s.First) {
		s.First = &first
	}
	if s.Last == nil || last.After(*s.Last) {
		s.Last = &last
	}
	s.Widest = append(s.Widest, segmentStats{File: r.Name(), Records: r.Rows(), Bytes: r.Bytes, First: first, Last: last})
}

func addService(services map[string]*serviceStats, g *segment.Aggregate) {
	name := cmp.Or(g.Edge.GetDestination().GetService(), vocab.Unknown)
	s := services[name]
	if s == nil {
		s = &serviceStats{Service: name}
		services[name] = s
	}
	s.Rows += g.Requests
	s.Errors += g.Errors
	if g.FromSource() {
		s.SourceRows += g.Requests
	} else {
		s.DestinationRows += g.Requests
	}
}

// read counts the logs, and the records of those that are not sealed. A torn
// tail is no damage: the hub may be writing.
func (l *logStats) read(logs []store.LogFile) (errs []error) {
	for _, f := range logs {
		info, err := os.Stat(f.Path)
		if err != nil { // dropped by the hub since
			continue
		}
		l.Files++
		l.Bytes += info.Size()
		if f.Sealed {
			continue
		}
		c, err := store.CheckLog(f.Path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if c.Records > 0 {
			l.Unsealed++
			l.OnlyInLog += c.Records
		}
		for _, d := range c.Damaged {
			if !d.Torn {
				errs = append(errs, fmt.Errorf("%s from byte %d to %d: %w", filepath.Base(f.Path), d.From, d.To, d.Reason))
			}
		}
	}
	return errs
}

// text is a line for people.
func (l *logStats) text() string {
	if l.Files == 0 {
		return "No logs.\n"
	}
	all, where := "all their records are sealed", "them"
	switch {
	case l.Files == 1:
		all, where = "all its records are sealed", "it"
	case l.Unsealed < l.Files:
		where = fmt.Sprintf("%d of them", l.Unsealed)
	}
	if l.OnlyInLog > 0 {
		all = l.unsealedIn(where) + " and not counted here"
	}
	return fmt.Sprintf("%s, %s: %s.\n", render.Count(l.Files, "log"), render.Bytes(uint64(l.Bytes)), all)
}

// unsealedIn says how many records are only in logs, where is which.
func (l *logStats) unsealedIn(where string) string {
	are := "are"
	if l.OnlyInLog == 1 {
		are = "is"
	}
	return fmt.Sprintf("%s in %s %s not sealed yet", render.Count(l.OnlyInLog, "record"), where, are)
}

// clock is a moment as people compare it.
const clock = "2006-01-02 15:04:05"

// segmentsText is a line or two for people.
func (s *storeStats) segmentsText() string {
	if s.Segments == 0 {
		return "No segments yet.\n"
	}
	with := "with their indexes"
	if s.Segments == 1 {
		with = "with its index"
	}
	text := fmt.Sprintf("%s: %s in %s %s", render.Count(s.Segments, "segment"), render.Count(s.Records, "record"), render.Bytes(uint64(s.Bytes)), with)
	if s.Records == 0 {
		return text + ".\n"
	}
	return text + fmt.Sprintf(", %.1f bytes a record.\nRequests began from %s to %s UTC, within %s.\n",
		s.BytesPerRecord, s.First.Format(clock), s.Last.Format(clock), s.Last.Sub(*s.First).Round(time.Second))
}

func writeStoreStats(w io.Writer, s *storeStats, style render.Style) error {
	var b strings.Builder
	b.WriteString(s.segmentsText() + s.Logs.text())
	if len(s.Services) > 0 {
		b.WriteString("\nRows by the service called, as each side of the hop told:\n")
		t := &render.Table{Header: []string{"SERVICE", "ROWS", "SOURCE", "DESTINATION", "ERRORS", "ERROR%"}}
		t.Numbers(t.Header[1:]...)
		for _, v := range s.Services {
			t.Row(v.Service, v.Rows, v.SourceRows, v.DestinationRows, v.Errors, render.Share(float64(v.Errors)/float64(max(v.Rows, 1))))
		}
		if err := t.Write(&b, style); err != nil {
			return err
		}
		b.WriteString("\nSegments that span the longest time:\n")
		t = &render.Table{Header: []string{"FILE", "RECORDS", "SIZE", "SPAN", "FROM", "TO"}}
		t.Numbers("RECORDS", "SIZE", "SPAN")
		for i := range s.Widest {
			v := &s.Widest[i]
			t.Row(v.File, v.Records, render.Bytes(uint64(v.Bytes)), v.span().Round(time.Millisecond), v.First.Format(clock), v.Last.Format(clock))
		}
		if err := t.Write(&b, style); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
