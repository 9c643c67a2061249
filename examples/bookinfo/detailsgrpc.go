package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// details answers gRPC too: a product's ID in, what /details/{id} answers out.
// Both messages are of those that come with protobuf, so that no code need be
// generated for the example.
const (
	detailsRPC    = "bookinfo.v1.Details"
	detailsMethod = "/" + detailsRPC + "/Get"
)

// maxRPCProduct is the largest ID that a number of JSON, which is what a Struct
// holds, says exactly (RFC 8259, section 6).
const maxRPCProduct = 1 << 53

// withDetailsRPC serves gRPC calls of details, and leaves other requests to next.
func withDetailsRPC(next http.Handler) http.Handler {
	calls := grpc.NewServer()
	calls.RegisterService(&grpc.ServiceDesc{
		ServiceName: detailsRPC,
		Methods:     []grpc.MethodDesc{{MethodName: "Get", Handler: rpcDetails}},
	}, nil)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// rpcDetails is the handler of detailsMethod.
//
//nolint:revive // the signature is gRPC's
func rpcDetails(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var id wrapperspb.Int64Value
	if err := decode(&id); err != nil {
		return nil, err
	}
	if id.GetValue() < 0 || id.GetValue() > maxRPCProduct {
		return nil, status.Error(codes.InvalidArgument, "please provide numeric product ID")
	}
	body, err := json.Marshal(detailsOf(int(id.GetValue())))
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	var s structpb.Struct
	if err := protojson.Unmarshal(body, &s); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &s, nil
}

// newDetailsClient makes calls of authority at address, which is the service or a
// proxy that finds it. It connects with the first call.
func newDetailsClient(address, authority string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, grpc.WithAuthority(authority),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), // address is the proxy
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithStatsHandler(departures{}))
}

// rpcDetails asks details for a product over gRPC on behalf of in. It is get in
// another protocol: gRPC's codes come as the statuses that HTTP has for them.
//
// A call is counted once, though gRPC sends it again when its connection says that
// it did not look at it.
func (c *caller) rpcDetails(in *http.Request, id int) (answer, error) {
	var left atomic.Bool
	ctx, cancel := context.WithTimeout(context.WithValue(in.Context(), departure{}, &left), callTimeout)
	defer cancel()
	var s structpb.Struct
	err := c.details.Invoke(metadata.NewOutgoingContext(ctx, forwardMetadata(in.Header)), detailsMethod, wrapperspb.Int64(int64(id)), &s)
	n := c.counts.sent[serviceDetails]
	if !left.Load() {
		n.unsent.Add(1)
		return answer{}, fmt.Errorf("call %s: %w", serviceDetails, err)
	}
	n.requests.Add(1)
	ans := answer{status: httpStatus(status.Code(err))}
	if err == nil {
		ans.body, err = detailsJSON(&s)
		if err != nil {
			n.failed.Add(1)
			return answer{}, fmt.Errorf("call %s: %w", serviceDetails, err)
		}
	}
	if ans.status >= http.StatusInternalServerError {
		n.failed.Add(1)
	}
	return ans, nil
}

// httpStatus is what details would have answered over HTTP.
func httpStatus(c codes.Code) int {
	switch c {
	case codes.OK:
		return http.StatusOK
	case codes.InvalidArgument:
		return http.StatusBadRequest
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// detailsJSON is the body that /details/{id} has.
func detailsJSON(s *structpb.Struct) ([]byte, error) {
	body, err := json.Marshal(s.AsMap())
	if err != nil {
		return nil, err
	}
	var d Details
	if err := json.Unmarshal(body, &d); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	return json.Marshal(d)
}

// forwardMetadata is forwardHeaders for gRPC, which has a user agent of its own
// and refuses a whole call for one value that is not printable.
func forwardMetadata(src http.Header) metadata.MD {
	md := metadata.MD{}
	for _, name := range forwardedHeaders() {
		if name == "user-agent" {
			continue
		}
		for _, v := range src[http.CanonicalHeaderKey(name)] {
			if v, ok := metadataValue(name, v); ok {
				md.Append(name, v)
			}
		}
	}
	return md
}

// metadataValue is a header's value as gRPC's interface has it, which encodes
// binary ones by itself.
func metadataValue(name, v string) (string, bool) {
	if strings.HasSuffix(name, "-bin") {
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
		return string(b), err == nil
	}
	printable := strings.IndexFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) < 0
	return v, printable
}

// departure is the context's key of an atomic.Bool that departures sets when the
// call has left.
type departure struct{}

// departures is a stats.Handler.
type departures struct{}

func (departures) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (departures) HandleRPC(ctx context.Context, s stats.RPCStats) {
	left, ok := ctx.Value(departure{}).(*atomic.Bool)
	if _, header := s.(*stats.OutHeader); ok && header {
		left.Store(true)
	}
}

func (departures) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (departures) HandleConn(context.Context, stats.ConnStats) {}
