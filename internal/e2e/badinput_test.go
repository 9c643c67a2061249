//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/telemesh/telemesh/api/telemetry/record"
	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
	"github.com/telemesh/telemesh/internal/scrape"
	"github.com/telemesh/telemesh/internal/vocab"
)

// malformed are heads that are not HTTP, with the status that they deserve.
var malformed = []struct {
	name, head string
	status     int
}{
	{"bad request line", "GARBAGE AND NO REQUEST\r\n\r\n", 400},
	{"bad version", "GET / HTTP/9.9\r\nHost: ratings\r\n\r\n", 505},
	{"bad header", "GET /ratings/0 HTTP/1.1\r\nHost: ratings\r\nno colon here\r\n\r\n", 400},
	{"space before colon", "GET /ratings/0 HTTP/1.1\r\nHost: ratings\r\nContent-Length : 3\r\n\r\nabc", 400},
	{"two lengths", "POST /ratings/0 HTTP/1.1\r\nHost: ratings\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400},
	{"NUL", "GET /ratings/0 HTTP/1.1\r\nHost: ratings\r\nX-Bad: a\x00b\r\n\r\n", 400},
	{"oversized head", "GET /ratings/0 HTTP/1.1\r\nHost: ratings\r\nX-Long: " + strings.Repeat("a", 128<<10) + "\r\n\r\n", 431},
}

// throw writes bytes to an address and returns the status of the answer after
// the other end has closed the connection.
func throw(address, head string) (int, error) {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, err
	}
	// The other end may refuse before it has read everything.
	go func() { _, _ = io.WriteString(c, head) }()
	answer := bufio.NewReader(c)
	resp, err := http.ReadResponse(answer, nil)
	if err != nil {
		return 0, fmt.Errorf("read the answer: %w", err)
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, answer) // to the end of the connection
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return resp.StatusCode, errors.New("the connection stays open")
	}
	return resp.StatusCode, nil
}

// inbound is the inbound address of a workload's sidecar.
func (d *demo) inbound(workload string) string {
	d.t.Helper()
	var dump struct{ Addresses map[string]string }
	if err := getJSON("http://"+d.Admins[workload]+"/config_dump", &dump); err != nil {
		d.t.Fatal(err)
	}
	return dump.Addresses["inbound"]
}

func TestMalformedHTTPIsRefusedCountedAndSurvived(t *testing.T) {
	d := startDemo(t, "--rate", "5")
	client := d.through()
	for _, side := range []struct{ direction, address, workload string }{
		{vocab.DirectionInbound, d.inbound("ratings-v1"), "ratings-v1"},
		{vocab.DirectionOutbound, d.Outbound, "loadgen-v1"},
	} {
		admin := "http://" + d.Admins[side.workload]
		errorsOf := map[string]string{vocab.LabelDirection: side.direction}
		for _, m := range malformed {
			t.Run(side.direction+" "+m.name, func(t *testing.T) {
				before, err := scrape.Sum(t.Context(), admin, vocab.MetricProtocolErrors, errorsOf)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := throw(side.address, m.head); got != m.status || err != nil {
					t.Errorf("answer %d, %v; want %d and the connection closed", got, err, m.status)
				}
				if after, err := scrape.Sum(t.Context(), admin, vocab.MetricProtocolErrors, errorsOf); err != nil || after != before+1 {
					t.Errorf("%s rose from %.0f to %.0f, %v", vocab.MetricProtocolErrors, before, after, err)
				}
				if a, err := call(client, ratingsURL); err != nil || a.status != http.StatusOK {
					t.Errorf("a sound request is answered %d %q, %v", a.status, a.body, err)
				}
			})
		}
	}
	page, err := scrape.Get(t.Context(), "http://"+d.Admins["ratings-v1"])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range page[vocab.MetricProtocolErrors].GetMetric() {
		if len(m.GetLabel()) != 2 {
			t.Errorf("labels %v, want direction and reason", m.GetLabel())
		}
	}
}

// raw sends bytes as they are where gRPC expects a message.
type raw struct{ encoding.CodecV2 }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not bytes", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (raw) Name() string { return "proto" }

// push opens a telemetry stream, sends, and returns how the stream ended.
func (d *demo) push(t *testing.T, send func(telemetryv1.TelemetryServiceClient, context.Context) error) *status.Status {
	t.Helper()
	conn, err := grpc.NewClient(d.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	return status.Convert(send(telemetryv1.NewTelemetryServiceClient(conn), ctx))
}

// batch sends one batch and returns why the stream ended.
func batch(b *telemetryv1.Batch) func(telemetryv1.TelemetryServiceClient, context.Context) error {
	return func(c telemetryv1.TelemetryServiceClient, ctx context.Context) error {
		stream, err := c.Push(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(b); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		_, err = stream.Recv()
		return err
	}
}

// garbled sends bytes that are no batch.
func garbled(c telemetryv1.TelemetryServiceClient, ctx context.Context) error {
	stream, err := c.Push(ctx, grpc.ForceCodecV2(raw{}))
	if err != nil {
		return err
	}
	if err := stream.SendMsg([]byte("\xff\xff\xff\xff this is no message")); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err = stream.Recv()
	return err
}

// stranger is a batch that would be taken.
func stranger() *telemetryv1.Batch {
	return &telemetryv1.Batch{
		Sender: "stranger", Epoch: 1, Sequence: 1, TimeUnixNano: time.Now().UnixNano(),
		Node:  &telemetryv1.Identity{Namespace: "default", Workload: "stranger-v1", Service: "stranger"},
		Edges: []*telemetryv1.Edge{{Reporter: telemetryv1.Reporter_REPORTER_SOURCE, DestinationService: "stranger"}},
	}
}

// records encodes thin records that name an edge.
func records(t *testing.T, rs ...record.Record) []byte {
	t.Helper()
	e, err := record.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	return e.Append(nil, record.BlockOf(rs))
}

func TestBadTelemetryIsRefusedCountedAndSurvived(t *testing.T) {
	d := startDemo(t, "--rate", slow)
	client := d.through()
	one := record.Record{Start: time.Now(), Protocol: "http", Edge: 7}
	oversized, disagreeing, corrupt, beyond, row := stranger(), stranger(), stranger(), stranger(), stranger()
	oversized.Records = make([]byte, 9<<20)
	disagreeing.Records, disagreeing.RecordCount = records(t, one), 2
	corrupt.Records, corrupt.RecordCount = []byte("no block at all"), 1
	beyond.Records, beyond.RecordCount = records(t, one), 1
	row.Aggregates = []*telemetryv1.Aggregate{{Edge: 3, Requests: 1}}
	for _, c := range []struct {
		name   string
		send   func(telemetryv1.TelemetryServiceClient, context.Context) error
		code   codes.Code
		says   string
		reason string
	}{
		{"garbage in a stream", garbled, codes.Internal, "unmarshal", "malformed"},
		{"oversized batch", batch(oversized), codes.ResourceExhausted, "larger than max", "oversized"},
		{"columns disagree", batch(disagreeing), codes.InvalidArgument, "rows", "corrupt_records"},
		{"no columns", batch(corrupt), codes.InvalidArgument, "corrupt record block", "corrupt_records"},
		{"record's edge out of range", batch(beyond), codes.InvalidArgument, "edge 7 of 1", "invalid"},
		{"series' edge out of range", batch(row), codes.InvalidArgument, "edge 3 of 1", "invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			reason := map[string]string{vocab.LabelReason: c.reason}
			before, err := scrape.Sum(t.Context(), d.Hub, vocab.MetricHubRejected, reason)
			if err != nil {
				t.Fatal(err)
			}
			if s := d.push(t, c.send); s.Code() != c.code || !strings.Contains(s.Message(), c.says) {
				t.Errorf("the stream ended with %s: %s; want %s and %q", s.Code(), s.Message(), c.code, c.says)
			}
			eventually(t, 5*time.Second, "it is counted", func() error { // the stream may end first
				after, err := scrape.Sum(t.Context(), d.Hub, vocab.MetricHubRejected, reason)
				if err == nil && after != before+1 {
					err = fmt.Errorf("%s{reason=%q} rose from %.0f to %.0f", vocab.MetricHubRejected, c.reason, before, after)
				}
				return err
			})
		})
	}
	t.Run("garbage in a connection", func(t *testing.T) { d.garbage(t) })
	if n := node(d.graph(60), "stranger-v1"); n.ID != "" {
		t.Errorf("what was refused is in the graph: %+v", n)
	}
	d.settled(t, client)
}

// garbage throws bytes at the hub's gRPC port: it must close the connection.
func (d *demo) garbage(t *testing.T) {
	c, err := net.DialTimeout("tcp", d.GRPC, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, strings.Repeat("garbage\x00\xff\r\n", 100)); err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, c)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Error("the connection stays open")
	}
}
