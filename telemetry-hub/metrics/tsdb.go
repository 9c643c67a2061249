package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

const (
	sampleEvery  = time.Second
	maxExemplars = 20_000
)

// Database is the embedded TSDB and what fills it.
type Database struct {
	db       *tsdb.DB
	gatherer prometheus.Gatherer
	log      *slog.Logger
	refs     map[uint64]storage.SeriesRef // by hash of the labels; only Sample touches it
	seen     map[uint64]int64             // newest exemplar of a series, likewise
	known    map[uint64]bool              // counters with a zero before their first value, likewise
	last     int64
	damages  uint64 // found when it was opened
}

// OpenDatabase opens the TSDB in dir. A damaged one is set aside, since its
// content can be measured again but a hub that does not start helps nobody.
func OpenDatabase(dir string, retention time.Duration, g prometheus.Gatherer, log *slog.Logger) (*Database, error) {
	var own *prometheus.Registry // the TSDB repairs itself and tells only there
	open := func() (*tsdb.DB, error) {
		own = prometheus.NewRegistry()
		o := tsdb.DefaultOptions()
		o.RetentionDuration = retention.Milliseconds()
		o.EnableExemplarStorage = true
		o.MaxExemplars = maxExemplars
		return tsdb.Open(dir, log.With("part", "tsdb"), own, o, nil)
	}
	var damages uint64
	db, err := open()
	if err != nil {
		damages++
		aside := dir + ".damaged-" + strconv.FormatInt(time.Now().Unix(), 10)
		log.Error("metrics database is damaged, it is set aside and a new one begins", "dir", dir, "aside", filepath.Base(aside), "error", err)
		if err := os.Rename(dir, aside); err != nil {
			return nil, fmt.Errorf("set damaged metrics database aside: %w", err)
		}
		if db, err = open(); err != nil {
			return nil, fmt.Errorf("open metrics database: %w", err)
		}
	}
	damages += repairs(own)
	if damages > 0 {
		log.Error("metrics database was damaged, some samples are lost", "dir", dir, "damages", damages)
	}
	return &Database{
		damages: damages, db: db, gatherer: g, log: log,
		refs: make(map[uint64]storage.SeriesRef), seen: make(map[uint64]int64), known: make(map[uint64]bool),
	}, nil
}

// Damages counts what was found damaged when the database was opened.
func (d *Database) Damages() uint64 { return d.damages }

// repairs counts the damaged places that a TSDB found in itself.
func repairs(own prometheus.Gatherer) uint64 {
	families, err := own.Gather()
	if err != nil {
		return 0 // its metrics are a convenience
	}
	var n float64
	for _, f := range families {
		switch f.GetName() {
		case "prometheus_tsdb_wal_corruptions_total", "prometheus_tsdb_mmap_chunk_corruptions_total":
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return uint64(n)
}

// Run samples until ctx ends, then once more, and closes the database.
func (d *Database) Run(ctx context.Context) error {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := d.Sample(time.Now()); err != nil {
				d.log.Error("sample of the metrics failed", "error", err)
			}
		case <-ctx.Done():
			return errors.Join(d.Sample(time.Now()), d.db.Close())
		}
	}
}

// Sample appends the registry's values at t. It must not be called
// concurrently.
func (d *Database) Sample(t time.Time) error {
	families, err := d.gatherer.Gather()
	if err != nil {
		return fmt.Errorf("gather: %w", err)
	}
	at := t.UnixMilli()
	if at <= d.last {
		return nil // a clock that was set back; TSDB takes no older samples
	}
	s := sample{d: d, app: d.db.Appender(context.Background()), at: at}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			s.metric(f, m)
		}
	}
	if s.err != nil {
		return errors.Join(s.err, s.app.Rollback())
	}
	if err := s.app.Commit(); err != nil {
		return fmt.Errorf("commit sample: %w", err)
	}
	d.last = at
	return nil
}

// sample is one pass over the registry.
type sample struct {
	d   *Database
	app storage.Appender
	at  int64
	err error
}

func (s *sample) metric(f *dto.MetricFamily, m *dto.Metric) {
	name := f.GetName()
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		s.counter(name, m, m.GetCounter().GetValue(), "", "")
	case dto.MetricType_GAUGE:
		s.append(name, m, m.GetGauge().GetValue(), "", "")
	case dto.MetricType_UNTYPED:
		s.append(name, m, m.GetUntyped().GetValue(), "", "")
	case dto.MetricType_SUMMARY:
		s.counter(name+"_sum", m, m.GetSummary().GetSampleSum(), "", "")
		s.counter(name+"_count", m, float64(m.GetSummary().GetSampleCount()), "", "")
		for _, q := range m.GetSummary().GetQuantile() {
			s.append(name, m, q.GetValue(), "quantile", number(q.GetQuantile()))
		}
	case dto.MetricType_HISTOGRAM:
		s.histogram(name, m)
	}
}

func (s *sample) histogram(name string, m *dto.Metric) {
	h := m.GetHistogram()
	infinite := false
	for _, b := range h.GetBucket() {
		infinite = infinite || math.IsInf(b.GetUpperBound(), 1)
		ref, ls := s.counter(name+"_bucket", m, float64(b.GetCumulativeCount()), "le", number(b.GetUpperBound()))
		s.exemplar(ref, ls, b.GetExemplar())
	}
	if !infinite {
		s.counter(name+"_bucket", m, float64(h.GetSampleCount()), "le", "+Inf")
	}
	s.counter(name+"_sum", m, h.GetSampleSum(), "", "")
	s.counter(name+"_count", m, float64(h.GetSampleCount()), "", "")
}

// counter appends a counter's value and, before its first, a zero: a series
// that begins at 1 would hide its first event from rate().
func (s *sample) counter(name string, m *dto.Metric, v float64, label, value string) (storage.SeriesRef, labels.Labels) {
	ls := seriesLabels(name, m, label, value)
	hash := ls.Hash()
	if !s.d.known[hash] {
		s.d.known[hash] = true
		if s.d.last > 0 && v > 0 { // not for what was counted before this hub started
			s.put(hash, ls, s.d.last+1, 0)
		}
	}
	return s.put(hash, ls, s.at, v), ls
}

func (s *sample) append(name string, m *dto.Metric, v float64, label, value string) {
	ls := seriesLabels(name, m, label, value)
	s.put(ls.Hash(), ls, s.at, v)
}

func (s *sample) put(hash uint64, ls labels.Labels, at int64, v float64) storage.SeriesRef {
	ref, err := s.app.Append(s.d.refs[hash], ls, at, v)
	switch {
	case err == nil:
		s.d.refs[hash] = ref
	case errors.Is(err, storage.ErrOutOfOrderSample), errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		// the zero of a series that existed before a restart, or a clock set back
	default:
		s.err = errors.Join(s.err, err)
	}
	return ref
}

func (s *sample) exemplar(ref storage.SeriesRef, ls labels.Labels, e *dto.Exemplar) {
	if e == nil || ref == 0 {
		return
	}
	at := e.GetTimestamp().AsTime().UnixMilli()
	hash := ls.Hash()
	if at <= s.d.seen[hash] {
		return
	}
	s.d.seen[hash] = at
	b := labels.NewScratchBuilder(len(e.GetLabel()))
	for _, l := range e.GetLabel() {
		b.Add(l.GetName(), l.GetValue())
	}
	b.Sort()
	// Exemplars are a convenience; one out of order is no reason to lose a sample.
	_, _ = s.app.AppendExemplar(ref, ls, exemplar.Exemplar{Labels: b.Labels(), Value: e.GetValue(), Ts: at, HasTs: true})
}

func seriesLabels(name string, m *dto.Metric, label, value string) labels.Labels {
	b := labels.NewScratchBuilder(len(m.GetLabel()) + 2)
	b.Add(model.MetricNameLabel, name)
	for _, l := range m.GetLabel() {
		if l.GetValue() != "" { // an empty label is no label
			b.Add(l.GetName(), l.GetValue())
		}
	}
	if label != "" {
		b.Add(label, value)
	}
	b.Sort()
	return b.Labels()
}

// number writes a bound as client_golang does.
func number(f float64) string {
	if math.IsInf(f, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}
