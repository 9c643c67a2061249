package hub

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// Config is what an operator writes: flags of mesh-hub.
type Config struct {
	// HTTPAddress serves UI, APIs and /metrics; GRPCAddress the sidecars.
	HTTPAddress string
	GRPCAddress string
	// DataDir holds everything that survives a restart.
	DataDir string
	// PolicyDir holds TrafficPolicy files; empty means none.
	PolicyDir string
	// InsecureListen allows addresses beyond loopback although this version
	// authenticates nobody.
	InsecureListen bool
	// RetentionBytes bounds the record store, MetricsRetention the TSDB.
	RetentionBytes   int64
	MetricsRetention time.Duration
}

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
	if c.MetricsRetention == 0 {
		c.MetricsRetention = 7 * 24 * time.Hour
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
	return errors.Join(errs...)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
