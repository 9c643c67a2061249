//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// quickstart is what stands between the markers of the README, and block one
// runnable piece of it.
var (
	quickstart = regexp.MustCompile(`(?s)<!-- quickstart:begin -->(.*)<!-- quickstart:end -->`)
	block      = regexp.MustCompile("(?s)```bash\n(.*?)```")
)

func TestTheREADMEsQuickStartRunsOnAFreshClone(t *testing.T) {
	clone := filepath.Join(t.TempDir(), "telemesh")
	// What is tested is what is committed, as a newcomer gets it.
	if out, errs, code := run(t, nil, "git", "clone", "--quiet", root(t), clone); code != 0 {
		t.Fatalf("git clone: %s%s", out, errs)
	}
	text, err := os.ReadFile(filepath.Join(clone, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	section := quickstart.FindSubmatch(text)
	if section == nil {
		t.Fatal("README.md has no quick start between its markers")
	}
	blocks := block.FindAllSubmatch(section[1], -1)
	if len(blocks) < 2 {
		t.Fatalf("%d blocks in the quick start", len(blocks))
	}
	for i, b := range blocks {
		script := "set -euo pipefail\ncd " + clone + "\n" + string(b[1])
		c := start(t, nil, "bash", "-c", script)
		if code := c.wait(t, 10*time.Minute); code != 0 {
			t.Fatalf("block %d exits with %d:\n%s\n%s%s", i+1, code, b[1], c.out, c.errs)
		}
		t.Logf("block %d:\n%s", i+1, c.out)
		if i > 0 && !strings.Contains(c.out.String(), "productpage") {
			t.Errorf("block %d shows nothing of the mesh:\n%s", i+1, c.out)
		}
	}
	if left := processes(t, clone); len(left) > 0 {
		t.Errorf("processes are left: %q", left)
	}
}

// addresses waits for an address file.
func addresses(t *testing.T, file string) map[string]string {
	t.Helper()
	var a map[string]string
	eventually(t, 20*time.Second, "the program listens", func() error {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &a)
	})
	return a
}
