package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// dialGRPC connects to the application through the outbound listener. Nothing
// is tried again, so that a request goes out once.
func dialGRPC(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority(host), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig())
}

// callGRPC makes one call of the given kind.
func callGRPC(cc *grpc.ClientConn, one *call, messages, size int, pause, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, requestID, one.id)
	client := testgrpc.NewTestServiceClient(cc)
	payload := &testgrpc.Payload{Body: make([]byte, size)}
	var err error
	switch one.kind {
	case "grpc unary", "grpc leave":
		err = unary(ctx, client, payload)
	case "grpc server stream":
		err = serverStream(ctx, client, messages, size, pause)
	case "grpc client stream":
		err = clientStream(ctx, client, payload, messages, pause)
	case "grpc bidi stream":
		err = bidiStream(ctx, client, payload, messages, pause)
	}
	one.ok, one.grpc, one.status = err == nil, int(status.Code(err)), 200
	if err != nil {
		one.err = err.Error()
	}
}

func unary(ctx context.Context, client testgrpc.TestServiceClient, p *testgrpc.Payload) error {
	r, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: int32(len(p.GetBody())), Payload: p})
	if err == nil {
		err = sized(r.GetPayload(), len(p.GetBody()))
	}
	return err
}

func serverStream(ctx context.Context, client testgrpc.TestServiceClient, messages, size int, pause time.Duration) error {
	want := &testgrpc.StreamingOutputCallRequest{}
	for range messages {
		want.ResponseParameters = append(want.ResponseParameters, &testgrpc.ResponseParameters{Size: int32(size), IntervalUs: int32(pause.Microseconds())})
	}
	s, err := client.StreamingOutputCall(ctx, want)
	for n := 0; err == nil; n++ {
		var m *testgrpc.StreamingOutputCallResponse
		if m, err = s.Recv(); err == nil {
			err = sized(m.GetPayload(), size)
		} else if errors.Is(err, io.EOF) {
			return counted(n, messages)
		}
	}
	return err
}

func clientStream(ctx context.Context, client testgrpc.TestServiceClient, p *testgrpc.Payload, messages int, pause time.Duration) error {
	s, err := client.StreamingInputCall(ctx)
	if err != nil {
		return err
	}
	for range messages {
		if s.Send(&testgrpc.StreamingInputCallRequest{Payload: p}) != nil {
			break // CloseAndRecv knows why
		}
		time.Sleep(pause)
	}
	r, err := s.CloseAndRecv()
	if err == nil {
		err = counted(int(r.GetAggregatedPayloadSize()), messages*len(p.GetBody()))
	}
	return err
}

func bidiStream(ctx context.Context, client testgrpc.TestServiceClient, p *testgrpc.Payload, messages int, pause time.Duration) error {
	s, err := client.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	for range messages {
		m := &testgrpc.StreamingOutputCallRequest{Payload: p, ResponseParameters: []*testgrpc.ResponseParameters{{Size: int32(len(p.GetBody()))}}}
		if s.Send(m) != nil {
			break
		}
		r, err := s.Recv()
		if err != nil {
			return err
		}
		if err := sized(r.GetPayload(), len(p.GetBody())); err != nil {
			return err
		}
		time.Sleep(pause)
	}
	_ = s.CloseSend() // Recv knows why it could not
	if _, err = s.Recv(); errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// errWrong marks an answer that is not the one asked for; gRPC calls it unknown.
var errWrong = errors.New("wrong answer")

func sized(p *testgrpc.Payload, want int) error { return counted(len(p.GetBody()), want) }

func counted(got, want int) error {
	if got != want {
		return fmt.Errorf("%w: %d, want %d", errWrong, got, want)
	}
	return nil
}
