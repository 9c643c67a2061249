package ingest

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/telemetry-hub/counters"
)

// patience bounds a test that would otherwise hang; nothing is timed with it.
const patience = 30 * time.Second

// fakeLog records what was asked of it.
type fakeLog struct {
	mu                  sync.Mutex // guards the fields below
	appended            []uint64   // sequences
	syncs               int
	failAppend, failNow error
	// hold, if set, is received from before a sync returns.
	hold chan struct{}
	// asked gets one value for each sync that is held.
	asked chan struct{}
}

func (l *fakeLog) Append(b *telemetryv1.Batch, _ *record.Columns) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failAppend != nil {
		return l.failAppend
	}
	l.appended = append(l.appended, b.GetSequence())
	return nil
}

func (l *fakeLog) Sync() error {
	if l.hold != nil {
		l.asked <- struct{}{}
		<-l.hold
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncs++
	return l.failNow
}

func (l *fakeLog) fail(appends, syncs error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failAppend, l.failNow = appends, syncs
}

func (l *fakeLog) sequences() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]uint64{}, l.appended...)
}

// rig is an ingest server behind gRPC.
type rig struct {
	*Server
	t       *testing.T
	log     *fakeLog
	conn    *grpc.ClientConn
	encoder *record.Encoder

	mu       sync.Mutex // guards the fields below
	accepted []Accepted // their columns are used again
	records  []record.Record
}

func newRig(t *testing.T, log *fakeLog) *rig {
	r := &rig{t: t, log: log}
	s, err := New(Options{
		Log: log, State: counters.New(), Logger: slog.New(slog.DiscardHandler),
		Accept: func(a Accepted) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.accepted = append(r.accepted, a)
			for row := range a.Columns.Rows() {
				r.records = append(r.records, a.Columns.Record(row))
			}
		},
	}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if r.encoder, err = record.NewEncoder(); err != nil {
		t.Fatal(err)
	}
	r.Server = s
	ctx, cancel := context.WithCancel(t.Context())
	ran, served := make(chan error, 1), make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	server, l := grpc.NewServer(Codec(), grpc.MaxRecvMsgSize(MaxBatchBytes), grpc.WaitForHandlers(true)), bufconn.Listen(1<<20)
	telemetryv1.RegisterTelemetryServiceServer(server, s)
	go func() { served <- server.Serve(l) }()
	r.conn, err = grpc.NewClient("passthrough:hub", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.conn.Close() // the server ends what is left
		server.Stop()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) open() grpc.BidiStreamingClient[telemetryv1.Batch, telemetryv1.Ack] {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	r.t.Cleanup(cancel)
	stream, err := telemetryv1.NewTelemetryServiceClient(r.conn).Push(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return stream
}

// push sends a batch and takes its acknowledgement.
func (r *rig) push(stream grpc.BidiStreamingClient[telemetryv1.Batch, telemetryv1.Ack], b *telemetryv1.Batch) (*telemetryv1.Ack, error) {
	r.t.Helper()
	if err := stream.Send(b); err != nil {
		r.t.Fatal(err)
	}
	return stream.Recv()
}

// batch has one record and one row that says so many requests in total.
func (r *rig) batch(sequence, requests uint64) *telemetryv1.Batch {
	return &telemetryv1.Batch{
		Sender: "a-1", Epoch: 7, Sequence: sequence,
		Edges: []*telemetryv1.Edge{{Reporter: telemetryv1.Reporter_REPORTER_SOURCE, DestinationService: "b"}},
		Aggregates: []*telemetryv1.Aggregate{{
			Protocol: "http", ResponseCode: 200, Verdict: vocab.VerdictOK, Requests: requests,
			DurationIndex: []uint32{8}, DurationCount: []uint64{requests}, DurationBucket: make([]uint64, len(vocab.DurationBuckets)+1),
			RequestBytesBucket: make([]uint64, len(vocab.SizeBuckets)+1), ResponseBytesBucket: make([]uint64, len(vocab.SizeBuckets)+1),
		}},
		Records: r.encoder.Append(nil, record.BlockOf([]record.Record{{Start: time.Unix(1, 0), Path: "/"}})), RecordCount: 1,
	}
}

// eventually waits for a state that no message announces.
func eventually(t *testing.T, what string, reached func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !reached() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("never: " + what)
		}
	}
}
