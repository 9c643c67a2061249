package hub

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	policy "github.com/telemesh/telemesh/policy-check"
	"github.com/telemesh/telemesh/telemetry-hub/memory"
)

// Config is what an operator writes: flags of mesh-hub.
type Config struct {
	// HTTPAddress serves UI, APIs and /metrics; GRPCAddress the sidecars.
	HTTPAddress string
	GRPCAddress string
	// DataDir holds everything that survives a restart.
	DataDir string
	// PolicyDir holds files of TrafficPolicies and Istio's access policies; empty
	// means none.
	PolicyDir string
	// RateLimit is Envoy's rate limit service, if it has a Dir.
	RateLimit RateLimitConfig
	// InsecureListen allows addresses beyond loopback although this version
	// authenticates nobody.
	InsecureListen bool
	// RetentionBytes bounds the record store, and RetentionAge how old its records
	// get, if above 0; MetricsRetention bounds the TSDB.
	RetentionBytes int64
	RetentionAge   time.Duration
	// RetentionFailed is how old requests may get that failed, or took longer than
	// RetentionSlow if that is above 0, beyond RetentionAge.
	RetentionFailed  time.Duration
	RetentionSlow    time.Duration
	MetricsRetention time.Duration
	// DetailBytes bounds the details of single requests that sidecars sent.
	DetailBytes int64
	// SealAfter and SealBytes are when records go from the log to a segment that
	// other programs can read: whichever comes first.
	SealAfter time.Duration
	SealBytes int64
	// MemoryLimit is what the process should stay below, 0 for no limit. Setting the
	// runtime's own is main's (package memory); the hub takes in less when it comes
	// near.
	MemoryLimit int64
	// Bucket is where segments go, if BucketConfig is set.
	Bucket BucketConfig
}

// RateLimitConfig is Envoy's rate limit service. Dir holds the files of
// envoyproxy/ratelimit; MaxKeys and Overflow are those of ratelimit.Options.
type RateLimitConfig struct {
	Dir      string
	Headers  bool
	MaxKeys  int
	Overflow string
}

// BucketConfig says how the hub uses a bucket, which it may share with others.
type BucketConfig struct {
	// File has a Thanos YAML block that names the bucket; empty means none.
	File string
	// Hub is what the hub's name in the bucket begins with.
	Hub string
	// Durability of what is acknowledged: disk or bucket.
	Durability string
	// UploadAfter is the age at which small segments are uploaded; Poll how often the
	// bucket is looked at; Lease how long a hub may be silent before another takes
	// over what it had put there.
	UploadAfter, Poll, Lease time.Duration
	// RetentionAge and RetentionBytes bound what is in the bucket, if above 0;
	// CacheBytes what is kept of it on the local disk.
	RetentionAge               time.Duration
	RetentionBytes, CacheBytes int64
}

// What is durable.
const (
	durableDisk   = "disk"
	durableBucket = "bucket"
)

func (c *Config) setDefaults() {
	if c.HTTPAddress == "" {
		c.HTTPAddress = "127.0.0.1:15080"
	}
	if c.GRPCAddress == "" {
		c.GRPCAddress = "127.0.0.1:15010"
	}
	if c.RetentionBytes == 0 {
		c.RetentionBytes = 4 << 30
	}
	if c.DetailBytes == 0 {
		c.DetailBytes = 128 << 20
	}
	if c.MetricsRetention == 0 {
		c.MetricsRetention = 7 * 24 * time.Hour
	}
	if c.Bucket.Durability == "" {
		c.Bucket.Durability = durableDisk
	}
}

// validate names every field that is wrong.
func (c *Config) validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("--data-dir: a directory is required"))
	}
	for _, f := range []struct{ flag, address string }{{"--http-address", c.HTTPAddress}, {"--grpc-address", c.GRPCAddress}} {
		host, _, err := net.SplitHostPort(f.address)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s %q: want host:port", f.flag, f.address))
		case !loopback(host) && !c.InsecureListen:
			errs = append(errs, fmt.Errorf("%s %q reaches beyond this machine and nothing authenticates callers yet: listen on 127.0.0.1, or say --insecure-listen", f.flag, f.address))
		}
	}
	if c.RetentionBytes < 1<<20 {
		errs = append(errs, fmt.Errorf("--retention-bytes %d: want at least 1048576", c.RetentionBytes))
	}
	if c.DetailBytes < 8<<20 {
		errs = append(errs, fmt.Errorf("--detail-bytes %d: want at least 8388608", c.DetailBytes))
	}
	if c.SealBytes < 0 || c.SealBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("--seal-bytes %d: want at most 1073741824", c.SealBytes))
	}
	if c.MemoryLimit != 0 && c.MemoryLimit < memory.Least {
		errs = append(errs, fmt.Errorf("--memory-limit (or GOMEMLIMIT) %d: want at least %d, or 0 for none", c.MemoryLimit, memory.Least))
	}
	for _, f := range []struct {
		flag  string
		value time.Duration
	}{
		{"--seal-after", c.SealAfter}, {"--retention-age", c.RetentionAge},
		{"--retention-failed", c.RetentionFailed}, {"--retention-slow", c.RetentionSlow},
		{"--upload-after", c.Bucket.UploadAfter}, {"--bucket-poll", c.Bucket.Poll}, {"--bucket-lease", c.Bucket.Lease},
		{"--bucket-retention-age", c.Bucket.RetentionAge},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("%s %v: want no negative duration", f.flag, f.value))
		}
	}
	if c.RetentionFailed > 0 && c.RetentionFailed <= c.RetentionAge || c.RetentionFailed > 0 && c.RetentionAge == 0 {
		errs = append(errs, fmt.Errorf("--retention-failed %v: want more than --retention-age, which is %v; say both", c.RetentionFailed, c.RetentionAge))
	}
	errs = append(errs, c.RateLimit.validate()...)
	return errors.Join(append(errs, c.Bucket.validate()...)...)
}

func (c *RateLimitConfig) validate() (errs []error) {
	if c.Dir == "" && (c.Headers || c.MaxKeys != 0 || c.Overflow != "") {
		errs = append(errs, errors.New("--ratelimit-headers, --ratelimit-max-keys, --ratelimit-overflow: name the files with --ratelimit-config DIR"))
	}
	if c.MaxKeys < 0 {
		errs = append(errs, fmt.Errorf("--ratelimit-max-keys %d: want at least 1, or 0 for the default", c.MaxKeys))
	}
	overflows := []string{policy.OverflowSharedBucket, policy.OverflowAllow, policy.OverflowDeny}
	if c.Overflow != "" && !slices.Contains(overflows, c.Overflow) {
		errs = append(errs, fmt.Errorf("--ratelimit-overflow %q: want %s", c.Overflow, strings.Join(overflows, ", ")))
	}
	return errs
}

func (c *BucketConfig) validate() (errs []error) {
	switch c.Durability {
	case durableDisk:
	case durableBucket:
		if c.File == "" {
			errs = append(errs, errors.New("--durability bucket: name the bucket with --bucket-config FILE"))
		}
	default:
		errs = append(errs, fmt.Errorf("--durability %q: want disk or bucket", c.Durability))
	}
	if c.RetentionBytes < 0 || c.CacheBytes < 0 {
		errs = append(errs, errors.New("--bucket-retention-bytes, --bucket-cache-bytes: want no negative size"))
	}
	return errs
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
