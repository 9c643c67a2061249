package hub

import (
	"strings"
	"testing"
)

func TestConfigNamesEveryWrongField(t *testing.T) {
	good := Config{DataDir: "data"}
	good.setDefaults()
	if err := good.validate(); err != nil {
		t.Fatalf("the defaults are refused: %v", err)
	}
	for flag, change := range map[string]func(*Config){
		"--data-dir":           func(c *Config) { c.DataDir = "" },
		"--http-address":       func(c *Config) { c.HTTPAddress = "0.0.0.0:80" },
		"--grpc-address":       func(c *Config) { c.GRPCAddress = "nowhere" },
		"--retention-bytes":    func(c *Config) { c.RetentionBytes = 1 },
		"--retention-age":      func(c *Config) { c.RetentionAge = -1 },
		"--retention-failed":   func(c *Config) { c.RetentionAge, c.RetentionFailed = 2, 1 },
		"--retention-slow":     func(c *Config) { c.RetentionSlow = -1 },
		"--seal-after":         func(c *Config) { c.SealAfter = -1 },
		"--seal-bytes":         func(c *Config) { c.SealBytes = -1 },
		"--ratelimit-config":   func(c *Config) { c.RateLimit.Headers = true },
		"--ratelimit-max-keys": func(c *Config) { c.RateLimit.Dir, c.RateLimit.MaxKeys = "d", -1 },
		"--ratelimit-overflow": func(c *Config) { c.RateLimit.Dir, c.RateLimit.Overflow = "d", "LRU" },
	} {
		c := good
		change(&c)
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("error %v does not name %s", err, flag)
		}
	}
	open := good
	open.HTTPAddress, open.InsecureListen = ":80", true
	if err := open.validate(); err != nil {
		t.Errorf("--insecure-listen is not heeded: %v", err)
	}
}
