package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/recordgen"
)

// sample is a request that is looked up later, with the number of its records.
type sample struct {
	trace   [16]byte
	records int
}

// load sends the records of a mesh to a hub as its sidecars do: one stream each.
type load struct {
	mesh    *recordgen.Mesh
	encoder *record.Encoder
	pushers map[*recordgen.Sender]*pusher
	samples []sample
	silent  []*recordgen.Sender
	every   int // one request in so many is a sample
	rows    int // records that a batch has
	made    int // requests
	records int
}

// pusher is one sender's stream.
type pusher struct {
	stream   grpc.BidiStreamingClient[telemetryv1.Batch, telemetryv1.Ack]
	close    func() error
	epoch    uint64
	sequence uint64
	acked    atomic.Uint64
	slots    chan struct{} // batches on their way
	failed   chan struct{} // closed when the stream has ended
	err      error         // why it has; read it once failed is closed
	done     sync.WaitGroup
}

// inFlight bounds a sender's batches on their way, as a sidecar does.
const inFlight = 16

func newLoad(ctx context.Context, o recordgen.Options, rows, every int, grpcAddress string) (*load, error) {
	e, err := record.NewEncoder()
	if err != nil {
		return nil, err
	}
	l := &load{mesh: recordgen.New(o), encoder: e, rows: rows, every: every, pushers: make(map[*recordgen.Sender]*pusher)}
	for _, s := range l.mesh.Senders {
		p, err := newPusher(ctx, grpcAddress)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.pushers[s] = p
	}
	return l, nil
}

func newPusher(ctx context.Context, address string) (*pusher, error) {
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	p := &pusher{close: c.Close, epoch: uint64(time.Now().UnixNano()), slots: make(chan struct{}, inFlight), failed: make(chan struct{})}
	if p.stream, err = telemetryv1.NewTelemetryServiceClient(c).Push(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	p.done.Go(p.receive)
	return p, nil
}

// receive takes the acknowledgements; each may stand for several batches.
func (p *pusher) receive() {
	for {
		ack, err := p.stream.Recv()
		if err != nil {
			p.err = err
			close(p.failed) // who waits for room finds out
			return
		}
		for p.acked.Load() < ack.GetSequence() {
			p.acked.Add(1)
			<-p.slots
		}
	}
}

// push sends a batch when there is room for one more on its way. Its error is
// the one that ended the stream.
func (p *pusher) push(b *telemetryv1.Batch) error {
	select {
	case p.slots <- struct{}{}:
	case <-p.failed:
		return p.err
	}
	p.sequence++
	b.Epoch, b.Sequence = p.epoch, p.sequence
	err := p.stream.Send(b)
	if errors.Is(err, io.EOF) { // the stream has ended, and only Recv says why
		<-p.failed
		return p.err
	}
	return err
}

// only has no more than n sidecars report; what others saw is not made.
func (l *load) only(n int) {
	for i, s := range l.mesh.Senders {
		if i >= n {
			l.silent = append(l.silent, s)
		}
	}
	l.mesh.Senders = l.mesh.Senders[:min(n, len(l.mesh.Senders))]
}

// forget drops what silent sidecars saw, and returns how many records that were.
func (l *load) forget() (n int) {
	for _, s := range l.silent {
		n += s.Block.Rows()
		s.Block.Reset()
	}
	return n
}

// send makes requests until n records more are made, and sends what fills a
// batch.
func (l *load) send(n int) error {
	for until := l.records + n; l.records < until; {
		trace, records := l.mesh.Request()
		if l.made%l.every == 0 {
			l.samples = append(l.samples, sample{trace, records})
		}
		l.made++
		l.records += records - l.forget()
		if l.made%16 == 0 {
			if err := l.flush(l.rows); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush sends the batches of those that have at least so many records.
func (l *load) flush(least int) error {
	for _, s := range l.mesh.Senders {
		if s.Block.Rows() >= least && s.Block.Rows() > 0 {
			if err := l.pushers[s].push(s.Batch(l.encoder, l.mesh.Now())); err != nil {
				return fmt.Errorf("send of %s: %w", s.Node.GetInstance(), err)
			}
		}
	}
	return nil
}

// settle sends the rest and waits until all is acknowledged.
func (l *load) settle(ctx context.Context) error {
	if err := l.flush(1); err != nil {
		return err
	}
	for _, p := range l.pushers {
		for p.acked.Load() < p.sequence {
			select {
			case <-time.After(time.Millisecond):
			case <-p.failed:
				return p.err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

func (l *load) close() error {
	var errs []error
	for _, p := range l.pushers {
		errs = append(errs, p.close())
		p.done.Wait()
	}
	return errors.Join(errs...)
}
