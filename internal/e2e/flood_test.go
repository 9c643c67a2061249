//go:build e2e

package e2e

import (
	"context"
	bits "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	topologyv1 "github.com/telemesh/telemesh/api/topology/v1"
)

// What a flood consists of: batches of 3 MiB that do not compress, and are some
// 12 MiB once they are decoded, 32 streams of them.
const (
	floodStreams = 32
	floodBatches = 3 // of each stream
	floodRows    = 2048
	floodText    = 1500 // bytes of each path
	floodLimit   = 256 << 20
)

// TestAFloodDoesNotTakeTheMemory sends far more at once than the hub may hold.
// What it acknowledges is there, also after a restart, and it takes in more.
func TestAFloodDoesNotTakeTheMemory(t *testing.T) {
	dir := t.TempDir()
	h := startFloodHub(t, dir)
	senders := make([]*flooder, floodStreams)
	for i := range senders {
		senders[i] = newFlooder(t, h.GRPC, i)
	}
	all, ctx := errgroup.WithContext(t.Context())
	for _, s := range senders {
		all.Go(func() error { return s.send(ctx, floodBatches) })
	}
	if err := all.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, h.errs)
	}
	// Who was held up goes on.
	if err := senders[0].send(t.Context(), 1); err != nil {
		t.Fatalf("after the flood: %v\n%s", err, h.errs)
	}
	// Half of the limit beyond it is for what the Go runtime does not count: pages of
	// files, the program itself, and how late a collection comes.
	peak := peakRSS(t, h.cmd.Process.Pid)
	t.Logf("peak resident memory %d MiB under a limit of %d MiB", peak>>20, floodLimit>>20)
	if peak > floodLimit*3/2 {
		t.Errorf("peak resident memory %d MiB under a limit of %d MiB", peak>>20, floodLimit>>20)
	}
	metrics, err := get(h.HTTP + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(metrics), "mesh_hub_memory_limit_bytes "+fmt.Sprint(float64(floodLimit))) ||
		strings.Contains(string(metrics), `mesh_hub_admission_held_total{reason="budget"} 0`) {
		t.Errorf("no batch was held, or the limit is not in force:\n%s", grep(string(metrics), "mesh_hub_admission", "mesh_hub_memory"))
	}
	whole(t, h, senders)
	_ = h.cmd.Process.Kill() // nothing that was acknowledged may need an orderly end
	<-h.done
	whole(t, startFloodHub(t, dir), senders)
}

// floodHub is a mesh-hub with its addresses.
type floodHub struct {
	*child
	HTTP, GRPC string
}

func startFloodHub(t *testing.T, dir string) *floodHub {
	t.Helper()
	file := filepath.Join(t.TempDir(), "addresses.json")
	h := &floodHub{child: start(t, []string{"GOMEMLIMIT=" + strconv.Itoa(floodLimit)}, binary(t, "mesh-hub"),
		"--data-dir", dir, "--http-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0", "--address-file", file,
		"--seal-after", "1h", "--seal-bytes", "1073741824")} // sealing has a bound of its own
	eventually(t, time.Minute, "the hub listens", func() error {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return json.Unmarshal(b, h)
	})
	h.HTTP = "http://" + h.HTTP
	return h
}

// whole looks whether the hub has all that it acknowledged, and some of it closely.
func whole(t *testing.T, h *floodHub, senders []*flooder) {
	t.Helper()
	want := uint64(0)
	for _, s := range senders {
		want += s.acked * floodRows
	}
	eventually(t, time.Minute, "the hub answers", func() error { _, err := get(h.HTTP + "/api/mesh/v1/status"); return err })
	var status topologyv1.Status
	if err := getJSON(h.HTTP+"/api/mesh/v1/status", &status); err != nil {
		t.Fatal(err)
	}
	if status.Store.Records != want {
		t.Errorf("the hub has %d records, and acknowledged %d", status.Store.Records, want)
	}
	for _, s := range senders {
		var found topologyv1.Trace
		trace := s.trace(s.acked, floodRows-1)
		if err := getJSON(fmt.Sprintf("%s/api/mesh/v1/requests/%x", h.HTTP, trace), &found); err != nil {
			t.Errorf("sender %d: %v", s.number, err)
		}
	}
}

// flooder is one sender, which sends without waiting for acknowledgements.
type flooder struct {
	number   int
	random   *rand.ChaCha8
	stream   grpc.BidiStreamingClient[telemetryv1.Batch, telemetryv1.Ack]
	encoder  *record.Encoder
	sequence uint64
	acked    uint64
}

func newFlooder(t *testing.T, address string, number int) *flooder {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // its hub may be gone
	s := &flooder{number: number, random: rand.NewChaCha8([32]byte{byte(number)})}
	if s.stream, err = telemetryv1.NewTelemetryServiceClient(conn).Push(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.encoder, err = record.NewEncoder(); err != nil {
		t.Fatal(err)
	}
	return s
}

// send sends n batches at once and waits until all are acknowledged.
func (s *flooder) send(ctx context.Context, n int) error {
	for range n {
		s.sequence++
		if err := s.stream.Send(s.batch()); err != nil {
			if errors.Is(err, io.EOF) { // why it ended, Recv says
				_, err = s.stream.Recv()
			}
			return fmt.Errorf("sender %d, batch %d: %w", s.number, s.sequence, err)
		}
	}
	for s.acked < s.sequence && ctx.Err() == nil {
		ack, err := s.stream.Recv()
		if err != nil {
			return fmt.Errorf("sender %d, after batch %d: %w", s.number, s.acked, err)
		}
		s.acked = ack.GetSequence()
	}
	return ctx.Err()
}

func (s *flooder) trace(sequence uint64, row int) (id [16]byte) {
	bits.BigEndian.PutUint32(id[:], uint32(s.number)+1)
	bits.BigEndian.PutUint32(id[4:], uint32(sequence))
	bits.BigEndian.PutUint64(id[8:], uint64(row)+1)
	return id
}

func (s *flooder) batch() *telemetryv1.Batch {
	var block record.Block
	now, text := time.Now(), make([]byte, floodText)
	for i := range floodRows {
		_, _ = s.random.Read(text) // never fails
		block.Add(&record.Record{
			Start: now, Duration: time.Millisecond, TraceID: s.trace(s.sequence, i), SpanID: [8]byte{byte(s.number), byte(i), byte(i >> 8), 1},
			Protocol: "http", Method: "GET", Path: string(text), Code: 200, Verdict: "ok",
		})
	}
	me := &telemetryv1.Identity{Namespace: "default", Workload: "flood", Service: "flood", Instance: fmt.Sprint("flood-", s.number)}
	return &telemetryv1.Batch{
		Sender: me.GetInstance(), Epoch: 7, Sequence: s.sequence, TimeUnixNano: now.UnixNano(), Node: me,
		Edges:   []*telemetryv1.Edge{{Reporter: telemetryv1.Reporter_REPORTER_SOURCE, Source: me, Destination: &telemetryv1.Identity{Workload: "b", Service: "b"}}},
		Records: s.encoder.Append(nil, &block), RecordCount: uint32(block.Rows()),
	}
}

// peakRSS is the most memory that a process had, in bytes.
func peakRSS(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	t.Fatal("no VmHWM in /proc; this test needs Linux")
	return 0
}

// grep is the lines that begin with one of the words.
func grep(text string, words ...string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		for _, w := range words {
			if strings.HasPrefix(line, w) {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}
