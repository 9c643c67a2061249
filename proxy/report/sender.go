package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/process"
	"github.com/telemesh/telemesh/internal/vocab"
)

const (
	flushEvery = 250 * time.Millisecond
	// awayEvery is the pace while there is no stream: fine enough for the
	// hub's one-second cells, coarse enough to keep minutes of them.
	awayEvery = time.Second
	// insistEvery is the pace of last flushes to a hub that is away.
	insistEvery = 250 * time.Millisecond
	// What is sent and not yet acknowledged is bounded by both.
	maxUnackedBatches = 600
	maxUnackedBytes   = 32 << 20
	// orderedEvery is the least time between two flushes because of orders.
	orderedEvery = 50 * time.Millisecond
	// Gauges are told this often without a request (at process.UntilBeat), so that
	// the hub knows an idle sidecar from a dead one.
	heartbeat = 2 * time.Second
)

// Gauges reads the values that are not counted per request.
type Gauges interface {
	Saturation() *telemetryv1.Saturation
	PolicyCounters() []*telemetryv1.PolicyCounter
}

// SenderOptions is what a Sender needs.
type SenderOptions struct {
	Store  *Store
	Gauges Gauges
	// Sender and Epoch identify the stream, Node is the workload's identity.
	Sender string
	Epoch  uint64
	Node   *telemetryv1.Identity
	Conn   grpc.ClientConnInterface
	Logger *slog.Logger
}

// Sender streams the store's content to the hub: every batch is kept until the
// hub acknowledges it and sent again on the next stream, so an outage shorter
// than the buffers loses nothing and one longer than that loses no count.
type Sender struct {
	o       SenderOptions
	encoder *record.Encoder
	insist  atomic.Int64 // nanoseconds

	// Only Run's goroutine touches what follows.
	sequence      uint64
	unacked       []*telemetryv1.Batch // oldest first
	unackedBytes  int
	unsent        int // index into unacked of the first batch the stream has not carried
	lastHeartbeat time.Time
	lastJudged    time.Time
	lastOrdered   time.Time // when orders were answered last
	away          bool
}

// NewSender returns a sender. Nothing is sent before Run.
func NewSender(o SenderOptions) (*Sender, error) {
	enc, err := record.NewEncoder()
	if err != nil {
		return nil, err
	}
	return &Sender{o: o, encoder: enc}, nil
}

// Insist has the last flush take up to d and be tried again while the hub is
// away, where Run would give up at once: for a process whose end nobody waits
// for. It may be called while Run runs, and again.
func (s *Sender) Insist(d time.Duration) { s.insist.Store(int64(d)) }

// Run sends until ctx ends, then flushes once more and waits up to grace for
// the acknowledgement. It returns only when no stream is open.
func (s *Sender) Run(ctx context.Context, grace time.Duration) error {
	backoff := 50 * time.Millisecond
	lastTries := 3 // after ctx has ended
	var ended time.Time
	for {
		started := time.Now()
		err := s.stream(ctx, grace)
		if ctx.Err() != nil {
			lastTries--
			var refused *refusedError
			if errors.As(err, &refused) && lastTries > 0 {
				continue // without the refused batch the rest has a chance
			}
			if ended.IsZero() {
				ended = time.Now()
			}
			if err != nil && time.Since(ended) < time.Duration(s.insist.Load()) {
				time.Sleep(insistEvery)
				continue
			}
			return err
		}
		if !s.away {
			s.away = true
			s.o.Logger.Warn("hub is away, telemetry is buffered", "error", err)
		}
		if time.Since(started) > 5*time.Second {
			backoff = 50 * time.Millisecond
		}
		s.wait(ctx, backoff/2+rand.N(backoff)) // if ctx ends here, one more stream tries the flush
		backoff = min(2*backoff, time.Second)
	}
}

// wait keeps cutting batches while there is no stream, so that what happened
// in one second is not added to another.
func (s *Sender) wait(ctx context.Context, d time.Duration) {
	pause := time.NewTimer(d)
	defer pause.Stop()
	s.cut(false)
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
}

// stream runs one stream to its end. After ctx ends it flushes, waits for the
// acknowledgement and returns nil.
func (s *Sender) stream(ctx context.Context, grace time.Duration) error {
	open, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	// An unreachable hub must not hold the final flush back.
	stop := context.AfterFunc(ctx, func() { s.cancelAfter(time.Now(), grace, cancel) })
	defer stop()

	stream, err := telemetryv1.NewTelemetryServiceClient(s.o.Conn).Push(open)
	if err != nil {
		return fmt.Errorf("open telemetry stream: %w", err)
	}
	acks, failed := make(chan *telemetryv1.Ack, 16), make(chan error, 1)
	go receive(open, stream, acks, failed)
	defer func() { cancel(); <-failed }() // the receiver has ended when stream returns

	s.unsent = 0 // everything that was not acknowledged goes again
	flush := time.NewTimer(flushEvery)
	defer flush.Stop()
	silent := false // nothing was told with the last flush
	done := ctx.Done()
	stopping := false
	for {
		if err := s.send(stream); err != nil {
			return s.end(stream, acks, failed, err)
		}
		if stopping && len(s.unacked) == 0 {
			return nil
		}
		select {
		case <-flush.C:
			// Without a request there is nothing to wake up for but the heartbeat.
			if silent = !s.cut(true); silent {
				flush.Reset(process.UntilBeat(heartbeat))
			} else {
				flush.Reset(flushEvery)
			}
		case <-s.o.Store.ring.begun:
			if silent {
				silent = false
				flush.Reset(flushEvery)
			}
		case <-s.o.Store.ring.urgent:
			s.cutRecords()
		case ack := <-acks:
			s.acknowledge(ack)
			if orders := ack.GetOrders(); len(orders) > 0 {
				silent = false
				flush.Reset(s.order(orders))
			}
		case err := <-failed:
			failed <- err // for end and the deferred wait
			return s.end(stream, acks, failed, err)
		case <-done:
			stopping, done = true, nil
			s.cut(true)
		}
	}
}

// order has the store look for what the hub asks for, and returns when to tell.
func (s *Sender) order(orders []*telemetryv1.Order) (wait time.Duration) {
	s.o.Store.details.Order(orders)
	now := time.Now()
	wait = max(s.lastOrdered.Add(orderedEvery).Sub(now), 0)
	s.lastOrdered = now.Add(wait)
	return wait
}

// cancelAfter cancels when grace is over, or what Insist says by then.
func (s *Sender) cancelAfter(began time.Time, grace time.Duration, cancel func()) {
	left := time.Until(began.Add(max(grace, time.Duration(s.insist.Load()))))
	if left <= 0 {
		cancel()
		return
	}
	time.AfterFunc(min(left, insistEvery), func() { s.cancelAfter(began, grace, cancel) })
}

// end takes in what the hub said before the stream broke. A failed send says
// only that it did; why comes from the receiver, with the trailer.
func (s *Sender) end(stream grpc.BidiStreamingClient[telemetryv1.Batch, telemetryv1.Ack], acks <-chan *telemetryv1.Ack, failed chan error, cause error) error {
	for {
		select {
		case ack := <-acks:
			s.acknowledge(ack)
			continue
		case err := <-failed:
			failed <- err
			s.acknowledgeAll(acks)
			if errors.Is(cause, io.EOF) {
				cause = err
			}
			if s.forgetRefused(stream.Trailer(), cause) {
				return &refusedError{cause}
			}
			return fmt.Errorf("telemetry stream: %w", cause)
		}
	}
}

// refusedError is the end of a stream because of one batch that is now gone.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }

// receive hands acknowledgements over until the stream ends, then sends one
// error to failed, which must have room.
func receive(ctx context.Context, stream grpc.BidiStreamingClient[telemetryv1.Batch, telemetryv1.Ack], acks chan<- *telemetryv1.Ack, failed chan<- error) {
	for {
		ack, err := stream.Recv()
		if err != nil {
			failed <- err
			return
		}
		select {
		case acks <- ack:
		case <-ctx.Done():
			failed <- ctx.Err()
			return
		}
	}
}

// cut turns what was observed into batches as long as there is room for them.
// Without room the records stay in the ring, which forgets the oldest, and the
// cumulative series wait. It reports whether there was anything but a heartbeat.
func (s *Sender) cut(connected bool) (told bool) {
	every := heartbeat - flushEvery/2 // or a timer's jitter would make it a longer one
	if !connected {
		every = awayEvery
		if time.Since(s.lastHeartbeat) < every {
			return false
		}
	}
	if s.room() {
		// Once, not for each batch: what arrives meanwhile is for the next time.
		// And not while nothing can be sent, because blocks are counted whole.
		s.o.Store.ring.flush()
		s.o.Store.ring.trim()
		if now := time.Now(); now.Sub(s.lastJudged) >= judgeEvery {
			s.lastJudged = now
			s.o.Store.judge()
		}
	}
	for s.room() {
		now := time.Now()
		b, more := s.o.Store.batch(s.encoder, now, connected)
		if b == nil {
			if now.Sub(s.lastHeartbeat) < every {
				return told
			}
			b = &telemetryv1.Batch{TimeUnixNano: now.UnixNano()}
		} else {
			told = true
		}
		s.lastHeartbeat = now
		b.Saturation = s.o.Gauges.Saturation()
		b.PolicyCounters = s.o.Gauges.PolicyCounters()
		for reason, n := range s.o.Store.Dropped() {
			b.Dropped = append(b.Dropped, &telemetryv1.Dropped{Reason: reason, Records: n})
		}
		s.enqueue(b)
		if !more {
			return told
		}
	}
	return told
}

// cutRecords takes whole blocks off the ring, while what they hold is still in
// the processor's cache. What is counted follows with the next cut.
func (s *Sender) cutRecords() {
	for s.room() {
		b, more := s.o.Store.recordBatch(s.encoder, time.Now())
		if b != nil {
			s.enqueue(b)
		}
		if !more {
			return
		}
	}
}

// room reports whether another batch may wait for its acknowledgement.
func (s *Sender) room() bool {
	return len(s.unacked) < maxUnackedBatches && s.unackedBytes < maxUnackedBytes
}

func (s *Sender) enqueue(b *telemetryv1.Batch) {
	s.sequence++
	b.Sender, b.Epoch, b.Sequence, b.Node = s.o.Sender, s.o.Epoch, s.sequence, s.o.Node
	s.unacked = append(s.unacked, b)
	s.unackedBytes += proto.Size(b)
}

func (s *Sender) send(stream grpc.BidiStreamingClient[telemetryv1.Batch, telemetryv1.Ack]) error {
	for s.unsent < len(s.unacked) {
		if err := stream.Send(s.unacked[s.unsent]); err != nil {
			return fmt.Errorf("send batch %d: %w", s.unacked[s.unsent].GetSequence(), err)
		}
		s.unsent++
	}
	return nil
}

func (s *Sender) acknowledgeAll(acks <-chan *telemetryv1.Ack) {
	for {
		select {
		case ack := <-acks:
			s.acknowledge(ack)
		default:
			return
		}
	}
}

// forgetRefused drops the one batch that the hub says it will never take, lest
// it be sent for ever, and reports whether there was one. Its counts come again
// with rows that tell every series once more.
func (s *Sender) forgetRefused(trailer metadata.MD, err error) bool {
	named := trailer.Get(vocab.TrailerRefusedSequence)
	if len(named) == 0 {
		return false
	}
	sequence, parseErr := strconv.ParseUint(named[0], 10, 64)
	if parseErr != nil {
		return false
	}
	i := slices.IndexFunc(s.unacked, func(b *telemetryv1.Batch) bool { return b.GetSequence() == sequence })
	if i < 0 {
		return false
	}
	b := s.unacked[i]
	s.unackedBytes -= proto.Size(b)
	s.unacked = slices.Delete(s.unacked, i, i+1)
	s.o.Store.drop(reasonRefused, int(b.GetRecordCount()))
	s.o.Store.retell()
	s.o.Logger.Error("hub refused a batch, its records are lost", "sequence", sequence, "records", b.GetRecordCount(), "error", err)
	return true
}

// acknowledge forgets every batch up to the acknowledged one. One that brings
// orders may say again what another has said, or nothing: sequence 0.
func (s *Sender) acknowledge(ack *telemetryv1.Ack) {
	if ack.GetEpoch() != s.o.Epoch {
		return
	}
	if s.away {
		s.away = false
		s.o.Logger.Info("hub is back, telemetry flows", "resent", len(s.unacked))
	}
	if ack.GetResync() {
		s.o.Store.retell()
	}
	n := 0
	for n < len(s.unacked) && s.unacked[n].GetSequence() <= ack.GetSequence() {
		s.unackedBytes -= proto.Size(s.unacked[n])
		s.unacked[n] = nil
		n++
	}
	s.unacked = s.unacked[n:]
	s.unsent = max(s.unsent-n, 0)
}
