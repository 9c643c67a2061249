//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestUpgradeUnderLoad replaces the real sidecar three times under 5,000
// requests a second: nobody notices, and the hub counts every request.
func TestUpgradeUnderLoad(t *testing.T) {
	out, errs, code := run(t, buildEnv, "go", "run", "-C", root(t), "-trimpath", "./internal/benchproxy",
		"-bin", filepath.Dir(binary(t, "mesh-proxy")), "-duration", "6s", "upgrade")
	if code != 0 || !strings.Contains(out, "refused 0, reset 0, failed 0") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	t.Log(out)
}
