//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestTwoMillionRecordsAreKeptAndFound runs what `make bench-hub` does, with fewer
// look-ups: each of them, warm, cold and from object storage, finds all records of
// its request, or the command fails. What does not depend on the machine's speed is
// held to its limit.
func TestTwoMillionRecordsAreKeptAndFound(t *testing.T) {
	dir := t.TempDir()
	c := start(t, buildEnv, "go", "run", "-C", root(t), "-trimpath", "./internal/benchhub", "-bin", filepath.Dir(binary(t, "mesh-hub")),
		"-records", "2000000", "-look-ups", "300", "-responses", "20", "-paced", "5s", "-out", dir)
	code := c.wait(t, 5*time.Minute)
	t.Logf("%s%s", c.out, c.errs)
	if code != 0 {
		t.Fatalf("exit %d", code)
	}
	b, err := os.ReadFile(filepath.Join(dir, "hub.json"))
	if err != nil {
		t.Fatal(err)
	}
	var figures map[string]any
	if err := json.Unmarshal(b, &figures); err != nil {
		t.Fatal(err)
	}
	for key, most := range map[string]float64{"bytes_per_record": 40, "wire_bytes_per_record": 57, "find_s3_reads": 1.5} {
		if v, ok := figures[key].(float64); !ok || v <= 0 || v > most {
			t.Errorf("%s = %v, want at most %v", key, figures[key], most)
		}
	}
	if v, _ := figures["records"].(float64); v < 2e6 {
		t.Errorf("%v records", figures["records"])
	}
}
