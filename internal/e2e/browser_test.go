//go:build e2e

package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"
)

func TestTheUIInABrowser(t *testing.T) {
	d := startDemo(t, "--fault", "error=10%")
	empty := startHub(t)
	cmd := exec.Command("npx", "--no-install", "playwright", "test", "--reporter=line")
	cmd.Dir = filepath.Join(root(t), "topology-ui")
	cmd.Env = append(cmd.Environ(), "TELEMESH_URL="+d.UI, "TELEMESH_EMPTY_URL="+empty, "TELEMESH_REQUEST_ID="+d.RequestID, "CI=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("playwright: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// startHub starts a hub that nobody reports to and returns its URL.
func startHub(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hub.json")
	start(t, nil, binary(t, "mesh-hub"), "--data-dir", t.TempDir(), "--http-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0", "--address-file", file)
	return "http://" + addresses(t, file)["http"]
}
