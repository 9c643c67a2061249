// Command mesh-hub is the centre of the mesh: live graph, records, metrics,
// quota and policies, and the web UI.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/telemesh/telemesh/internal/process"
	"github.com/telemesh/telemesh/internal/version"
	hub "github.com/telemesh/telemesh/telemetry-hub"
	"github.com/telemesh/telemesh/telemetry-hub/memory"
)

func main() {
	process.UseBatchBuffers()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mesh-hub:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var c hub.Config
	var logLevel, addressFile string
	cmd := &cobra.Command{
		Use:   "mesh-hub --data-dir DIR",
		Short: "The centre of the mesh: live graph, every request, metrics, quota, policies and the web UI",
		Example: `  mesh-hub --data-dir /var/lib/telemesh
  mesh-hub --data-dir ./data --policy-dir ./policies
  mesh-hub --data-dir ./data --ratelimit-config ./ratelimit/config
  mesh-hub --data-dir ./data --http-address 127.0.0.1:0 --grpc-address 127.0.0.1:0 --address-file hub.json`,
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), c, logLevel, addressFile)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.HTTPAddress, "http-address", "", "UI, APIs and /metrics (default 127.0.0.1:15080)")
	f.StringVar(&c.GRPCAddress, "grpc-address", "", "telemetry, discovery and leases of the sidecars, Envoy's rate limits and authorization (default 127.0.0.1:15010)")
	f.StringVar(&c.DataDir, "data-dir", "", "directory for everything that survives a restart (required)")
	f.StringVar(&c.PolicyDir, "policy-dir", "", "directory of policy files (TrafficPolicy, Istio's AuthorizationPolicy and RequestAuthentication), followed as they change")
	r := &c.RateLimit
	f.StringVar(&r.Dir, "ratelimit-config", "", "directory of envoyproxy/ratelimit's files, followed as they change; serves Envoy's rate limit API at --grpc-address")
	f.BoolVar(&r.Headers, "ratelimit-headers", false, "add RateLimit-Limit, -Remaining and -Reset to responses")
	f.IntVar(&r.MaxKeys, "ratelimit-max-keys", 0, "keys that rate limits are counted for, up to 30 bytes each (default 1000000)")
	f.StringVar(&r.Overflow, "ratelimit-overflow", "", "what becomes of other keys: SharedBucket counts those of a rule together, Allow, Deny (default SharedBucket)")
	f.BoolVar(&c.InsecureListen, "insecure-listen", false, "allow addresses beyond loopback although nothing authenticates callers yet")
	f.Int64Var(&c.RetentionBytes, "retention-bytes", 0, "size of the record store (default 4 GiB)")
	f.DurationVar(&c.RetentionAge, "retention-age", 0, "age of records kept (default: as --retention-bytes allows)")
	f.DurationVar(&c.RetentionFailed, "retention-failed", 0, "age of requests kept that failed or were slow, with all their hops; beyond --retention-age")
	f.DurationVar(&c.RetentionSlow, "retention-slow", 0, "what is slow, as in 1s (default: nothing, only failed requests are kept longer)")
	f.Int64Var(&c.DetailBytes, "detail-bytes", 0, "size of the headers, attempts and policy decisions kept of requests that failed, were slow or were opened (default 128 MiB)")
	f.DurationVar(&c.SealAfter, "seal-after", 0, "age at which records go from the log to a Parquet file (default 5m)")
	f.Int64Var(&c.SealBytes, "seal-bytes", 0, "size of the log at which they do (default 128 MiB)")
	b := &c.Bucket
	f.StringVar(&b.File, "bucket-config", "", "file with a Thanos YAML block that names the bucket which segments go to, S3 or a folder (default: none, they stay on the disk)")
	f.StringVar(&b.Durability, "durability", "", "what a batch is acknowledged for: disk, or bucket, which survives the loss of this machine (default disk)")
	f.StringVar(&b.Hub, "hub-name", "", "what the hub's name in the bucket begins with (default: the host's)")
	f.DurationVar(&b.UploadAfter, "upload-after", 0, "age at which small segments are uploaded too, for other hubs to find their records (default 15m)")
	f.DurationVar(&b.RetentionAge, "bucket-retention-age", 0, "age of segments kept in the bucket (default: no bound)")
	f.Int64Var(&b.RetentionBytes, "bucket-retention-bytes", 0, "size of all segments in the bucket (default: no bound)")
	f.Int64Var(&b.CacheBytes, "bucket-cache-bytes", 0, "size of the local copy of what was read in the bucket (default 10 GiB)")
	f.DurationVar(&b.Poll, "bucket-poll", 0, "how often the bucket is looked at for segments of other hubs (default 30s)")
	f.DurationVar(&b.Lease, "bucket-lease", 0, "how long a hub may be silent before another seals the log that it had put into the bucket; the same for all hubs (default 2m)")
	f.DurationVar(&c.MetricsRetention, "metrics-retention", 0, "age of metrics kept (default 168h)")
	f.Int64Var(&c.MemoryLimit, "memory-limit", 0, "bytes that the hub should stay below (default: GOMEMLIMIT, or nine tenths of the cgroup's memory.max, or none)")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&addressFile, "address-file", "", "writes the bound addresses as JSON to this file once the hub listens")
	return cmd
}

func run(ctx context.Context, c hub.Config, logLevel, addressFile string) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: want debug, info, warn or error", logLevel)
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	if c.MemoryLimit < 0 {
		return fmt.Errorf("--memory-limit %d: want a number of bytes, or 0 for the default", c.MemoryLimit)
	}
	limit, err := memory.SetLimit(c.MemoryLimit)
	if err != nil {
		log.Warn("no memory limit", "error", err)
	}
	if c.MemoryLimit = limit.Bytes; c.MemoryLimit > 0 {
		log.Info("memory limit", "bytes", limit.Bytes, "from", limit.From)
	}
	h, err := hub.New(c, log)
	if err != nil {
		return err
	}
	if addressFile != "" {
		if err := writeAddresses(addressFile, h); err != nil {
			return err
		}
	}
	return h.Run(ctx)
}

// writeAddresses tells whoever started the hub on port 0 where it listens.
func writeAddresses(file string, h *hub.Hub) error {
	b, err := json.Marshal(map[string]string{"http": h.HTTPAddress(), "grpc": h.GRPCAddress()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", b, 0o644); err != nil {
		return fmt.Errorf("write address file: %w", err)
	}
	return os.Rename(file+".new", file)
}
