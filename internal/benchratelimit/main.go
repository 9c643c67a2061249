// Benchratelimit measures what Envoy's checks cost the hub: a real mesh-hub is
// asked over gRPC on loopback by callers that each wait for their answer, and
// its CPU time is divided by the answers. The first round is for warming up.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
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

type options struct {
	bin                                string
	keys, callers, connections, rounds int
	checks                             int
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder of mesh-hub")
	flag.IntVar(&o.keys, "keys", 10_000, "different descriptors")
	flag.IntVar(&o.callers, "callers", 64, "calls at any time")
	flag.IntVar(&o.connections, "connections", 4, "connections, over which callers are spread: an Envoy has one for each worker")
	flag.IntVar(&o.checks, "checks", 100_000, "checks of a round")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds that count")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "benchratelimit:", err)
		os.Exit(1)
	}
}

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

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "benchratelimit")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	hub, address, err := startHub(ctx, o.bin, dir)
	if err != nil {
		return err
	}
	defer hub.Stop(5 * time.Second)
	var conns []*grpc.ClientConn
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
	}()
	for range o.connections {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		conns = append(conns, conn)
	}
	fmt.Printf("%d callers on %d connections, %d keys, rounds of %d checks\n", o.callers, o.connections, o.keys, o.checks)
	for _, one := range []struct {
		name  string
		check func(*grpc.ClientConn) func(ctx context.Context, i int) error
	}{{"ratelimit.v3 ShouldRateLimit", shouldRateLimit(o.keys)}, {"auth.v3 Check", authorize()}} {
		var cpu []float64
		for round := range o.rounds + 1 {
			r, err := measure(ctx, o, hub.PID(), conns, one.check)
			if err != nil {
				return fmt.Errorf("%s: %w", one.name, err)
			}
			if round > 0 {
				cpu = append(cpu, r.cpu)
				fmt.Printf("%-28s %5.1f us CPU of the hub, %6.0f checks/s, p50 %v p99 %v\n", one.name, r.cpu, r.rate, r.p50, r.p99)
			}
		}
		slices.Sort(cpu)
		fmt.Printf("%-28s %5.1f us CPU of the hub, median of %d\n", one.name, cpu[len(cpu)/2], len(cpu))
	}
	fmt.Printf("hub: %.0f MB resident\n", procstat.RSS(hub.PID())/1e6)
	return nil
}

func startHub(ctx context.Context, bin, dir string) (*process.Process, string, error) {
	for name, text := range map[string]string{"limits/bench.yaml": limits, "policies/bench.yaml": policies} {
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
func shouldRateLimit(keys int) func(*grpc.ClientConn) func(context.Context, int) error {
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
func authorize() func(*grpc.ClientConn) func(context.Context, int) error {
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

// round is what one round took: microseconds of CPU a check, checks a second.
type round struct {
	cpu, rate float64
	p50, p99  time.Duration
}

func measure(ctx context.Context, o options, pid int, conns []*grpc.ClientConn, check func(*grpc.ClientConn) func(context.Context, int) error) (round, error) {
	took := make([]time.Duration, o.checks)
	failed := make([]error, o.callers)
	before, err := procstat.CPU(pid)
	if err != nil {
		return round{}, err
	}
	from := time.Now()
	var wg sync.WaitGroup
	for caller := range o.callers {
		ask := check(conns[caller%len(conns)])
		wg.Go(func() {
			for i := caller; i < o.checks && failed[caller] == nil; i += o.callers {
				start := time.Now()
				failed[caller] = ask(ctx, i)
				took[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	passed := time.Since(from)
	after, err := procstat.CPU(pid)
	if err := errors.Join(append(failed, err)...); err != nil {
		return round{}, err
	}
	slices.Sort(took)
	return round{
		cpu:  float64((after - before).Nanoseconds()) / 1e3 / float64(o.checks),
		rate: float64(o.checks) / passed.Seconds(),
		p50:  took[len(took)/2].Round(10 * time.Microsecond), p99: took[len(took)*99/100].Round(10 * time.Microsecond),
	}, nil
}
