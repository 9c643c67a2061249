package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/telemesh/telemesh/internal/process"
	"github.com/telemesh/telemesh/internal/procstat"
)

// How a fleet of Envoys asks: each caller waits for its answer, and an Envoy has a
// connection for each of its workers.
const (
	envoyKeys        = 10_000
	envoyCallers     = 64
	envoyConnections = 4
	envoyChecks      = 60_000 // of a round; the first round is for warming up
)

const limits = `
domain: bench
descriptors:
- key: user
  rate_limit: {unit: hour, requests_per_unit: 50}
`

const policies = `
apiVersion: policy.mesh.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: bench}
spec:
  targetRefs: [{kind: Service, name: bench}]
  rules:
  - {name: no-plaintext, match: source.principal == "", access: {action: Deny}}
  - {name: web, match: 'source.principal.endsWith("/sa/web") && request.method in ["GET", "HEAD"]', access: {action: Allow}}
`

// envoys measures what Envoy's checks cost a real mesh-hub over gRPC on loopback.
func envoys(ctx context.Context, o options, r *report) error {
	return withHub(ctx, o.bin, func(address string, pid int) error { return askAsEnvoys(ctx, o, r, address, pid) })
}

func askAsEnvoys(ctx context.Context, o options, r *report, address string, pid int) (err error) {
	var conns []*grpc.ClientConn
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
	}()
	for range envoyConnections {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		conns = append(conns, conn)
	}
	for _, one := range []struct {
		key   string
		check asks
	}{{"rls_us_per_check", shouldRateLimit(envoyKeys)}, {"ext_authz_us_per_check", authorize()}} {
		var cpu []float64
		for round := range o.rounds + 1 {
			each, err := measure(ctx, pid, conns, one.check)
			if err != nil {
				return fmt.Errorf("%s: %w", one.key, err)
			}
			if round > 0 {
				cpu = append(cpu, each)
			}
		}
		r.Set(one.key, cpu...)
	}
	return nil
}

// asks makes the calls of one connection.
type asks func(*grpc.ClientConn) func(ctx context.Context, i int) error

// withHub starts a mesh-hub, and ends it when use returns.
func withHub(ctx context.Context, bin string, use func(address string, pid int) error) (err error) {
	dir, err := os.MkdirTemp("", "benchpolicy")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	hub, address, err := startHub(ctx, bin, dir)
	if err != nil {
		return err
	}
	defer hub.Stop(5 * time.Second)
	return use(address, hub.PID())
}

// startHub starts a mesh-hub with the limits and policies of this benchmark.
func startHub(ctx context.Context, bin, dir string) (*process.Process, string, error) {
	ps, err := limitPolicy(scenario{limit: bigLimit}.rate(), "", "")
	if err != nil {
		return nil, "", err
	}
	for name, text := range map[string]string{"limits/bench.yaml": limits, "policies/bench.yaml": policies, "policies/limit.yaml": string(ps[0].Canonical())} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return nil, "", err
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, "", err
		}
	}
	addresses := filepath.Join(dir, "addresses.json")
	hub, err := process.Start(process.Spec{
		Name: "mesh-hub", Path: filepath.Join(bin, "mesh-hub"), Output: os.Stderr,
		Args: []string{
			"--data-dir", filepath.Join(dir, "data"), "--http-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0", "--log-level", "warn",
			"--ratelimit-config", filepath.Join(dir, "limits"), "--policy-dir", filepath.Join(dir, "policies"), "--address-file", addresses,
		},
	})
	if err != nil {
		return nil, "", fmt.Errorf("%w: make build builds it", err)
	}
	at, err := hub.Addresses(ctx, addresses)
	if err != nil {
		hub.Kill()
		return nil, "", err
	}
	return hub, at["grpc"], nil
}

// shouldRateLimit asks for one descriptor after the other.
func shouldRateLimit(keys int) asks {
	requests := make([]*rlsv3.RateLimitRequest, keys)
	for i := range requests {
		requests[i] = &rlsv3.RateLimitRequest{Domain: "bench", Descriptors: []*commonv3.RateLimitDescriptor{
			{Entries: []*commonv3.RateLimitDescriptor_Entry{{Key: "user", Value: "user-" + strconv.Itoa(i)}}},
		}}
	}
	return func(conn *grpc.ClientConn) func(context.Context, int) error {
		client := rlsv3.NewRateLimitServiceClient(conn)
		return func(ctx context.Context, i int) error {
			resp, err := client.ShouldRateLimit(ctx, requests[i*7919%keys])
			if err == nil && resp.GetStatuses()[0].GetCurrentLimit() == nil {
				err = errors.New("answer without a limit")
			}
			return err
		}
	}
}

// authorize asks with the attributes that Envoy sends of a small request.
func authorize() asks {
	req := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{"destination.service": "bench.default"},
		Source:            &authv3.AttributeContext_Peer{Principal: "spiffe://cluster.local/ns/default/sa/web"},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/api/v1/items/17?full=yes", Host: "bench.default", Scheme: "http", Protocol: "HTTP/1.1",
			Headers: map[string]string{
				":method": "GET", ":path": "/api/v1/items/17?full=yes", ":authority": "bench.default", "user-agent": "bench/1.0",
				"accept": "application/json", "x-request-id": "6f0a7a1e-92c3-4a5b-8d3e-1d2c3b4a5f60", "x-forwarded-proto": "http",
			},
		}},
	}}
	return func(conn *grpc.ClientConn) func(context.Context, int) error {
		client := authv3.NewAuthorizationClient(conn)
		return func(ctx context.Context, _ int) error {
			resp, err := client.Check(ctx, req)
			if err == nil && resp.GetOkResponse() == nil {
				err = errors.New("the request was denied")
			}
			return err
		}
	}
}

// measure has all callers ask once around, and returns the microseconds of CPU that
// a process used for each check.
func measure(ctx context.Context, pid int, conns []*grpc.ClientConn, check asks) (float64, error) {
	failed := make([]error, envoyCallers)
	before, err := procstat.CPU(pid)
	if err != nil {
		return 0, err
	}
	var callers sync.WaitGroup
	for caller := range envoyCallers {
		ask := check(conns[caller%len(conns)])
		callers.Go(func() {
			for i := caller; i < envoyChecks && failed[caller] == nil; i += envoyCallers {
				failed[caller] = ask(ctx, i)
			}
		})
	}
	callers.Wait()
	after, err := procstat.CPU(pid)
	return float64(after-before) / 1e3 / envoyChecks, errors.Join(append(failed, err)...)
}
