package hub

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/telemesh/telemesh/internal/scrape"
)

// startHub runs a hub until the test ends.
func startHub(t *testing.T, c Config) (*Hub, *grpc.ClientConn) {
	t.Helper()
	c.HTTPAddress, c.GRPCAddress, c.DataDir = "127.0.0.1:0", "127.0.0.1:0", t.TempDir()
	h, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	conn, err := grpc.NewClient(h.GRPCAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return h, conn
}

func writeFile(t *testing.T, dir, name, text string) {
	t.Helper()
	// In one step: the hub may look at any moment.
	if err := os.WriteFile(filepath.Join(dir, name+".new"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func limited(domain, key, value string) *rlsv3.RateLimitRequest {
	return &rlsv3.RateLimitRequest{Domain: domain, Descriptors: []*commonv3.RateLimitDescriptor{
		{Entries: []*commonv3.RateLimitDescriptor_Entry{{Key: key, Value: value}}},
	}}
}

func TestTheHubServesEnvoysRateLimits(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, "limits.yaml", "domain: edge\ndescriptors:\n- key: user\n  rate_limit: {unit: year, requests_per_unit: 2}\n")
	h, conn := startHub(t, Config{RateLimit: RateLimitConfig{Dir: dir, Headers: true}})
	client := rlsv3.NewRateLimitServiceClient(conn)
	ask := func() *rlsv3.RateLimitResponse {
		t.Helper()
		resp, err := client.ShouldRateLimit(t.Context(), limited("edge", "user", "u"))
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for i, want := range []rlsv3.RateLimitResponse_Code{rlsv3.RateLimitResponse_OK, rlsv3.RateLimitResponse_OK, rlsv3.RateLimitResponse_OVER_LIMIT} {
		if got := ask(); got.GetOverallCode() != want || len(got.GetResponseHeadersToAdd()) != 3 {
			t.Errorf("request %d: %v", i+1, got)
		}
	}
	// A new version is followed, one with an error is not.
	writeFile(t, dir, "limits.yaml", "domain: edge\ndescriptors:\n- key: user\n  rate_limit: {unit: year, requests_per_unit: 1000000}\n")
	deadline := time.Now().Add(30 * time.Second)
	for ask().GetOverallCode() != rlsv3.RateLimitResponse_OK {
		if time.Now().After(deadline) {
			t.Fatal("the new limit is not in force after 30 s")
		}
		time.Sleep(20 * time.Millisecond)
	}
	writeFile(t, dir, "limits.yaml", "domain: edge\nlimits: []\n")
	var page scrape.Page
	for reloads := 0.0; reloads == 0; reloads = value(page, "mesh_hub_ratelimit_reloads_total", "refused") {
		if time.Now().After(deadline) {
			t.Fatal("the version with an error is not counted after 30 s")
		}
		time.Sleep(20 * time.Millisecond)
		var err error
		if page, err = scrape.Get(t.Context(), "http://"+h.HTTPAddress()); err != nil {
			t.Fatal(err)
		}
	}
	if got := ask(); got.GetOverallCode() != rlsv3.RateLimitResponse_OK || got.GetStatuses()[0].GetCurrentLimit().GetRequestsPerUnit() != 1000000 {
		t.Errorf("after a version with an error: %v", got)
	}
	if n := value(page, "mesh_hub_ratelimit_requests_total", "edge", "OK"); n < 3 {
		t.Errorf("%v requests counted as OK, want at least 3", n)
	}
	if n := value(page, "mesh_hub_ratelimit_hits_total", "edge", "user", "over_limit"); n < 1 {
		t.Errorf("%v hits counted as over the limit, want at least 1", n)
	}
	if n := value(page, "mesh_hub_ratelimit_keys"); n != 1 {
		t.Errorf("%v keys, want 1", n)
	}
	_, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), &authv3.CheckRequest{})
	if grpcstatus.Code(err) != codes.Unimplemented {
		t.Errorf("authorization without policies: %v", err)
	}
}

func TestTheHubDecidesForEnvoy(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, "policy.yaml", `
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: reads}
spec:
  targetRefs: [{kind: Service, name: ratings}]
  rules:
  - {name: reads, match: request.method == "GET", access: {action: Allow}}
`)
	h, conn := startHub(t, Config{PolicyDir: dir})
	client := authv3.NewAuthorizationClient(conn)
	check := func(method string) string {
		t.Helper()
		resp, err := client.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			ContextExtensions: map[string]string{"destination.service": "ratings.default"},
			Request:           &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: method, Path: "/"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return codes.Code(resp.GetStatus().GetCode()).String()
	}
	if got := check("GET") + " " + check("POST"); got != "OK PermissionDenied" {
		t.Errorf("GET and POST: %s", got)
	}
	page, err := scrape.Get(t.Context(), "http://"+h.HTTPAddress())
	if err != nil {
		t.Fatal(err)
	}
	if n := value(page, "mesh_hub_authorization_checks_total", "denied"); n != 1 {
		t.Errorf("%v denials counted, want 1", n)
	}
	if n := value(page, "mesh_hub_authorization_rules_total", "default/reads", "reads", "allow"); n != 1 {
		t.Errorf("%v requests counted for the rule, want 1", n)
	}
	_, err = rlsv3.NewRateLimitServiceClient(conn).ShouldRateLimit(t.Context(), limited("d", "k", "v"))
	if grpcstatus.Code(err) != codes.Unimplemented {
		t.Errorf("rate limits without a configuration: %v", err)
	}
}

// value is a series by its labels' values, in any order.
func value(p scrape.Page, family string, labels ...string) float64 {
	for _, m := range p[family].GetMetric() {
		var have []string
		for _, l := range m.GetLabel() {
			have = append(have, l.GetValue())
		}
		all := len(have) == len(labels)
		for _, l := range labels {
			all = all && strings.Contains("\x00"+strings.Join(have, "\x00")+"\x00", "\x00"+l+"\x00")
		}
		if all {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return 0
}
