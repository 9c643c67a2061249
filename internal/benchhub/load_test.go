package main

import (
	"net"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	telemetryv1 "github.com/telemesh/telemesh/api/telemetry/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// refusing takes some batches, acknowledges none and ends the stream.
type refusing struct {
	telemetryv1.UnimplementedTelemetryServiceServer
	after int
}

func (s *refusing) Push(stream grpc.BidiStreamingServer[telemetryv1.Batch, telemetryv1.Ack]) error {
	for range s.after {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
	return status.Error(codes.ResourceExhausted, "the disk is full")
}

func TestPushSaysWhyTheStreamEnded(t *testing.T) {
	for name, after := range map[string]int{"at once": 0, "while it waits for room": inFlight} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer()
			telemetryv1.RegisterTelemetryServiceServer(server, &refusing{after: after})
			go server.Serve(l)
			defer server.Stop()
			p, err := newPusher(t.Context(), l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			for range inFlight + 1 {
				if err = p.push(&telemetryv1.Batch{}); err != nil {
					break
				}
			}
			if status.Code(err) != codes.ResourceExhausted {
				t.Errorf("push = %v, want that the disk is full", err)
			}
			if err := p.close(); err != nil {
				t.Error(err)
			}
			p.done.Wait()
		})
	}
}
