package report

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 30 * time.Second

// fakeHub takes batches as the hub does: each once, by its sequence. behave
// decides what becomes of one; it runs under the hub's lock.
type fakeHub struct {
	telemetryv1.UnimplementedTelemetryServiceServer
	t      *testing.T
	behave func(b *telemetryv1.Batch) reaction

	mu       sync.Mutex // guards the fields below
	changed  *sync.Cond
	sequence uint64
	rows     map[string]uint64 // newest requests of each series, by response code
	paths    map[string]int    // records by path
	dropped  map[string]uint64
	streams  int
	received int
	details  []*telemetryv1.Detail
	answers  []*telemetryv1.OrderAnswer
}

// reaction of the hub to one batch.
type reaction struct {
	hold   bool // take it, but say nothing yet
	resync bool // take it and ask for every series
	refuse bool // end the stream with the batch in the trailer
	die    bool // end the stream before it is taken
	lost   bool // take it and end the stream without a word
	newer  bool // take it, and say something that this version does not know
	// orders go with an acknowledgement that confirms nothing.
	orders []*telemetryv1.Order
}

func newFakeHub(t *testing.T, behave func(*telemetryv1.Batch) reaction) *fakeHub {
	h := &fakeHub{t: t, behave: behave, rows: map[string]uint64{}, paths: map[string]int{}, dropped: map[string]uint64{}}
	h.changed = sync.NewCond(&h.mu)
	return h
}

func (h *fakeHub) Push(stream grpc.BidiStreamingServer[telemetryv1.Batch, telemetryv1.Ack]) error {
	h.mu.Lock()
	h.streams++
	h.changed.Broadcast()
	h.mu.Unlock()
	for {
		b, err := stream.Recv()
		if err != nil {
			return nil
		}
		ack, r := h.take(b)
		if len(r.orders) > 0 && stream.Send(&telemetryv1.Ack{Epoch: b.GetEpoch(), Orders: r.orders}) != nil {
			return nil
		}
		switch {
		case r.refuse:
			stream.SetTrailer(metadata.Pairs(vocab.TrailerRefusedSequence, strconv.FormatUint(b.GetSequence(), 10)))
			return status.Error(codes.InvalidArgument, "refused")
		case r.die, r.lost:
			return status.Error(codes.Unavailable, "dying")
		case ack != nil:
			if stream.Send(ack) != nil {
				return nil
			}
		}
	}
}

func (h *fakeHub) take(b *telemetryv1.Batch) (*telemetryv1.Ack, reaction) {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.changed.Broadcast()
	h.received++
	r := reaction{}
	if h.behave != nil {
		r = h.behave(b)
	}
	if !r.refuse && !r.die && b.GetSequence() > h.sequence {
		h.count(b)
	}
	if r.hold || r.refuse || r.die || r.lost {
		return nil, r
	}
	ack := &telemetryv1.Ack{Epoch: b.GetEpoch(), Sequence: h.sequence, Resync: r.resync}
	if r.newer {
		unknown := protowire.AppendTag(nil, 900, protowire.BytesType)
		ack.ProtoReflect().SetUnknown(protowire.AppendString(unknown, "from the future"))
	}
	return ack, r
}

func (h *fakeHub) count(b *telemetryv1.Batch) {
	h.sequence = b.GetSequence()
	for _, a := range b.GetAggregates() {
		h.rows[strconv.Itoa(int(a.GetResponseCode()))] = a.GetRequests()
	}
	for _, d := range b.GetDropped() {
		h.dropped[d.GetReason()] = d.GetRecords()
	}
	h.details = append(h.details, b.GetDetails()...)
	h.answers = append(h.answers, b.GetOrderAnswers()...)
	dec, err := record.NewDecoder()
	if err != nil {
		h.t.Error(err)
		return
	}
	defer dec.Close()
	c, err := dec.Decode(b.GetRecords(), int(b.GetRecordCount()))
	if err != nil {
		h.t.Error(err)
		return
	}
	for row := range c.Rows() {
		if int(c.Edge(row)) >= len(b.GetEdges()) {
			h.t.Errorf("record names edge %d of %d", c.Edge(row), len(b.GetEdges()))
		}
		h.paths[c.Record(row).Path]++
	}
}

// until waits for a state of the hub.
func (h *fakeHub) until(what string, ok func() bool) {
	h.t.Helper()
	late := time.AfterFunc(patience, func() { h.changed.Broadcast() })
	defer late.Stop()
	deadline := time.Now().Add(patience)
	h.mu.Lock()
	defer h.mu.Unlock()
	for !ok() {
		if time.Now().After(deadline) {
			h.t.Fatalf("waited in vain for %s: %d batches on %d streams, %d paths, rows %v", what, h.received, h.streams, len(h.paths), h.rows)
		}
		h.changed.Wait()
	}
}

// site is a sender with its hub.
type site struct {
	*fakeHub
	store  *Store
	sender *Sender
	stop   func() error // ends Run and returns what it returned
}

type fakeGauges struct{}

func (fakeGauges) Saturation() *telemetryv1.Saturation {
	return &telemetryv1.Saturation{Goroutines: 1}
}
func (fakeGauges) PolicyCounters() []*telemetryv1.PolicyCounter { return nil }

func start(t *testing.T, h *fakeHub, store *Store) *site {
	t.Helper()
	return startWithGrace(t, h, store, patience)
}

func startWithGrace(t *testing.T, h *fakeHub, store *Store, grace time.Duration) *site {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	telemetryv1.RegisterTelemetryServiceServer(server, h)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:hub", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	sender, err := NewSender(SenderOptions{
		Store: store, Gauges: fakeGauges{}, Sender: "a", Epoch: 7, Node: &telemetryv1.Identity{Workload: "a"}, Conn: conn, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- sender.Run(ctx, grace) }()
	stop := sync.OnceValue(func() error { cancel(); return <-ran })
	t.Cleanup(func() {
		_ = stop() // its result is the test's to judge
		conn.Close()
		server.Stop()
		<-served
	})
	return &site{fakeHub: h, store: store, sender: sender, stop: stop}
}
