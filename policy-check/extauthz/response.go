package extauthz

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/telemesh/telemesh/internal/vocab"
	"github.com/telemesh/telemesh/policy-check/check"
	"github.com/telemesh/telemesh/policy-check/expr"
)

// response is a decision in Envoy's words. Its dynamic metadata name the policy
// and the rule, and for how long and for which requests the answer holds.
func response(d *check.Decision, cache *structpb.Value) *authv3.CheckResponse {
	resp := &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.OK)}, DynamicMetadata: metadata(d, cache)}
	if !d.Refused() {
		resp.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{ResponseHeadersToAdd: options(d.Headers)}}
		return resp
	}
	resp.Status = &rpcstatus.Status{Code: int32(codes.PermissionDenied), Message: d.Detail}
	resp.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
		Status:  &typev3.HttpStatus{Code: statusCode(d.Status)},
		Headers: options(append([]check.Header{{Name: "content-type", Value: d.ContentType}}, d.Headers...)),
		Body:    d.Body,
	}}
	return resp
}

// statusCode is a status that Envoy knows; it would treat an answer with any
// other as none.
func statusCode(code int) typev3.StatusCode {
	if _, ok := typev3.StatusCode_name[int32(code)]; !ok {
		return typev3.StatusCode_Forbidden
	}
	return typev3.StatusCode(code)
}

func options(hs []check.Header) []*corev3.HeaderValueOption {
	var out []*corev3.HeaderValueOption
	for _, h := range hs {
		out = append(out, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: h.Name, Value: h.Value},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	return out
}

func metadata(d *check.Decision, cache *structpb.Value) *structpb.Struct {
	verdict := d.Verdict
	if verdict == "" {
		verdict = vocab.VerdictOK
	}
	fields := map[string]*structpb.Value{"verdict": structpb.NewStringValue(verdict)}
	if d.Policy != "" {
		fields["policy"] = structpb.NewStringValue(d.Policy)
		fields["rule"] = structpb.NewStringValue(d.Rule)
	}
	if cache != nil {
		fields["cache"] = cache
	}
	return &structpb.Struct{Fields: fields}
}

// cacheable is for how long an answer may be used again, and for which requests:
// those to the same destination that agree in all of key. It is nil when the
// same request may get another answer, or hardly comes twice.
func (s *Server) cacheable(c *check.Checker) *structpb.Value {
	names, settled := c.Reads(check.Inbound)
	if !settled || slices.Contains(names, expr.RequestID.String()) {
		return nil
	}
	key := make([]*structpb.Value, len(names))
	for i, name := range names {
		key[i] = structpb.NewStringValue(name)
	}
	return structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
		"ttl_seconds": structpb.NewNumberValue(s.opts.CacheTTL.Seconds()),
		"key":         structpb.NewListValue(&structpb.ListValue{Values: key}),
	}})
}

// always is cacheable for a destination without rules.
func (s *Server) always() *structpb.Value {
	return structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
		"ttl_seconds": structpb.NewNumberValue(s.opts.CacheTTL.Seconds()),
		"key":         structpb.NewListValue(&structpb.ListValue{}),
	}})
}
