//go:build e2e && soak

package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/telemesh/telemesh/internal/testca"
)

// TestSoak is the beginning of `make soak`: half a minute of mixed traffic with
// an application that is killed and stalled, and every request accounted for.
func TestSoak(t *testing.T) { soak(t) }

func TestSoakOverMutualTLS(t *testing.T) {
	dir := t.TempDir()
	testca.New(t).Write(dir, 1, "mesh", "spiffe://cluster.local/ns/default/sa/mesh")
	soak(t, "-tls", dir)
}

func soak(t *testing.T, flags ...string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "soak")
	if out, err := exec.Command("go", "build", "-C", root(t), "-o", program, "./internal/soak").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := start(t, nil, program, append(flags, "-bin", filepath.Dir(binary(t, "mesh-proxy")), "-duration", "30s")...)
	code := c.wait(t, 5*time.Minute)
	t.Logf("%s%s", c.out, c.errs)
	if code != 0 {
		t.Errorf("exit %d", code)
	}
}
