package http2

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// grpcApp starts gRPC's interop server.
func grpcApp(t testing.TB, o ...grpc.ServerOption) (string, *grpc.Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(o...)
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String(), s
}

func (r *rig) grpc() *grpc.ClientConn {
	r.t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+r.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { cc.Close() })
	return cc
}

func TestInteropCasesPass(t *testing.T) {
	cases := map[string]func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption){
		"empty unary":               interop.DoEmptyUnaryCall,
		"large unary":               interop.DoLargeUnaryCall,
		"client streaming":          interop.DoClientStreaming,
		"server streaming":          interop.DoServerStreaming,
		"ping pong":                 interop.DoPingPong,
		"empty stream":              interop.DoEmptyStream,
		"timeout on sleeping":       interop.DoTimeoutOnSleepingServer,
		"cancel after begin":        interop.DoCancelAfterBegin,
		"cancel after first answer": interop.DoCancelAfterFirstResponse,
		"status code and message":   interop.DoStatusCodeAndMessage,
		"special status message":    interop.DoSpecialStatusMessage,
		"custom metadata":           interop.DoCustomMetadata,
	}
	for _, waits := range []bool{false, true} {
		address, _ := grpcApp(t)
		d := newDecider(address)
		d.waits = waits
		r := newRig(t, d)
		cc := r.grpc()
		client := testgrpc.NewTestServiceClient(cc)
		for name, f := range cases {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				f(ctx, client, grpc.WaitForReady(true))
			})
		}
		t.Run("unimplemented method", func(t *testing.T) {
			interop.DoUnimplementedMethod(t.Context(), cc)
		})
		t.Run("unimplemented service", func(t *testing.T) {
			interop.DoUnimplementedService(t.Context(), testgrpc.NewUnimplementedServiceClient(cc))
		})
		cc.Close()
		r.stop()
		if got, want := d.outcomes.Load(), d.began.Load(); got != want {
			t.Errorf("the endpoint was told of %d attempts, want %d", got, want)
		}
	}
}

func TestUnaryRecord(t *testing.T) {
	address, _ := grpcApp(t)
	r := newRig(t, newDecider(address))
	client := testgrpc.NewTestServiceClient(r.grpc())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := client.EmptyCall(ctx, &testgrpc.Empty{}); err != nil {
		t.Fatal(err)
	}
	rec := r.record()
	if rec.Protocol != "grpc" || rec.HTTPVersion != "HTTP/2.0" || rec.Method != "POST" || rec.Path != "/grpc.testing.TestService/EmptyCall" ||
		rec.Code != 200 || rec.GRPCStatus != 1 || rec.Flags != "" || rec.Detail != "via_upstream" || rec.Attempts != 1 ||
		rec.Upstream != address || rec.BytesIn < 50 || rec.BytesOut < 50 || rec.FirstByte <= 0 || rec.Duration < rec.FirstByte || time.Since(rec.Start) > patience {
		t.Errorf("record %+v", rec)
	}
}
