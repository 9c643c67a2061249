package ingest

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/vocab"
)

// capture reads the batches of a file of testdata.
func capture(t *testing.T, file string) (batches []*telemetryv1.Batch) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			t.Fatal("no capture")
		}
		one := &telemetryv1.Batch{}
		if err := proto.Unmarshal(b[used:used+int(n)], one); err != nil {
			t.Fatal(err)
		}
		batches, b = append(batches, one), b[used+int(n):]
	}
	return batches
}

func TestBatchesOfOlderSidecarsAreTakenIn(t *testing.T) {
	files, err := filepath.Glob("testdata/wire-*.bin")
	if err != nil || len(files) < 2 {
		t.Fatalf("captures %q, error %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r := newRig(t, &fakeLog{})
			stream := r.open()
			var want []record.Record
			for i, b := range capture(t, file) {
				if ack, err := r.push(stream, b); err != nil || ack.GetSequence() != uint64(i+1) || ack.GetResync() {
					t.Fatalf("batch %d: ack %v, error %v", i, ack, err)
				}
				want = append(want, wireRecords(uint64(i+1))...)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if diff := cmp.Diff(want, r.records); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			var requests uint64
			for _, a := range r.accepted {
				for _, d := range a.Deltas {
					requests += d.Row.GetRequests()
				}
			}
			last := r.accepted[1].Batch
			if requests != 20 || last.GetSaturation().GetReportQueueRatio() != 0.5 || last.GetDropped()[0].GetRecords() != 2 ||
				last.GetEdges()[1].GetDestination().GetWorkload() != "ratings-v1" {
				t.Errorf("%d requests counted, last batch %v", requests, last)
			}
		})
	}
}

// future gives a message fields that this version does not have.
func future(m proto.Message) {
	b := protowire.AppendTag(nil, 900, protowire.BytesType)
	b = protowire.AppendString(b, "from the future")
	b = protowire.AppendTag(b, 901, protowire.VarintType)
	m.ProtoReflect().SetUnknown(protoreflect.RawFields(protowire.AppendVarint(b, 12)))
}

// withColumn gives a block, which must not be compressed, one more column.
func withColumn(t *testing.T, block []byte, number uint64, kind byte, body string) []byte {
	t.Helper()
	if block[0] != 1 {
		t.Fatal("the block is compressed, or of another version")
	}
	block = append(binary.AppendUvarint(block, number), kind)
	return append(binary.AppendUvarint(block, uint64(len(body))), body...)
}

func TestBatchesOfNewerSidecarsAreTakenInWithoutWhatIsNew(t *testing.T) {
	r := newRig(t, &fakeLog{})
	want := wireRecords(2)
	b := r.batch(1, 3)
	b.Records, b.RecordCount = r.encoder.Append(nil, record.BlockOf(want)), uint32(len(want))
	for _, c := range []struct {
		number uint64
		kind   byte
		body   string
	}{{28, 1, strings.Repeat("\x02", len(want))}, {63, 77, "a kind of its own"}, {1 << 40, 4, "\x00"}} {
		b.Records = withColumn(t, b.Records, c.number, c.kind, c.body)
	}
	b.Edges = append(b.Edges, &telemetryv1.Edge{Reporter: 9, Source: &telemetryv1.Identity{Workload: "c"}})
	b.Aggregates = append(b.Aggregates, proto.CloneOf(b.Aggregates[0]))
	b.Aggregates[1].Edge, b.Aggregates[1].Protocol, b.Aggregates[1].Verdict = 1, "http3", "deferred"
	future(b)
	future(b.Edges[0])
	future(b.Aggregates[0])
	if ack, err := r.push(r.open(), b); err != nil || ack.GetSequence() != 1 {
		t.Fatalf("ack %v, error %v", ack, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if diff := cmp.Diff(want, r.records); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if n := len(r.accepted[0].Deltas); n != 2 || r.accepted[0].Deltas[0].Row.GetRequests() != 3 {
		t.Errorf("%d rows counted", n)
	}
}

func TestARefusedNewerBatchSaysWhichSideToUpgrade(t *testing.T) {
	for name, c := range map[string]struct {
		number uint64
		kind   byte
		body   string
	}{
		"a known column of a new kind":        {vocab.ColCode, 77, "\x00"},
		"a start in another form":             {vocab.ColStart, 4, "\x01\x05later"},
		"an identifier in another form":       {vocab.ColTraceID, 5, "\x07"},
		"an identifier of another width":      {vocab.ColSpanID, 3, "0123456789abcdef"},
		"a version that is yet to be made up": {0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, &fakeLog{})
			b := r.batch(1, 1)
			if c.number == 0 {
				b.Records[0] = 2
			} else { // a block of one row with the column in place of the usual one
				b.Records = []byte{1, 1}
				for number, body := range map[uint64]string{vocab.ColStart: "\x02", vocab.ColTraceID: "0123456789abcdef", vocab.ColSpanID: "01234567"} {
					if number == c.number {
						continue
					}
					kind := byte(3)
					if number == vocab.ColStart {
						kind = 1
					}
					b.Records = withColumn(t, b.Records, number, kind, body)
				}
				b.Records = withColumn(t, b.Records, c.number, c.kind, c.body)
			}
			_, err := r.push(r.open(), b)
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "upgrade mesh-hub before the sidecars") {
				t.Errorf("error %v, want InvalidArgument that names the side to upgrade", err)
			}
		})
	}
}

// wireRecords are the records of a captured batch: those of the first have texts that repeat and all columns,
// those of the second mostly ids, which later versions do not compress.
func wireRecords(sequence uint64) []record.Record {
	rs := make([]record.Record, 20)
	for i := range rs {
		n := byte(i + 1)
		rs[i] = record.Record{
			Start: time.Unix(1_790_000_000, int64(i)*1e6), Duration: time.Duration(i) * time.Millisecond,
			TraceID: [16]byte{n, byte(sequence), 15: n}, SpanID: [8]byte{n, 7: 1}, Edge: uint32(i % 2),
			Protocol: "http", Method: "GET", Path: "/", Code: 200, Attempts: 1, Verdict: "ok",
		}
		if sequence == 2 {
			continue
		}
		r := &rs[i]
		r.ParentSpanID, r.FirstByte, r.RequestID = [8]byte{n}, time.Duration(i)*time.Microsecond, string(rune('a'+i))
		r.HTTPVersion, r.Path, r.Host, r.Route = "HTTP/1.1", "/reviews/"+string(rune('0'+i%7)), "reviews:9080", "inbound|9080||"
		r.BytesIn, r.BytesOut, r.Upstream, r.UserAgent, r.Sampled = uint64(i*100), uint64(i*1000), "127.0.0.1:9080", "Mozilla/5.0", i%3 == 0
		if i%5 == 0 {
			r.Code, r.Flags, r.Detail, r.GRPCStatus = 503, "UF,URX", "upstream_reset", 15
			r.Verdict, r.Rule, r.Attributes = "denied", "default/p/r", map[string]string{"tenant": "a&b", "tier": "gold"}
		}
	}
	return rs
}
