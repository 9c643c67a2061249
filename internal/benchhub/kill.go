package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/recordgen"
	"github.com/telemesh/telemesh/internal/scrape"
	"github.com/telemesh/telemesh/internal/vocab"
)

// kills ends a hub under load at random moments. Whatever it acknowledged must be
// there after all of them, and nothing twice: senders send again what was not, as
// sidecars do.
func kills(ctx context.Context, o options) error {
	random := rand.New(rand.NewPCG(o.seed, 3))
	k, err := newKiller(o)
	if err != nil {
		return err
	}
	for round := range o.rounds {
		if err := k.round(ctx, time.Duration(random.Int64N(int64(150*time.Millisecond)))); err != nil {
			return fmt.Errorf("kill %d: %w", round+1, err)
		}
		if (round+1)%20 == 0 {
			fmt.Printf("%d kills, %d records sent\n", round+1, k.records)
		}
	}
	return k.verify(ctx)
}

// killer is the mesh that outlives its hubs.
type killer struct {
	o       options
	encoder *record.Encoder
	mesh    *recordgen.Mesh
	senders map[*recordgen.Sender]*resender
	samples []sample
	records int
	// tolerated damages, which are not of records
	tolerated uint64
}

func newKiller(o options) (*killer, error) {
	e, err := record.NewEncoder()
	if err != nil {
		return nil, err
	}
	k := &killer{o: o, encoder: e, mesh: recordgen.New(recordgen.Options{Seed: o.seed, Replicas: 1, Step: step}), senders: make(map[*recordgen.Sender]*resender)}
	for _, s := range k.mesh.Senders {
		k.senders[s] = &resender{epoch: uint64(time.Now().UnixNano())}
	}
	return k, nil
}

// waiting counts the batches that are not acknowledged.
func (k *killer) waiting() (n int) {
	for _, r := range k.senders {
		n += len(r.unsent())
	}
	return n
}

// resender is one sender: what was not acknowledged is sent to the next hub.
type resender struct {
	epoch, sequence uint64

	mu      sync.Mutex // guards the field below
	waiting []*telemetryv1.Batch
}

func (r *resender) acknowledged(sequence uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.waiting) > 0 && r.waiting[0].GetSequence() <= sequence {
		r.waiting = r.waiting[1:]
	}
}

func (r *resender) unsent() []*telemetryv1.Batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*telemetryv1.Batch(nil), r.waiting...)
}

func (r *resender) add(b *telemetryv1.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sequence++
	b.Epoch, b.Sequence = r.epoch, r.sequence
	r.waiting = append(r.waiting, b)
}

// start starts a hub that seals all the time.
func (k *killer) start(ctx context.Context) (*hub, error) {
	return startHub(ctx, filepath.Join(k.o.bin, "mesh-hub"), k.o.dir, "--seal-bytes", "200000", "--seal-after", "300ms", "--log-level", "warn")
}

// round has a hub live for so long under load.
func (k *killer) round(ctx context.Context, life time.Duration) error {
	h, err := k.start(ctx)
	if err != nil {
		return err
	}
	streams, err := k.connect(ctx, h, k.mesh.Senders)
	if err != nil {
		return errors.Join(err, h.kill())
	}
	killed := make(chan error, 1)
	time.AfterFunc(life, func() { killed <- h.kill() })
	for until := time.Now().Add(life); time.Now().Before(until); {
		k.load(streams)
	}
	err = <-killed
	streams.close()
	return err
}

// streams are the senders' connections to one hub.
type streams struct {
	open  map[*recordgen.Sender]grpc.BidiStreamingClient[telemetryv1.Batch, telemetryv1.Ack]
	conns []*grpc.ClientConn
	acks  sync.WaitGroup
	ended atomic.Int32 // that the hub has ended
}

// connect opens a stream for each of the senders and sends what waits.
func (k *killer) connect(ctx context.Context, h *hub, senders []*recordgen.Sender) (*streams, error) {
	s := &streams{open: make(map[*recordgen.Sender]grpc.BidiStreamingClient[telemetryv1.Batch, telemetryv1.Ack])}
	for _, sender := range senders {
		c, err := grpc.NewClient(h.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		s.conns = append(s.conns, c)
		stream, err := telemetryv1.NewTelemetryServiceClient(c).Push(ctx)
		if err != nil {
			return nil, err
		}
		s.open[sender] = stream
		r := k.senders[sender]
		s.acks.Go(func() {
			for {
				ack, err := stream.Recv()
				if err != nil { // killed, or refused
					s.ended.Add(1)
					return
				}
				r.acknowledged(ack.GetSequence())
			}
		})
		for _, b := range r.unsent() {
			_ = stream.Send(b) // what a killed hub did not take is sent to the next one
		}
	}
	return s, nil
}

func (s *streams) close() {
	for _, c := range s.conns {
		_ = c.Close() // the other end is gone
	}
	s.acks.Wait()
}

// load sends some requests' records, a batch of each sender that saw them.
func (k *killer) load(all ...*streams) {
	for range 20 {
		trace, records := k.mesh.Request()
		k.samples = append(k.samples, sample{trace, records})
		k.records += records
	}
	for _, sender := range k.mesh.Senders {
		if sender.Block.Rows() > 0 {
			k.send(sender, all...)
		}
	}
	time.Sleep(2 * time.Millisecond)
}

// send sends a batch of what a sender has to tell, by the stream that is its.
func (k *killer) send(sender *recordgen.Sender, all ...*streams) {
	b := sender.Batch(k.encoder, time.Now())
	k.senders[sender].add(b)
	for _, s := range all {
		if stream := s.open[sender]; stream != nil {
			_ = stream.Send(b) // what a killed hub did not take is sent to the next one
		}
	}
}

// verify starts a last hub, sends it the rest, and counts.
func (k *killer) verify(ctx context.Context) (err error) {
	h, err := k.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.kill()) }()
	streams, err := k.connect(ctx, h, k.mesh.Senders)
	if err != nil {
		return err
	}
	defer streams.close()
	for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if k.waiting() == 0 {
			break
		}
		if time.Now().After(until) {
			return fmt.Errorf("%d batches are not acknowledged", k.waiting())
		}
	}
	return k.count(ctx, h)
}

// count compares what a hub has with what was sent.
func (k *killer) count(ctx context.Context, h *hub) error {
	s, err := h.status(ctx)
	if err != nil {
		return err
	}
	counted, err := scrape.Sum(ctx, h.http, vocab.MetricRequests, nil)
	if err != nil {
		return err
	}
	fmt.Printf("%d records sent, %d kept in %d segments and the log, %.0f counted, %d corruptions\n",
		k.records, s.Store.Records, s.Store.Segments, counted, s.Store.Corruptions)
	if s.Store.Records != uint64(k.records) || int(counted) != k.records || s.Store.Corruptions > k.tolerated {
		return errors.New("records were lost, kept twice, or miscounted")
	}
	for i := 0; i < len(k.samples); i += max(len(k.samples)/5000, 1) {
		if _, err := h.lookUp(ctx, k.samples[i]); err != nil {
			return err
		}
	}
	fmt.Println("every request looked up has all its records, once")
	return nil
}
