// Package ingest takes the sidecars' batches in: checked, written to the log,
// counted once, acknowledged when durable.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/histogram"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/telemetry-hub/counters"
	"github.com/telemesh/telemesh/telemetry-hub/memory"
)

// MaxBatchBytes bounds one batch on the wire.
const MaxBatchBytes = 8 << 20

const (
	// queueBatches waits for the writer, as long as admission has bytes for them;
	// beyond either streams wait, and so do the sidecars' buffers, which are bounded
	// themselves.
	queueBatches = 256
	// group bounds how many batches one sync covers.
	group = 128
)

// Log makes batches durable.
type Log interface {
	Append(*telemetryv1.Batch, *record.Columns) error
	Sync() error
}

// Accepted is a batch that was new, with what it added.
type Accepted struct {
	Batch   *telemetryv1.Batch
	Columns *record.Columns
	Deltas  []counters.Delta
	// Details and Answers came with the batch, which has them no more: the log is
	// not for them. They are the receiver's.
	Details []*telemetryv1.Detail
	Answers []*telemetryv1.OrderAnswer
}

// Options of a Server.
type Options struct {
	Log   Log
	State *counters.State
	// Accept sees every new batch in the order of the log. It must not block, nor
	// keep the columns; what it takes out of them is its own.
	Accept func(Accepted)
	// MemoryLimit is what the process should stay below, 0 for no limit. A share of
	// it is for batches under way, and less when the process comes near it.
	MemoryLimit int64
	Logger      *slog.Logger
}

// Server is the telemetry service, for a gRPC server with Codec. Run must run for
// streams to proceed.
type Server struct {
	telemetryv1.UnimplementedTelemetryServiceServer
	o       Options
	decoder *record.Decoder
	columns sync.Pool // of *record.Columns, that are used again when their batch is done
	queue   chan pending
	m       meters

	admission *admission
	pressure  *pressure

	outboxes outboxes
}

type pending struct {
	accepted Accepted
	ticket   *ticket
	done     chan<- result
}

type result struct {
	ack *telemetryv1.Ack
	err error
}

type meters struct {
	batches  *prometheus.CounterVec
	rejected *prometheus.CounterVec
	records  prometheus.Counter
	duration prometheus.Histogram
	streams  prometheus.Gauge
}

// New returns a server that registers its metrics on reg.
func New(o Options, reg prometheus.Registerer) (*Server, error) {
	d, err := record.NewDecoder()
	if err != nil {
		return nil, err
	}
	m := meters{
		batches:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: vocab.MetricHubBatches, Help: "Batches by what became of them."}, []string{"result"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Name: vocab.MetricHubRejected, Help: "Input refused, by reason."}, []string{"reason"}),
		records:  prometheus.NewCounter(prometheus.CounterOpts{Name: vocab.MetricHubRecords, Help: "Thin records taken in."}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: vocab.MetricHubIngestDuration, Help: "Time from a batch's arrival until it is durable.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: vocab.MetricHubStreams, Help: "Open telemetry streams."}),
	}
	for _, r := range []string{"accepted", "duplicate", "rejected"} {
		m.batches.WithLabelValues(r)
	}
	s := &Server{
		o: o, decoder: d, columns: sync.Pool{New: func() any { return new(record.Columns) }}, queue: make(chan pending, queueBatches), m: m,
	}
	depth := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: vocab.MetricHubQueue, Help: "Batches that wait to be written to the log."},
		func() float64 { return float64(len(s.queue)) })
	reg.MustRegister(m.batches, m.rejected, m.records, m.duration, m.streams, depth)
	held := newHeld(reg)
	s.admission = newAdmission(budgetOf(o.MemoryLimit), func(reason string) { held.WithLabelValues(reason).Inc() })
	s.pressure = &pressure{limit: o.MemoryLimit, usage: memory.NewUsage().Read, admission: s.admission, log: o.Logger}
	reg.MustRegister(newAdmissionCollector(s.admission, s.pressure))
	return s, nil
}

// Push implements the telemetry service.
func (s *Server) Push(stream grpc.BidiStreamingServer[telemetryv1.Batch, telemetryv1.Ack]) error {
	s.m.streams.Inc()
	defer s.m.streams.Dec()
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	results := make(chan result, queueBatches)
	box := &outbox{orders: make(chan *telemetryv1.Order, maxWaiting)}
	defer s.outboxes.close(box)
	sent := make(chan error, 1)
	go func() { sent <- acknowledge(ctx, stream, results, box) }()
	received := make(chan error, 1)
	go func() { received <- s.receive(ctx, stream, results, box) }()

	select {
	case err := <-received:
		cancel()
		if sendErr := <-sent; err == nil {
			err = sendErr
		}
		return err
	case err := <-sent: // receive waits for the sender, and ends when this returns
		return err
	}
}

// receive hands batches to the writer until the stream ends. A batch that
// cannot be taken ends the stream with its sequence in the trailer, so that the
// sender gives up on that one and no other.
func (s *Server) receive(ctx context.Context, stream grpc.BidiStreamingServer[telemetryv1.Batch, telemetryv1.Ack], results chan<- result, box *outbox) error {
	for {
		if s.admission.gate(ctx) != nil {
			return nil
		}
		var f frame
		err := stream.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil { // gRPC has ended the stream, and ctx, where it refused a message itself
			s.countTransport(err)
			return err
		}
		t, err := s.admission.admit(ctx, f.weight())
		if err != nil {
			f.free()
			return nil
		}
		b, err := f.decode()
		f.free()
		if err != nil {
			s.admission.done(t)
			err = status.Errorf(codes.Internal, "unmarshal batch: %v", err)
			s.countTransport(err)
			return err
		}
		columns, err := s.check(b)
		if err != nil {
			s.admission.done(t)
			s.reject(b, err)
			stream.SetTrailer(metadata.Pairs(vocab.TrailerRefusedSequence, strconv.FormatUint(b.GetSequence(), 10)))
			return status.Error(codes.InvalidArgument, err.Error())
		}
		s.outboxes.open(box, b)
		select {
		case s.queue <- pending{accepted: Accepted{Batch: b, Columns: columns}, ticket: t, done: results}:
		case <-ctx.Done():
			s.admission.done(t)
			return nil
		}
	}
}

// countTransport counts input that gRPC itself refused.
func (s *Server) countTransport(err error) {
	switch status.Code(err) {
	case codes.ResourceExhausted:
		s.m.rejected.WithLabelValues("oversized").Inc()
		s.m.batches.WithLabelValues("rejected").Inc()
	case codes.Internal, codes.InvalidArgument:
		s.m.rejected.WithLabelValues("malformed").Inc()
		s.m.batches.WithLabelValues("rejected").Inc()
	}
}

func (s *Server) reject(b *telemetryv1.Batch, err error) {
	reason := "invalid"
	switch {
	case errors.Is(err, record.ErrNewer):
		reason = "newer_sender"
	case errors.Is(err, record.ErrCorrupt):
		reason = "corrupt_records"
	}
	s.m.rejected.WithLabelValues(reason).Inc()
	s.m.batches.WithLabelValues("rejected").Inc()
	s.o.Logger.Warn("batch refused", "sender", b.GetSender(), "sequence", b.GetSequence(), "error", err)
}

// acknowledge sends the newest acknowledgement; results come in the order of
// the sequences, so an older one is covered by it. Orders go with one that says
// the newest sequence again.
func acknowledge(ctx context.Context, stream grpc.BidiStreamingServer[telemetryv1.Batch, telemetryv1.Ack], results <-chan result, box *outbox) error {
	newest := uint64(0)
	for {
		select {
		case r := <-results:
			if r.err != nil {
				return status.Error(codes.Unavailable, r.err.Error())
			}
			newest = r.ack.GetSequence()
			if err := stream.Send(r.ack); err != nil {
				return err
			}
		case o := <-box.orders:
			if err := stream.Send(&telemetryv1.Ack{Epoch: box.epoch, Sequence: newest, Orders: box.gather(o)}); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// check refuses what would break an invariant further on. The error is for the
// sender.
func (s *Server) check(b *telemetryv1.Batch) (*record.Columns, error) {
	switch {
	case b.GetSender() == "" || len(b.GetSender()) > 256:
		return nil, errors.New("sender must have 1 to 256 bytes")
	case b.GetEpoch() == 0 || b.GetSequence() == 0:
		return nil, errors.New("epoch and sequence start at 1")
	case b.GetRecordCount() > record.MaxRows:
		return nil, fmt.Errorf("%d records are more than %d", b.GetRecordCount(), record.MaxRows)
	}
	for i, a := range b.GetAggregates() {
		if err := checkRow(b, a); err != nil {
			return nil, fmt.Errorf("aggregate %d: %w", i, err)
		}
	}
	if err := checkDetails(b); err != nil {
		return nil, err
	}
	columns := s.columns.Get().(*record.Columns)
	if err := s.decoder.DecodeTo(columns, b.GetRecords(), int(b.GetRecordCount())); err != nil {
		s.columns.Put(columns)
		return nil, err
	}
	for row := range columns.Rows() {
		if int(columns.Edge(row)) >= len(b.GetEdges()) {
			return nil, fmt.Errorf("record %d names edge %d of %d", row, columns.Edge(row), len(b.GetEdges()))
		}
	}
	return columns, nil
}

func checkRow(b *telemetryv1.Batch, a *telemetryv1.Aggregate) error {
	switch {
	case int(a.GetEdge()) >= len(b.GetEdges()):
		return fmt.Errorf("edge %d of %d", a.GetEdge(), len(b.GetEdges()))
	case len(a.GetDurationIndex()) != len(a.GetDurationCount()):
		return errors.New("histogram indexes and counts differ in number")
	case len(a.GetDurationBucket()) != len(vocab.DurationBuckets)+1,
		len(a.GetRequestBytesBucket()) != len(vocab.SizeBuckets)+1,
		len(a.GetResponseBytesBucket()) != len(vocab.SizeBuckets)+1:
		return errors.New("wrong number of buckets")
	}
	for _, index := range a.GetDurationIndex() {
		if index >= histogram.Buckets {
			return fmt.Errorf("histogram index %d", index)
		}
	}
	return nil
}

// Run writes batches until ctx ends: as many as wait are appended, one sync
// makes them durable, then all are acknowledged.
func (s *Server) Run(ctx context.Context) error {
	defer s.decoder.Close()
	watch := errgroup.Group{}
	watch.Go(func() error { return s.pressure.run(ctx) })
	for {
		select {
		case p := <-s.queue:
			s.commit(s.gather(p))
		case <-ctx.Done():
			return watch.Wait()
		}
	}
}

func (s *Server) gather(first pending) []pending {
	list := []pending{first}
	for len(list) < group {
		select {
		case p := <-s.queue:
			list = append(list, p)
		default:
			return list
		}
	}
	return list
}

// commit appends, counts and syncs a group. Counting comes before the sync, so
// that a checkpoint written in between covers what the log holds; the
// acknowledgement comes after it.
func (s *Server) commit(list []pending) {
	acks := make([]*telemetryv1.Ack, len(list))
	var failed error
	for i, p := range list {
		b := p.accepted.Batch
		v := s.o.State.Judge(b)
		acks[i] = &telemetryv1.Ack{Epoch: b.GetEpoch(), Sequence: b.GetSequence(), Resync: v.Resync}
		if v.Duplicate {
			s.m.batches.WithLabelValues("duplicate").Inc()
			continue
		}
		if failed != nil {
			continue
		}
		p.accepted.Details, p.accepted.Answers = b.GetDetails(), b.GetOrderAnswers()
		b.Details, b.OrderAnswers = nil, nil
		if failed = s.o.Log.Append(b, p.accepted.Columns); failed != nil {
			continue
		}
		p.accepted.Deltas = s.o.State.Apply(b)
		s.o.Accept(p.accepted)
		s.m.batches.WithLabelValues("accepted").Inc()
		s.m.records.Add(float64(p.accepted.Columns.Rows()))
	}
	if failed == nil {
		failed = s.o.Log.Sync()
	}
	if failed != nil {
		s.m.rejected.WithLabelValues("storage").Inc()
		s.o.Logger.Error("batches are not durable, senders keep them and try again", "batches", len(list), "error", failed)
	}
	for i, p := range list {
		s.reuse(p.accepted.Columns)
		s.m.duration.Observe(time.Since(p.ticket.came).Seconds())
		s.admission.done(p.ticket)
		select {
		case p.done <- result{ack: acks[i], err: failed}:
		default: // its stream is gone; the sender will ask again
		}
	}
}

// reusedRows is the size up to which a batch's memory is used again. A sidecar's
// have a thousand records; what is far larger should not stay.
const reusedRows = 1 << 13

func (s *Server) reuse(c *record.Columns) {
	if c.Rows() <= reusedRows {
		s.columns.Put(c)
	}
}

// Stats are the counts of the hub's status page.
func (s *Server) Stats() (accepted, duplicate, rejected, records uint64) {
	return read(s.m.batches.WithLabelValues("accepted")), read(s.m.batches.WithLabelValues("duplicate")),
		read(s.m.batches.WithLabelValues("rejected")), read(s.m.records)
}
